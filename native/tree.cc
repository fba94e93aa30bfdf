#include "tree.h"

#include <sys/stat.h>

#include <vector>

#include "varint.h"

namespace tree {
namespace {

/** What an item says about an inode; its key begins with that and the inode. */
enum Kind : uint8_t { kInode, kTarget, kXattr, kExtent, kEntry };

/** Values of any length are cut into pieces of this size. */
constexpr size_t kPiece = 1024;

/** Highest byte first, so that keys sort like numbers. */
template <typename Number>
void PutSorted(std::string& key, Number number, size_t size) {
  for (size_t byte = size; byte > 0; byte--) key.push_back(static_cast<char>(number >> (8 * (byte - 1)) & 255));
}

std::string KeyOf(Id id, Kind kind, Bytes rest = {}) {
  std::string key;
  key.reserve(5 + rest.size());
  PutSorted(key, id, 4);
  key.push_back(static_cast<char>(kind));
  key.append(rest);
  return key;
}

/** Where an extent ends: so the first that ends behind a position is found by a search forwards. */
std::string ExtentKey(Id id, uint64_t end) {
  size_t size = 0;
  while (size < 8 && end >> (8 * size) != 0) size++;
  std::string key = KeyOf(id, kExtent);
  key.push_back(static_cast<char>(size));
  PutSorted(key, end, size);
  return key;
}

bool BeginsWith(Bytes text, Bytes beginning) { return text.substr(0, beginning.size()) == beginning; }

std::string Encode(const Inode& inode) {
  VarintWriter writer;
  const uint64_t flags =
      (inode.otime ? 1 : 0) | (inode.ctime == inode.mtime ? 2 : 0) | (inode.atime == inode.mtime ? 4 : 0);
  writer.Put(uint64_t{inode.mode} << 3 | flags).Put(inode.uid).Put(inode.gid).Put(inode.links);
  writer.Put(S_ISCHR(inode.mode) || S_ISBLK(inode.mode) ? inode.device : inode.size);
  writer.PutSigned(inode.mtime.seconds).Put(inode.mtime.nanoseconds);
  const auto put = [&](const Time& time) {
    // Differences that do not fit would be computed modulo 2^64 both ways.
    const uint64_t difference = static_cast<uint64_t>(time.seconds) - static_cast<uint64_t>(inode.mtime.seconds);
    writer.PutSigned(static_cast<int64_t>(difference)).Put(time.nanoseconds);
  };
  if ((flags & 2) == 0) put(inode.ctime);
  if ((flags & 4) == 0) put(inode.atime);
  if (inode.otime) put(*inode.otime);
  return writer.bytes();
}

Inode Decode(Bytes value) {
  VarintReader reader(value);
  Inode inode;
  const uint64_t first = reader.Take();
  inode.mode = static_cast<uint32_t>(first >> 3);
  inode.uid = static_cast<uint32_t>(reader.Take());
  inode.gid = static_cast<uint32_t>(reader.Take());
  inode.links = reader.Take();
  const uint64_t number = reader.Take();
  (S_ISCHR(inode.mode) || S_ISBLK(inode.mode) ? inode.device : inode.size) = number;
  inode.mtime.seconds = reader.TakeSigned();
  inode.mtime.nanoseconds = static_cast<uint32_t>(reader.Take());
  const auto take = [&]() {
    const uint64_t seconds = static_cast<uint64_t>(inode.mtime.seconds) + static_cast<uint64_t>(reader.TakeSigned());
    return Time{static_cast<int64_t>(seconds), static_cast<uint32_t>(reader.Take())};
  };
  inode.ctime = (first & 2) != 0 ? inode.mtime : take();
  inode.atime = (first & 4) != 0 ? inode.mtime : take();
  if ((first & 1) != 0) inode.otime = take();
  return inode;
}

std::string Encode(const Extent& extent) {
  VarintWriter writer;
  const uint64_t in_pieces = extent.piece != 0 ? 1 : 0;
  writer.Put(uint64_t{extent.archive} << 3 | in_pieces << 2 | extent.kind).Put(extent.length);
  if (extent.kind == Extent::kNowhere) return writer.bytes();
  writer.Put(extent.position);
  if (in_pieces != 0) writer.Put(extent.piece).Put(extent.gap).Put(extent.skip);
  if (extent.kind == Extent::kEncoded) {
    writer.Put(extent.skip).Put(extent.stored).Put(extent.decoded).Put(extent.compression);
  }
  return writer.bytes();
}

Extent DecodeExtent(uint64_t end, Bytes value) {
  VarintReader reader(value);
  Extent extent;
  const uint64_t first = reader.Take();
  extent.kind = static_cast<Extent::Kind>(first & 3);
  extent.archive = static_cast<uint32_t>(first >> 3);
  extent.length = reader.Take();
  extent.offset = end - extent.length;
  if (extent.kind == Extent::kNowhere) return extent;
  extent.position = reader.Take();
  if ((first & 4) != 0) {
    extent.piece = reader.Take();
    extent.gap = reader.Take();
    extent.skip = reader.Take();
  }
  if (extent.kind == Extent::kEncoded) {
    extent.skip = reader.Take();
    extent.stored = reader.Take();
    extent.decoded = reader.Take();
    extent.compression = static_cast<uint32_t>(reader.Take());
  }
  return extent;
}

}  // namespace

bool Inode::IsDirectory() const { return S_ISDIR(mode); }
bool Inode::IsFile() const { return S_ISREG(mode); }
bool Inode::IsLink() const { return S_ISLNK(mode); }

bool Extent::operator==(const Extent& other) const { return offset == other.offset && Encode(*this) == Encode(other); }

Extent Extent::Slice(uint64_t from, uint64_t to) const {
  Extent part = *this;
  const uint64_t cut = from - offset;
  part.offset = from;
  part.length = to - from;
  if (kind == kEncoded) part.skip += cut;
  if (kind != kPlain) return part;
  if (piece == 0) {
    part.position += cut;
    return part;
  }
  const uint64_t begin = skip + cut;
  part.position += begin / piece * (piece + gap);
  part.skip = begin % piece;
  if (part.skip + part.length > piece) return part;
  part.position += part.skip;
  part.piece = part.gap = part.skip = 0;
  return part;
}

bool Extent::Extend(const Extent& next) {
  const bool fits = kind == kPlain && next.kind == kPlain && next.piece == 0 && archive == next.archive &&
                    end() == next.offset && next.position > position;
  if (!fits) return false;
  if (piece == 0) {
    const uint64_t behind = position + length;
    if (next.position <= behind || next.length > length) return false;
    piece = length;
    gap = next.position - behind;
  } else {
    const uint64_t pieces = (skip + length) / piece;
    const bool follows = (skip + length) % piece == 0 && next.length <= piece;
    if (!follows || next.position != position + pieces * (piece + gap)) return false;
  }
  length += next.length;
  return true;
}

void Extent::ForEachPiece(const std::function<void(uint64_t offset, uint64_t position, uint64_t length)>& take) const {
  if (piece == 0) {
    take(offset, position, length);
    return;
  }
  uint64_t from = skip;
  uint64_t at = position;
  for (uint64_t done = 0; done < length; at += piece + gap) {
    const uint64_t size = std::min(piece - from, length - done);
    take(offset + done, at + from, size);
    done += size;
    from = 0;
  }
}

Tree Tree::Empty() {
  Tree tree;
  Inode root;
  root.mode = S_IFDIR | 0755;
  tree.Create(root);
  return tree;
}

std::optional<Inode> Tree::Read(Id id) const {
  Bytes value;
  if (id == 0 || !items_.Get(KeyOf(id, kInode), value)) return std::nullopt;
  return Decode(value);
}

Id Tree::Lookup(Id directory, Bytes name) const {
  Bytes value;
  return items_.Get(KeyOf(directory, kEntry, name), value) ? static_cast<Id>(VarintReader(value).Take()) : 0;
}

Id Tree::Find(Bytes path) const {
  Id id = kRoot;
  while (!path.empty() && id != 0) {
    const size_t slash = path.find('/');
    id = Lookup(id, path.substr(0, slash));
    path = slash == Bytes::npos ? Bytes() : path.substr(slash + 1);
  }
  return id;
}

bool Tree::IsEmpty(Id directory) const { return Entries(*this, directory).at_end(); }

std::string Tree::Target(Id id) const {
  std::string target;
  ReadLong(KeyOf(id, kTarget), target);
  return target;
}

void Tree::ForEachXattr(Id id, const std::function<void(Bytes name, const std::string& value)>& take) const {
  const std::string all = KeyOf(id, kXattr);
  for (PageTree::Cursor cursor(items_, all); !cursor.at_end() && BeginsWith(cursor.key(), all);) {
    // The name with its length before it; the number of the piece behind it.
    const std::string prefix(cursor.key().substr(0, cursor.key().size() - 2));
    std::string value;
    for (; !cursor.at_end() && BeginsWith(cursor.key(), prefix); cursor.Next()) value.append(cursor.value());
    take(Bytes(prefix).substr(all.size() + 1), value);
  }
}

Tree::Extents::Extents(const Tree& tree, Id id, uint64_t from)
    : all_(KeyOf(id, kExtent)), cursor_(tree.items_, ExtentKey(id, from + 1)) {}

bool Tree::Extents::at_end() const { return cursor_.at_end() || !BeginsWith(cursor_.key(), all_); }

Extent Tree::Extents::Get() const {
  uint64_t end = 0;
  for (const char byte : cursor_.key().substr(all_.size() + 1)) end = end << 8 | static_cast<uint8_t>(byte);
  return DecodeExtent(end, cursor_.value());
}

Tree::Entries::Entries(const Tree& tree, Id directory, Bytes from)
    : directory_(directory), cursor_(tree.items_, KeyOf(directory, kEntry, from)) {}

bool Tree::Entries::at_end() const { return cursor_.at_end() || !BeginsWith(cursor_.key(), KeyOf(directory_, kEntry)); }

Bytes Tree::Entries::name() const { return cursor_.key().substr(5); }

Id Tree::Entries::id() const { return static_cast<Id>(VarintReader(cursor_.value()).Take()); }

Id Tree::Create(const Inode& inode) {
  const Id id = next_++;
  Write(id, inode);
  inodes_++;
  return id;
}

void Tree::Write(Id id, const Inode& inode) { items_.Put(KeyOf(id, kInode), Encode(inode)); }

void Tree::Link(Id directory, Bytes name, Id id) {
  items_.Put(KeyOf(directory, kEntry, name), VarintWriter().Put(id).bytes());
}

void Tree::Unlink(Id directory, Bytes name) { items_.Erase(KeyOf(directory, kEntry, name)); }

void Tree::Drop(Id id) {
  const std::string all = KeyOf(id, kInode).substr(0, 4);
  for (;;) {
    const PageTree::Cursor cursor(items_, all);
    if (cursor.at_end() || !BeginsWith(cursor.key(), all)) break;
    items_.Erase(std::string(cursor.key()));
  }
  inodes_--;
}

void Tree::SetTarget(Id id, Bytes target) { WriteLong(KeyOf(id, kTarget), target); }

void Tree::SetXattr(Id id, Bytes name, Bytes value) {
  RemoveXattr(id, name);
  std::string prefix = KeyOf(id, kXattr);
  prefix.push_back(static_cast<char>(name.size()));
  WriteLong(prefix.append(name), value);
}

bool Tree::RemoveXattr(Id id, Bytes name) {
  std::string prefix = KeyOf(id, kXattr);
  prefix.push_back(static_cast<char>(name.size()));
  return DropLong(prefix.append(name));
}

void Tree::AddExtent(Id id, const Extent& extent) {
  if (extent.length == 0) return;
  Punch(id, extent.offset, extent.end());
  Bytes value;
  const std::string key = ExtentKey(id, extent.offset);
  if (extent.kind == Extent::kPlain && extent.offset > 0 && items_.Get(key, value)) {
    Extent before = DecodeExtent(extent.offset, value);
    if (before.Extend(extent)) {
      items_.Erase(key);
      PutExtent(id, before);
      return;
    }
  }
  PutExtent(id, extent);
}

void Tree::Punch(Id id, uint64_t from, uint64_t to) {
  for (;;) {
    const Extents found(*this, id, from);
    if (found.at_end()) return;
    const Extent extent = found.Get();
    if (extent.offset >= to) return;
    items_.Erase(ExtentKey(id, extent.end()));
    if (extent.offset < from) PutExtent(id, extent.Slice(extent.offset, from));
    if (extent.end() > to) PutExtent(id, extent.Slice(to, extent.end()));
  }
}

void Tree::PutExtent(Id id, const Extent& extent) { items_.Put(ExtentKey(id, extent.end()), Encode(extent)); }

bool Tree::ReadLong(Bytes prefix, std::string& value) const {
  PageTree::Cursor cursor(items_, prefix);
  const bool found = !cursor.at_end() && BeginsWith(cursor.key(), prefix);
  for (; !cursor.at_end() && BeginsWith(cursor.key(), prefix); cursor.Next()) value.append(cursor.value());
  return found;
}

void Tree::WriteLong(Bytes prefix, Bytes value) {
  for (size_t piece = 0; piece == 0 || piece * kPiece < value.size(); piece++) {
    std::string key(prefix);
    PutSorted(key, piece, 2);
    items_.Put(key, value.substr(piece * kPiece, kPiece));
  }
}

bool Tree::DropLong(Bytes prefix) {
  bool found = false;
  for (;; found = true) {
    const PageTree::Cursor cursor(items_, prefix);
    if (cursor.at_end() || !BeginsWith(cursor.key(), prefix)) return found;
    items_.Erase(std::string(cursor.key()));
  }
}

}  // namespace tree
