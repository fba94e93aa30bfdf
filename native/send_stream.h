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

class Parser {
 public:
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
  struct Value;
  struct Attributes;

  size_t FeedHead(const uint8_t* data, size_t size);
  size_t Gather(const uint8_t* data, size_t size);
  size_t FeedRest(const uint8_t* data, size_t size);
  void ReadStreamHeader();
  void StartGathered();
  bool CheckCommandHeader(const uint8_t* head);
  void Accept(const uint8_t* head, size_t head_size, uint32_t crc);
  bool ReadAttributes(const uint8_t* head, size_t head_size, Attributes& attributes);
  bool CheckPath(size_t command, const Value& path);
  bool ReadIdentity(size_t command, const Attributes& attributes);
  void Count(size_t command, size_t size, const Attributes& attributes);
  bool Refuse(const std::string& sentence);
  bool RefuseIn(size_t command, const std::string& problem);
  bool RefuseIn(size_t command, const std::string& problem, size_t attribute);

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
