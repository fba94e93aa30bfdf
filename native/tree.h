// The tree of a snapshot without the contents of its files: names lead to inodes, and inodes have attributes and, for
// files, extents, which say where their bytes are in which send stream. Copies of a tree share what they have in
// common, so the trees of all snapshots of a chain can be held at once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "page_tree.h"

namespace tree {

/** Names an inode within a tree and all that are made from it. Never used again; 0 is none. */
using Id = uint32_t;
inline constexpr Id kRoot = 1;

struct Time {
  int64_t seconds = 0;
  /** Below 10^9. */
  uint32_t nanoseconds = 0;

  bool operator==(const Time& other) const { return seconds == other.seconds && nanoseconds == other.nanoseconds; }
};

struct Inode {
  /** With the type, as `struct stat` has it. */
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t links = 1;
  /** Of a file its length, of a symbolic link that of its target; 0 for all others. */
  uint64_t size = 0;
  /** Of a device its number. */
  uint64_t device = 0;
  Time atime, mtime, ctime;
  /** When it was created; nothing where the protocol does not transfer it (1). */
  std::optional<Time> otime;

  bool IsDirectory() const;
  bool IsFile() const;
  bool IsLink() const;
};

/** Where some bytes of a file are. */
struct Extent {
  enum Kind : uint8_t {
    /** In the stream as they are. */
    kPlain,
    /** In the stream, compressed. */
    kEncoded,
    /** Not in any stream that was read: of a `--no-data` stream, or cloned from a snapshot outside of the chain. */
    kNowhere,
  };

  Kind kind = kPlain;
  /** Position in the file. */
  uint64_t offset = 0;
  uint64_t length = 0;
  /** Number of the archive in whose stream they are. */
  uint32_t archive = 0;
  /** Position of the (first) bytes in the stream. */
  uint64_t position = 0;
  /**
   * Of plain ones: they come in pieces of this size, with `gap` bytes of the stream between two pieces, and begin
   * `skip` bytes behind the beginning of a piece, which is at `position`. 0 = in one piece.
   */
  uint64_t piece = 0;
  uint64_t gap = 0;
  /** Of encoded ones: the bytes are those from `skip` on of what is decoded. */
  uint64_t skip = 0;
  /** Of encoded ones: size in the stream, size decoded, and the method as the send stream numbers it. */
  uint64_t stored = 0;
  uint64_t decoded = 0;
  uint32_t compression = 0;

  uint64_t end() const { return offset + length; }
  bool operator==(const Extent& other) const;

  /** The part of it within [from, to), which lies in it. */
  Extent Slice(uint64_t from, uint64_t to) const;

  /** Takes in the one that follows in the file, if it also follows in the stream. */
  bool Extend(const Extent& next);

  /** Calls back with each piece of a plain one: position in the file, in the stream, and length. */
  void ForEachPiece(const std::function<void(uint64_t offset, uint64_t position, uint64_t length)>& take) const;
};

class Tree {
 public:
  /** Of a snapshot with nothing but a root directory. */
  static Tree Empty();

  // ---- reading

  std::optional<Inode> Read(Id id) const;

  /** The inode of that name; 0 = there is none. */
  Id Lookup(Id directory, Bytes name) const;

  /** The inode at a relative path, the empty path being the root; 0 = there is none. */
  Id Find(Bytes path) const;

  bool IsEmpty(Id directory) const;

  /** Of a symbolic link. */
  std::string Target(Id id) const;

  void ForEachXattr(Id id, const std::function<void(Bytes name, const std::string& value)>& take) const;

  /** Names in a directory, in the order of their bytes. */
  class Entries {
   public:
    Entries(const Tree& tree, Id directory, Bytes from = {});
    bool at_end() const;
    Bytes name() const;
    Id id() const;
    void Next() { cursor_.Next(); }

   private:
    Id directory_;
    PageTree::Cursor cursor_;
  };

  /** Extents of a file, from the first on that ends behind `from`, in order. */
  class Extents {
   public:
    Extents(const Tree& tree, Id id, uint64_t from = 0);
    bool at_end() const;
    Extent Get() const;
    void Next() { cursor_.Next(); }

   private:
    std::string all_;
    PageTree::Cursor cursor_;
  };

  // ---- changing

  /** An inode without a name. */
  Id Create(const Inode& inode);
  void Write(Id id, const Inode& inode);
  void Link(Id directory, Bytes name, Id id);
  void Unlink(Id directory, Bytes name);
  /** Forgets an inode and all that belongs to it. It has no name, and as a directory it is empty. */
  void Drop(Id id);
  void SetTarget(Id id, Bytes target);
  void SetXattr(Id id, Bytes name, Bytes value);
  /** False when it has none of that name. */
  bool RemoveXattr(Id id, Bytes name);
  /** Takes the place of what was in its range. */
  void AddExtent(Id id, const Extent& extent);
  /** Leaves a hole. */
  void Punch(Id id, uint64_t from, uint64_t to);

  /** Inodes with a name; the root counts. */
  uint64_t inodes() const { return inodes_; }

 private:
  bool ReadLong(Bytes prefix, std::string& value) const;
  void WriteLong(Bytes prefix, Bytes value);
  bool DropLong(Bytes prefix);
  void PutExtent(Id id, const Extent& extent);

  PageTree items_;
  Id next_ = kRoot;
  uint64_t inodes_ = 0;
};

}  // namespace tree
