// Walks through a tree, or through two to compare them, in the order of the bytes of the names, each directory before
// what is in it. It takes steps, so that whoever walks can do something else between them; no depth of directories
// costs a call stack.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "glob.h"
#include "tree.h"

namespace tree {

struct Entry {
  /** Relative to the root of the snapshot; empty for the root itself. */
  std::string path;
  Id id = 0;
  Inode inode;
};

class Walk {
 public:
  /** Through what is in a directory, or `start` alone when it is none. It exists. */
  Walk(const Tree& tree, const std::string& start, bool recursive);

  /** The next entry; nothing at the end. */
  std::optional<Entry> Next();

  /** Directories that were left out because no path that the kernel takes leads into them. */
  uint64_t too_deep() const { return too_deep_; }

 private:
  struct Frame {
    Tree::Entries entries;
    size_t prefix;
  };

  void Enter(Id directory);

  Tree tree_;
  bool recursive_;
  std::string path_;
  std::vector<Frame> frames_;
  /** The start, when it is no directory. */
  std::optional<Entry> alone_;
  uint64_t too_deep_ = 0;
};

/** A path at which two trees differ. */
struct Change {
  std::string path;
  /** Nothing where there was nothing. */
  std::optional<Inode> before, after;
  /** Of what is in both: another type; else another content, target or device; and other attributes. */
  bool type = false;
  bool content = false;
  bool metadata = false;
};

class Comparison {
 public:
  /**
   * @param related - true when the second builds on the first: then other extents are other contents, unless neither
   * inode has changed since. Else files of one size and one time of change count as equal.
   */
  Comparison(const Tree& before, const Tree& after, bool related);

  /** True while there are more paths to compare; with a change where they differ. */
  bool Step(std::optional<Change>& change);

  uint64_t too_deep() const { return too_deep_; }

 private:
  struct Frame {
    std::optional<Tree::Entries> before, after;
    size_t prefix;
  };

  std::optional<Change> Compare(Id before, Id after);
  bool HasSameContent(Id before, const Inode& a, Id after, const Inode& b) const;
  bool HasSameXattrs(Id before, Id after) const;
  void Enter(Id before, Id after);

  Tree before_;
  Tree after_;
  bool related_;
  bool begun_ = false;
  std::string path_;
  std::vector<Frame> frames_;
  uint64_t too_deep_ = 0;
};

}  // namespace tree
