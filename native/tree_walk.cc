#include "tree_walk.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>

namespace tree {
namespace {

/** The longest path that `btrfs send` can send. */
constexpr size_t kLongestPath = 4096;

/** Replaces what is behind a prefix by a name. */
void SetName(std::string& path, size_t prefix, Bytes name) {
  path.resize(prefix);
  if (prefix > 0) path.push_back('/');
  path.append(name);
}

bool HasSameExtents(const Tree& before, Id a, const Tree& after, Id b) {
  Tree::Extents one(before, a);
  Tree::Extents other(after, b);
  for (; !one.at_end() && !other.at_end(); one.Next(), other.Next()) {
    const Extent extent = one.Get();
    if (extent.kind == Extent::kNowhere || !(extent == other.Get())) return false;
  }
  return one.at_end() && other.at_end();
}

std::map<std::string, std::string> XattrsOf(const Tree& tree, Id id) {
  std::map<std::string, std::string> all;
  tree.ForEachXattr(id, [&](Bytes name, const std::string& value) { all.emplace(name, value); });
  return all;
}

}  // namespace

Walk::Walk(const Tree& tree, const std::string& start, bool recursive)
    : tree_(tree), recursive_(recursive), path_(start) {
  const Id id = tree_.Find(start);
  const std::optional<Inode> inode = tree_.Read(id);
  if (!inode) return;
  if (inode->IsDirectory()) {
    Enter(id);
  } else {
    alone_ = Entry{start, id, *inode};
  }
}

std::optional<Entry> Walk::Next() {
  if (alone_) return std::exchange(alone_, std::nullopt);
  while (!frames_.empty() && frames_.back().entries.at_end()) frames_.pop_back();
  if (frames_.empty()) return std::nullopt;
  Frame& frame = frames_.back();
  SetName(path_, frame.prefix, frame.entries.name());
  const Id id = frame.entries.id();
  frame.entries.Next();
  Entry entry{path_, id, tree_.Read(id).value_or(Inode())};
  if (recursive_ && entry.inode.IsDirectory()) Enter(id);
  return entry;
}

void Walk::Enter(Id directory) {
  if (path_.size() > kLongestPath) {
    too_deep_++;
  } else {
    frames_.push_back({Tree::Entries(tree_, directory), path_.size()});
  }
}

Comparison::Comparison(const Tree& before, const Tree& after, bool related)
    : before_(before), after_(after), related_(related) {}

bool Comparison::Step(std::optional<Change>& change) {
  change.reset();
  if (!begun_) {
    begun_ = true;
    change = Compare(kRoot, kRoot);
    return true;
  }
  const auto ended = [](const std::optional<Tree::Entries>& entries) { return !entries || entries->at_end(); };
  while (!frames_.empty() && ended(frames_.back().before) && ended(frames_.back().after)) frames_.pop_back();
  if (frames_.empty()) return false;
  Frame& frame = frames_.back();
  const bool has_before = !ended(frame.before);
  const bool has_after = !ended(frame.after);
  const int order = !has_before ? 1 : !has_after ? -1 : frame.before->name().compare(frame.after->name());
  SetName(path_, frame.prefix, order <= 0 ? frame.before->name() : frame.after->name());
  const Id before = order <= 0 ? frame.before->id() : 0;
  const Id after = order >= 0 ? frame.after->id() : 0;
  if (order <= 0) frame.before->Next();
  if (order >= 0) frame.after->Next();
  change = Compare(before, after);
  return true;
}

/** Goes on in what are directories. */
std::optional<Change> Comparison::Compare(Id before, Id after) {
  Change change{path_, before_.Read(before), after_.Read(after)};
  const bool was_directory = change.before && change.before->IsDirectory();
  const bool is_directory = change.after && change.after->IsDirectory();
  if (was_directory || is_directory) Enter(was_directory ? before : 0, is_directory ? after : 0);
  if (!change.before && !change.after) return std::nullopt;
  if (!change.before || !change.after) return change;
  const Inode& a = *change.before;
  const Inode& b = *change.after;
  change.type = (a.mode & S_IFMT) != (b.mode & S_IFMT);
  change.content = !change.type && !HasSameContent(before, a, after, b);
  change.metadata =
      a.mode != b.mode || a.uid != b.uid || a.gid != b.gid || !(a.mtime == b.mtime) || !HasSameXattrs(before, after);
  if (!change.type && !change.content && !change.metadata) return std::nullopt;
  return change;
}

bool Comparison::HasSameContent(Id before, const Inode& a, Id after, const Inode& b) const {
  if (a.IsLink()) return before_.Target(before) == after_.Target(after);
  if (!a.IsFile()) return a.device == b.device;
  if (a.size != b.size) return false;
  if (HasSameExtents(before_, before, after_, after)) return true;
  if (!(a.mtime == b.mtime)) return false;
  // Nobody can set the time of the last change of an inode. A file that was defragmented keeps it.
  return !related_ || a.ctime == b.ctime;
}

bool Comparison::HasSameXattrs(Id before, Id after) const {
  return XattrsOf(before_, before) == XattrsOf(after_, after);
}

void Comparison::Enter(Id before, Id after) {
  if (path_.size() > kLongestPath) {
    too_deep_++;
    return;
  }
  Frame frame{std::nullopt, std::nullopt, path_.size()};
  if (before != 0) frame.before.emplace(before_, before);
  if (after != 0) frame.after.emplace(after_, after);
  frames_.push_back(std::move(frame));
}

}  // namespace tree
