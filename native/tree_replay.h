// Does with a tree what the commands of a send stream would do with a subvolume. It sees checked commands only, so
// paths are clean. What cannot be done (such as removing what is not there) is recorded as a problem, and the rest goes
// on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "send_stream.h"
#include "tree.h"

namespace tree {

/** The finished tree of an archive, by the name that streams use for it. */
struct NamedTree {
  send_stream::Uuid uuid;
  uint64_t ctransid;
  Tree tree;
};

/** Commands that could not be carried out. */
struct Problems {
  uint64_t count = 0;
  /** The first of them. */
  std::vector<std::string> sentences;
};

class Replayer final : public send_stream::Listener {
 public:
  /**
   * @param archive - the number by which extents name the stream that is read
   * @param ancestors - the trees it may build on and clone from; the last that fits counts
   * @param most_memory - of all trees of this process, in bytes
   */
  Replayer(uint32_t archive, std::vector<NamedTree> ancestors, size_t most_memory)
      : archive_(archive), ancestors_(std::move(ancestors)), most_memory_(most_memory) {}

  void Take(const send_stream::ParsedCommand& command) override;

  const Tree& tree() const { return tree_; }
  const Problems& problems() const { return problems_; }

  /** Why the stream cannot be replayed at all; nothing when it can. */
  const std::optional<std::string>& refusal() const { return refusal_; }

 private:
  struct Spot {
    Id directory;
    Bytes name;
    /** 0 = there is nothing of that name. */
    Id id;
  };

  void Begin(const send_stream::ParsedCommand& command);
  void Apply(const send_stream::ParsedCommand& command);
  void Make(const send_stream::ParsedCommand& command, uint32_t mode);
  void Rename(const send_stream::ParsedCommand& command);
  void Link(const send_stream::ParsedCommand& command);
  void Unlink(const send_stream::ParsedCommand& command);
  void RemoveDirectory(const send_stream::ParsedCommand& command);
  void DropName(const Spot& spot);
  void ChangeInode(const send_stream::ParsedCommand& command);
  void ChangeData(const send_stream::ParsedCommand& command);
  void Write(const send_stream::ParsedCommand& command, Id id, Inode& file);
  void WriteEncoded(const send_stream::ParsedCommand& command, Id id, Inode& file);
  void Clone(const send_stream::ParsedCommand& command, Id id, Inode& file);
  void Truncate(Id id, Inode& file, uint64_t size);
  void Allocate(const send_stream::ParsedCommand& command, Id id, Inode& file);
  bool Grow(const send_stream::ParsedCommand& command, Inode& file, uint64_t offset, uint64_t length);
  const Tree* SourceOf(const send_stream::ParsedCommand& command) const;
  const NamedTree* Ancestor(const send_stream::Uuid& uuid, uint64_t ctransid) const;
  Spot Resolve(Bytes path);
  Id Known(const send_stream::ParsedCommand& command);
  void Complain(const send_stream::ParsedCommand& command, const char* problem);

  uint32_t archive_;
  std::vector<NamedTree> ancestors_;
  size_t most_memory_;
  Tree tree_;
  send_stream::Uuid own_uuid_{};
  Problems problems_;
  std::optional<std::string> refusal_;
  /** The directory that was looked up last, which is usually that of the next command too. */
  std::string last_path_;
  Id last_directory_ = 0;
};

}  // namespace tree
