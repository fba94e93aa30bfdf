#include "tree_replay.h"

#include <linux/falloc.h>
#include <sys/stat.h>

#include <algorithm>

#include "little_endian.h"
#include "send_commands.h"

namespace tree {
namespace {

using send_stream::ParsedCommand;

constexpr uint64_t kLongestFile = INT64_MAX;
constexpr size_t kSentences = 20;
constexpr Id kLastId = UINT32_MAX - 1;

Time ReadTime(const ParsedCommand& command, send_stream::Attribute attribute) {
  const uint8_t* data = command.values[attribute].data;
  const uint32_t nanoseconds = static_cast<uint32_t>(ReadNumber(data + 8, 4));
  return {static_cast<int64_t>(ReadNumber(data, 8)), std::min(nanoseconds, 999999999u)};
}

bool Overflows(uint64_t offset, uint64_t length) { return offset > kLongestFile || length > kLongestFile - offset; }

bool LiesWithin(Bytes path, Bytes directory) {
  return path.size() > directory.size() && path.substr(0, directory.size()) == directory &&
         path[directory.size()] == '/';
}

}  // namespace

void Replayer::Take(const ParsedCommand& command) {
  if (refusal_) return;
  if (command.type == send_stream::kSubvol || command.type == send_stream::kSnapshot) {
    Begin(command);
  } else {
    Apply(command);
  }
  if (PageTree::Memory() > most_memory_) refusal_ = "its tree needs more memory than there may be used";
}

void Replayer::Begin(const ParsedCommand& command) {
  own_uuid_ = command.AsUuid(send_stream::kUuid);
  if (command.type == send_stream::kSubvol) {
    tree_ = Tree::Empty();
    return;
  }
  const NamedTree* parent =
      Ancestor(command.AsUuid(send_stream::kCloneUuid), command.Number(send_stream::kCloneCtransid));
  if (parent == nullptr) {
    refusal_ = "the snapshot that it builds on has not been read";
    return;
  }
  tree_ = parent->tree;
}

void Replayer::Apply(const ParsedCommand& command) {
  switch (command.type) {
    case send_stream::kMkfile:
      return Make(command, S_IFREG | 0600);
    case send_stream::kMkdir:
      return Make(command, S_IFDIR | 0700);
    case send_stream::kMkfifo:
      return Make(command, S_IFIFO | 0600);
    case send_stream::kMksock:
      return Make(command, S_IFSOCK | 0600);
    case send_stream::kSymlink:
      return Make(command, S_IFLNK | 0777);
    case send_stream::kMknod:
      return Make(command, static_cast<uint32_t>(command.Number(send_stream::kMode)));
    case send_stream::kRename:
      return Rename(command);
    case send_stream::kLink:
      return Link(command);
    case send_stream::kUnlink:
      return Unlink(command);
    case send_stream::kRmdir:
      return RemoveDirectory(command);
    case send_stream::kSetXattr:
    case send_stream::kRemoveXattr:
    case send_stream::kChmod:
    case send_stream::kChown:
    case send_stream::kUtimes:
      return ChangeInode(command);
    case send_stream::kWrite:
    case send_stream::kEncodedWrite:
    case send_stream::kUpdateExtent:
    case send_stream::kClone:
    case send_stream::kTruncate:
    case send_stream::kFallocate:
      return ChangeData(command);
    // FILEATTR and ENABLE_VERITY change nothing that is kept here.
    default:
      return;
  }
}

void Replayer::Make(const ParsedCommand& command, uint32_t mode) {
  const Spot spot = Resolve(command.Text(send_stream::kPath));
  if (spot.directory == 0) return Complain(command, "its directory does not exist");
  if (spot.id != 0) return Complain(command, "there is already something of that name");
  Inode inode;
  inode.mode = mode & (S_IFMT | 07777);
  const Bytes target = inode.IsLink() ? command.Text(send_stream::kPathLink) : Bytes();
  if (command.type == send_stream::kMknod) {
    if (!S_ISCHR(mode) && !S_ISBLK(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISREG(mode)) {
      return Complain(command, "it makes no device");
    }
    inode.device = command.Number(send_stream::kRdev);
  }
  inode.size = target.size();
  const Id id = tree_.Create(inode);
  if (id >= kLastId) refusal_ = "it makes too many files";
  if (inode.IsLink()) tree_.SetTarget(id, target);
  tree_.Link(spot.directory, spot.name, id);
}

void Replayer::Rename(const ParsedCommand& command) {
  const Bytes from_path = command.Text(send_stream::kPath);
  const Bytes to_path = command.Text(send_stream::kPathTo);
  const Spot from = Resolve(from_path);
  if (from.id == 0) return Complain(command, "there is nothing of that name");
  const Spot to = Resolve(to_path);
  if (to.directory == 0) return Complain(command, "the new directory does not exist");
  if (from.id == to.id) return;  // as rename(2) does
  const bool is_directory = tree_.Read(from.id)->IsDirectory();
  if (is_directory && LiesWithin(to_path, from_path)) return Complain(command, "a directory would lie in itself");
  if (to.id != 0) {
    const bool fits = tree_.Read(to.id)->IsDirectory() == is_directory && (!is_directory || tree_.IsEmpty(to.id));
    if (!fits) return Complain(command, "the new name is taken");
    DropName(to);
  }
  tree_.Unlink(from.directory, from.name);
  tree_.Link(to.directory, to.name, from.id);
  if (is_directory) last_directory_ = 0;
}

void Replayer::Link(const ParsedCommand& command) {
  const Spot spot = Resolve(command.Text(send_stream::kPath));
  const Id id = tree_.Find(command.Text(send_stream::kPathLink));
  if (spot.directory == 0) return Complain(command, "its directory does not exist");
  if (spot.id != 0) return Complain(command, "there is already something of that name");
  if (id == 0) return Complain(command, "what it links to does not exist");
  Inode inode = *tree_.Read(id);
  if (inode.IsDirectory()) return Complain(command, "a directory cannot have two names");
  inode.links++;
  tree_.Write(id, inode);
  tree_.Link(spot.directory, spot.name, id);
}

void Replayer::Unlink(const ParsedCommand& command) {
  const Spot spot = Resolve(command.Text(send_stream::kPath));
  if (spot.id == 0) return Complain(command, "there is nothing of that name");
  if (tree_.Read(spot.id)->IsDirectory()) return Complain(command, "it is a directory");
  DropName(spot);
}

void Replayer::RemoveDirectory(const ParsedCommand& command) {
  const Spot spot = Resolve(command.Text(send_stream::kPath));
  if (spot.id == 0) return Complain(command, "there is nothing of that name");
  if (!tree_.Read(spot.id)->IsDirectory()) return Complain(command, "it is no directory");
  if (!tree_.IsEmpty(spot.id)) return Complain(command, "it is not empty");
  DropName(spot);
}

/** Of a directory that is empty, or of anything else; with the inode, when it was the last one. */
void Replayer::DropName(const Spot& spot) {
  tree_.Unlink(spot.directory, spot.name);
  Inode inode = *tree_.Read(spot.id);
  if (inode.IsDirectory()) last_directory_ = 0;
  if (--inode.links == 0) return tree_.Drop(spot.id);
  tree_.Write(spot.id, inode);
}

void Replayer::ChangeInode(const ParsedCommand& command) {
  const Id id = Known(command);
  if (id == 0) return;
  if (command.type == send_stream::kSetXattr) {
    return tree_.SetXattr(id, command.Text(send_stream::kXattrName), command.Text(send_stream::kXattrData));
  }
  if (command.type == send_stream::kRemoveXattr) {
    if (!tree_.RemoveXattr(id, command.Text(send_stream::kXattrName))) Complain(command, "it has no such attribute");
    return;
  }
  Inode inode = *tree_.Read(id);
  if (command.type == send_stream::kChmod) {
    inode.mode = (inode.mode & S_IFMT) | (static_cast<uint32_t>(command.Number(send_stream::kMode)) & 07777);
  } else if (command.type == send_stream::kChown) {
    inode.uid = static_cast<uint32_t>(command.Number(send_stream::kUid));
    inode.gid = static_cast<uint32_t>(command.Number(send_stream::kGid));
  } else {
    inode.atime = ReadTime(command, send_stream::kAtime);
    inode.mtime = ReadTime(command, send_stream::kMtime);
    inode.ctime = ReadTime(command, send_stream::kCtime);
    if (command.Has(send_stream::kOtime)) inode.otime = ReadTime(command, send_stream::kOtime);
  }
  tree_.Write(id, inode);
}

void Replayer::ChangeData(const ParsedCommand& command) {
  const Id id = Known(command);
  if (id == 0) return;
  Inode file = *tree_.Read(id);
  if (!file.IsFile()) return Complain(command, "it is no file");
  const uint64_t before = file.size;
  switch (command.type) {
    case send_stream::kEncodedWrite:
      WriteEncoded(command, id, file);
      break;
    case send_stream::kClone:
      Clone(command, id, file);
      break;
    case send_stream::kFallocate:
      Allocate(command, id, file);
      break;
    case send_stream::kTruncate:
      if (command.Number(send_stream::kSize) > kLongestFile) return Complain(command, "no file is that long");
      Truncate(id, file, command.Number(send_stream::kSize));
      break;
    default:
      Write(command, id, file);
  }
  if (file.size != before) tree_.Write(id, file);
}

/** Bytes as they are; or of a `--no-data` stream, only how many. */
void Replayer::Write(const ParsedCommand& command, Id id, Inode& file) {
  Extent extent;
  extent.archive = archive_;
  extent.offset = command.Number(send_stream::kFileOffset);
  if (command.type == send_stream::kWrite) {
    extent.length = command.DataSize();
    extent.position = command.DataPosition();
  } else {
    extent.kind = Extent::kNowhere;
    extent.length = command.Number(send_stream::kSize);
  }
  if (Grow(command, file, extent.offset, extent.length)) tree_.AddExtent(id, extent);
}

void Replayer::WriteEncoded(const ParsedCommand& command, Id id, Inode& file) {
  Extent extent;
  extent.kind = Extent::kEncoded;
  extent.archive = archive_;
  extent.offset = command.Number(send_stream::kFileOffset);
  extent.length = command.Number(send_stream::kUnencodedFileLen);
  extent.position = command.DataPosition();
  extent.stored = command.DataSize();
  extent.decoded = command.Number(send_stream::kUnencodedLen);
  extent.skip = command.Number(send_stream::kUnencodedOffset);
  if (command.Has(send_stream::kCompression)) {
    extent.compression = static_cast<uint32_t>(command.Number(send_stream::kCompression));
  }
  if (command.Has(send_stream::kEncryption) && command.Number(send_stream::kEncryption) != 0) {
    Complain(command, "its data is encrypted in a way that is not known here");
    extent.kind = Extent::kNowhere;
  } else if (extent.skip > extent.decoded || extent.length > extent.decoded - extent.skip) {
    Complain(command, "it uses more than it holds");
    extent.kind = Extent::kNowhere;
  }
  if (Grow(command, file, extent.offset, extent.length)) tree_.AddExtent(id, extent);
}

/** Takes the extents of the source as they are at this moment. */
void Replayer::Clone(const ParsedCommand& command, Id id, Inode& file) {
  const uint64_t offset = command.Number(send_stream::kFileOffset);
  const uint64_t length = command.Number(send_stream::kCloneLen);
  const uint64_t from = command.Number(send_stream::kCloneOffset);
  if (Overflows(from, length)) return Complain(command, "no file is that long");
  const Tree* source = SourceOf(command);
  const Id source_id = source == nullptr ? 0 : source->Find(command.Text(send_stream::kClonePath));
  const std::optional<Inode> source_file = source_id == 0 ? std::nullopt : source->Read(source_id);
  const bool is_there = source_file && source_file->IsFile() && from + length <= source_file->size;
  if (!Grow(command, file, offset, length)) return;
  std::vector<Extent> extents;
  if (is_there) {
    for (Tree::Extents each(*source, source_id, from); !each.at_end(); each.Next()) {
      const Extent extent = each.Get();
      if (extent.offset >= from + length) break;
      extents.push_back(extent.Slice(std::max(from, extent.offset), std::min(from + length, extent.end())));
      extents.back().offset = extents.back().offset - from + offset;
    }
  } else {
    Complain(command, "what it clones does not exist");
    extents.emplace_back();
    extents.back().kind = Extent::kNowhere;
    extents.back().offset = offset;
    extents.back().length = length;
  }
  tree_.Punch(id, offset, offset + length);
  for (const Extent& extent : extents) {
    if (PageTree::Memory() <= most_memory_) tree_.AddExtent(id, extent);
  }
}

void Replayer::Truncate(Id id, Inode& file, uint64_t size) {
  if (size < file.size) tree_.Punch(id, size, UINT64_MAX);
  file.size = size;
}

void Replayer::Allocate(const ParsedCommand& command, Id id, Inode& file) {
  const uint64_t mode = command.Number(send_stream::kFallocateMode);
  const uint64_t offset = command.Number(send_stream::kFileOffset);
  const uint64_t length = command.Number(send_stream::kSize);
  constexpr uint64_t kKnown = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((mode & ~kKnown) != 0) return Complain(command, "its mode is not known here");
  if (Overflows(offset, length)) return Complain(command, "no file is that long");
  if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) tree_.Punch(id, offset, offset + length);
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0) file.size = std::max(file.size, offset + length);
}

/** False, with a complaint, for a range that no file can have. */
bool Replayer::Grow(const ParsedCommand& command, Inode& file, uint64_t offset, uint64_t length) {
  if (Overflows(offset, length)) {
    Complain(command, "no file is that long");
    return false;
  }
  if (length > 0) file.size = std::max(file.size, offset + length);
  return true;
}

/** The tree that is being built counts by its present state, and every other as it was at its end. */
const Tree* Replayer::SourceOf(const ParsedCommand& command) const {
  const send_stream::Uuid uuid = command.AsUuid(send_stream::kCloneUuid);
  if (uuid == own_uuid_) return &tree_;
  const NamedTree* ancestor = Ancestor(uuid, command.Number(send_stream::kCloneCtransid));
  return ancestor == nullptr ? nullptr : &ancestor->tree;
}

/** By both names, else by the UUID alone, as `btrfs receive` does: a restored snapshot has another transaction. */
const NamedTree* Replayer::Ancestor(const send_stream::Uuid& uuid, uint64_t ctransid) const {
  const NamedTree* similar = nullptr;
  for (auto each = ancestors_.rbegin(); each != ancestors_.rend(); ++each) {
    if (each->uuid != uuid) continue;
    if (each->ctransid == ctransid) return &*each;
    if (similar == nullptr) similar = &*each;
  }
  return similar;
}

Replayer::Spot Replayer::Resolve(Bytes path) {
  const size_t slash = path.rfind('/');
  const Bytes directory = slash == Bytes::npos ? Bytes() : path.substr(0, slash);
  if (last_directory_ == 0 || directory != last_path_) {
    last_path_ = directory;
    last_directory_ = tree_.Find(directory);
    if (last_directory_ != 0 && !tree_.Read(last_directory_)->IsDirectory()) last_directory_ = 0;
  }
  const Bytes name = slash == Bytes::npos ? path : path.substr(slash + 1);
  return {last_directory_, name, last_directory_ == 0 ? 0 : tree_.Lookup(last_directory_, name)};
}

/** The inode that a command changes; 0, with a complaint, when there is none. */
Id Replayer::Known(const ParsedCommand& command) {
  const Bytes path = command.Text(send_stream::kPath);
  const Id id = path.empty() ? kRoot : Resolve(path).id;
  if (id == 0) Complain(command, "there is nothing of that name");
  return id;
}

void Replayer::Complain(const ParsedCommand& command, const char* problem) {
  if (problems_.count++ >= kSentences) return;
  problems_.sentences.push_back(std::string(send_stream::CommandName(command.type)) + " of " +
                                std::string(command.Text(send_stream::kPath)) + ", at byte " +
                                std::to_string(command.start) + ": " + problem);
}

}  // namespace tree
