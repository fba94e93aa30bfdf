// A reader of the btrfs send stream that believes nothing: header, order and kind of the commands, the CRC32C of each,
// its attributes, that no path leads out of the snapshot, END as the last word. Plain C++, fed with buffers of any
// size; copies only commands that lie across two of them, and no file data at all.
//
// No reader can notice, without a hash of the entire stream, that complete commands with right checksums were left out,
// swapped or doubled.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "send_commands.h"

namespace send_stream {

using Uuid = std::array<uint8_t, 16>;

/** The first command: the snapshot of this stream, and its send parent. */
struct Identity {
  /** Name of the snapshot, without directories; bytes. */
  std::string path;
  Uuid uuid;
  uint64_t ctransid;
  /** Nothing for a full stream. */
  std::optional<Uuid> clone_uuid;
  uint64_t clone_ctransid;
};

/** Commands of one kind. */
struct Tally {
  uint64_t count;
  /** With their headers. */
  uint64_t bytes;
};

struct Failure {
  std::string sentence;
  /** Position in the stream. */
  uint64_t offset;
};

/** A command whose checksum and attributes are right. Valid during the call that shows it. */
struct ParsedCommand {
  struct Value {
    const uint8_t* data;
    size_t size;
  };

  size_t type = 0;
  /** Version of the protocol. */
  uint32_t version = 0;
  /** Where it begins: in the stream, and in memory as far as it is there. */
  uint64_t start = 0;
  const uint8_t* head = nullptr;
  std::array<Value, kAttributes> values;
  /** The attributes it has, as bits. */
  uint64_t seen = 0;

  bool Has(Attribute attribute) const { return (seen >> attribute & 1) != 0; }
  uint64_t Number(Attribute attribute) const;
  Uuid AsUuid(Attribute attribute) const;
  /** Bytes of a value that is no file data, which need not be in memory. */
  std::string_view Text(Attribute attribute) const;
  /** Where file data begins in the stream. */
  uint64_t DataPosition() const { return start + static_cast<uint64_t>(values[kData].data - head); }
  size_t DataSize() const { return values[kData].size; }
};

/** Is shown each command behind the one before it has been found right. */
class Listener {
 public:
  virtual ~Listener() = default;
  virtual void Take(const ParsedCommand& command) = 0;
};

/** `btrfs receive` takes these two everywhere; the third only from experimental kernels. */
inline constexpr uint32_t kUsualVersion = 2;
inline constexpr uint32_t kNewestVersion = 3;

class Parser {
 public:
  /** @param listener - null: nobody */
  explicit Parser(uint32_t newest_version = kUsualVersion, Listener* listener = nullptr)
      : newest_version_(newest_version), listener_(listener) {}

  /** Takes the next bytes. After a failure it stays failed and reads no further. */
  void Feed(const uint8_t* data, size_t size);

  /** There are no more bytes: wrong unless END was the last command. */
  void Finish();

  const std::optional<Failure>& failure() const { return failure_; }

  /** Version of the protocol; 0 as long as the header is not read. */
  uint32_t version() const { return version_; }

  /** Nothing as long as the first command is not read and checked. */
  const std::optional<Identity>& identity() const { return identity_; }

  /** Read so far. */
  uint64_t bytes() const { return bytes_; }

  /**
   * Size of the stream this one stands for: its own, with every UPDATE_EXTENT (`btrfs send --no-data`) counted as the
   * WRITE commands that the kernel makes of it. Exact, but only an upper bound with --compressed-data.
   */
  uint64_t estimated_bytes() const { return estimated_bytes_; }

  const std::array<Tally, kCommands>& tallies() const { return tallies_; }

 private:
  size_t FeedHead(const uint8_t* data, size_t size);
  size_t Gather(const uint8_t* data, size_t size);
  size_t FeedRest(const uint8_t* data, size_t size);
  void ReadStreamHeader();
  void StartGathered();
  bool CheckCommandHeader(const uint8_t* head);
  void Accept(const uint8_t* head, size_t head_size, uint32_t crc);
  bool ReadAttributes(size_t head_size, ParsedCommand& command);
  bool CheckPath(size_t command, const ParsedCommand::Value& path);
  bool ReadIdentity(const ParsedCommand& command);
  void Count(const ParsedCommand& command);
  bool Refuse(const std::string& sentence);
  bool RefuseIn(size_t command, const std::string& problem);
  bool RefuseIn(size_t command, const std::string& problem, size_t attribute);

  uint32_t newest_version_;
  Listener* listener_;
  uint32_t version_ = 0;
  uint64_t bytes_ = 0;
  uint64_t estimated_bytes_ = 0;
  std::optional<Identity> identity_;
  std::array<Tally, kCommands> tallies_{};
  bool ended_ = false;
  std::optional<Failure> failure_;

  /** Where the command at hand starts. */
  uint64_t start_ = 0;
  /** The command at hand as far as it had to be gathered; empty between commands and for those in one buffer. */
  std::vector<uint8_t> head_;
  /** Bytes of file data still to come of the gathered command, and the checksum up to them. */
  size_t left_ = 0;
  uint32_t crc_ = 0;
};

}  // namespace send_stream
