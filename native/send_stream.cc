#include "send_stream.h"

#include <algorithm>
#include <cstring>

#include "crc32c.h"

namespace send_stream {
namespace {

// The numbers are those of the kernel's fs/btrfs/send.h.

constexpr char kMagic[13] = "btrfs-stream";  // with its NUL
constexpr size_t kStreamHeader = sizeof kMagic + 4;
constexpr size_t kCommandHeader = 4 + 2 + 4;
constexpr size_t kPathMax = 4096;

/** The longest name in a directory. */
constexpr size_t kNameMax = 255;

// Complete commands: 64 KiB in version 1; from version 2 on 16 KiB + 128 KiB, rounded up to the page size of the
// sending machine, which is at most 64 KiB.
constexpr uint64_t kMaxCommand1 = 64 << 10;
constexpr uint64_t kMaxCommand2 = 192 << 10;

// Payload of one WRITE as the kernel cuts extents.
constexpr uint64_t kMaxWrite1 = 48 << 10;
constexpr uint64_t kMaxWrite2 = 128 << 10;

// Enough for everything that can stand before the file data of WRITE and ENCODED_WRITE: a path and some numbers.
constexpr size_t kDataHead = kPathMax + 256;

enum Attribute : uint32_t {
  kUuid = 1,
  kCtransid,
  kIno,
  kSize,
  kMode,
  kUid,
  kGid,
  kRdev,
  kCtime,
  kMtime,
  kAtime,
  kOtime,
  kXattrName,
  kXattrData,
  kPath,
  kPathTo,
  kPathLink,
  kFileOffset,
  kData,
  kCloneUuid,
  kCloneCtransid,
  kClonePath,
  kCloneOffset,
  kCloneLen,
  kFallocateMode,
  kFileattr,
  kUnencodedFileLen,
  kUnencodedLen,
  kUnencodedOffset,
  kCompression,
  kEncryption,
  kAttributes,
};

struct Lengths {
  size_t min;
  size_t max;
};

constexpr Lengths kNumber{8, 8};
constexpr Lengths kShortNumber{4, 4};
constexpr Lengths kTime{12, 12};
constexpr Lengths kUuidLengths{16, 16};
constexpr Lengths kPathLengths{0, kPathMax};  // the root directory is the empty path
constexpr Lengths kAny{0, kMaxCommand2};

constexpr Lengths kLengths[kAttributes] = {
    {1, 0},        // 0 is no attribute
    kUuidLengths,  // UUID
    kNumber,       // CTRANSID
    kNumber,       // INO
    kNumber,       // SIZE
    kNumber,       // MODE
    kNumber,       // UID
    kNumber,       // GID
    kNumber,       // RDEV
    kTime,         // CTIME
    kTime,         // MTIME
    kTime,         // ATIME
    kTime,         // OTIME
    {1, 255},      // XATTR_NAME
    kAny,          // XATTR_DATA
    kPathLengths,  // PATH
    kPathLengths,  // PATH_TO
    kPathLengths,  // PATH_LINK
    kNumber,       // FILE_OFFSET
    kAny,          // DATA
    kUuidLengths,  // CLONE_UUID
    kNumber,       // CLONE_CTRANSID
    kPathLengths,  // CLONE_PATH
    kNumber,       // CLONE_OFFSET
    kNumber,       // CLONE_LEN
    kShortNumber,  // FALLOCATE_MODE
    kNumber,       // FILEATTR
    kNumber,       // UNENCODED_FILE_LEN
    kNumber,       // UNENCODED_LEN
    kNumber,       // UNENCODED_OFFSET
    kShortNumber,  // COMPRESSION
    kShortNumber,  // ENCRYPTION
};

template <typename... Some>
constexpr uint32_t Set(Some... attributes) {
  return (0u | ... | (1u << attributes));
}

enum Command : size_t {
  kSubvol = 1,
  kSnapshot = 2,
  kSymlink = 8,
  kSetXattr = 13,
  kRemoveXattr = 14,
  kWrite = 15,
  kChmod = 18,
  kChown = 19,
  kUtimes = 20,
  kEnd = 21,
  kUpdateExtent = 22,
  kLastOfVersion1 = 22,
  kFileattrCommand = 24,
  kEncodedWrite = 25,
};

struct Shape {
  const char* name;
  /** Attributes that `btrfs receive` needs. */
  uint32_t required;
  /** Attributes that the kernel may add. */
  uint32_t optional;
};

constexpr Shape kShapes[kCommands] = {
    {"0", 0, 0},
    {"SUBVOL", Set(kPath, kUuid, kCtransid), 0},
    {"SNAPSHOT", Set(kPath, kUuid, kCtransid, kCloneUuid, kCloneCtransid), 0},
    {"MKFILE", Set(kPath), Set(kIno)},
    {"MKDIR", Set(kPath), Set(kIno)},
    {"MKNOD", Set(kPath, kMode, kRdev), Set(kIno)},
    {"MKFIFO", Set(kPath), Set(kIno, kMode, kRdev)},
    {"MKSOCK", Set(kPath), Set(kIno, kMode, kRdev)},
    {"SYMLINK", Set(kPath, kPathLink), Set(kIno)},
    {"RENAME", Set(kPath, kPathTo), 0},
    {"LINK", Set(kPath, kPathLink), 0},
    {"UNLINK", Set(kPath), 0},
    {"RMDIR", Set(kPath), 0},
    {"SET_XATTR", Set(kPath, kXattrName, kXattrData), 0},
    {"REMOVE_XATTR", Set(kPath, kXattrName), 0},
    {"WRITE", Set(kPath, kFileOffset, kData), 0},
    {"CLONE", Set(kPath, kFileOffset, kCloneLen, kCloneUuid, kCloneCtransid, kClonePath, kCloneOffset), 0},
    {"TRUNCATE", Set(kPath, kSize), 0},
    {"CHMOD", Set(kPath, kMode), 0},
    {"CHOWN", Set(kPath, kUid, kGid), 0},
    {"UTIMES", Set(kPath, kAtime, kMtime, kCtime), 0},
    {"END", 0, 0},
    {"UPDATE_EXTENT", Set(kPath, kFileOffset, kSize), 0},
    {"FALLOCATE", Set(kPath, kFallocateMode, kFileOffset, kSize), 0},
    {"FILEATTR", Set(kPath, kFileattr), 0},
    {"ENCODED_WRITE", Set(kPath, kFileOffset, kUnencodedFileLen, kUnencodedLen, kUnencodedOffset, kData),
     Set(kCompression, kEncryption)},
};

/**
 * The version stands in the one field that no checksum covers, and a WRITE of one version passes for a WRITE of the
 * other with two bytes shifted. The creation time distinguishes them: version 2 has it in every UTIMES, version 1
 * never. A UTIMES of the file follows every write to it.
 */
uint32_t Required(size_t command, uint32_t version) {
  const uint32_t required = kShapes[command].required;
  return command == kUtimes && version >= 2 ? required | Set(kOtime) : required;
}

uint64_t ReadNumber(const uint8_t* data, size_t size) {
  uint64_t number = 0;
  for (size_t at = size; at > 0; at--) number = number << 8 | data[at - 1];
  return number;
}

// Sizes from a stream are added and compared in 64 bits: 32 bits may not hold them.
uint64_t Length(const uint8_t* head) { return ReadNumber(head, 4); }
size_t Type(const uint8_t* head) { return static_cast<size_t>(ReadNumber(head + 4, 2)); }
uint32_t Checksum(const uint8_t* head) { return static_cast<uint32_t>(ReadNumber(head + 6, 4)); }
uint64_t DeclaredSize(const uint8_t* head) { return kCommandHeader + Length(head); }

/** Size of a command with its header, which was checked. */
size_t CommandSize(const uint8_t* head) { return static_cast<size_t>(DeclaredSize(head)); }

uint64_t AddWithoutOverflow(uint64_t a, uint64_t b) { return b > UINT64_MAX - a ? UINT64_MAX : a + b; }

/** True for names that the kernel can have sent. `btrfs receive` would follow any name to where it leads. */
bool IsCleanName(const uint8_t* name, size_t size) {
  const bool leads_on = size == 0 || (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')));
  return !leads_on && size <= kNameMax && std::memchr(name, 0, size) == nullptr;
}

/** Relative, of clean names: it leads nowhere but below the snapshot. */
bool IsCleanPath(const uint8_t* path, size_t size) {
  for (size_t at = 0;;) {
    const void* slash = size > at ? std::memchr(path + at, '/', size - at) : nullptr;
    const size_t end = slash == nullptr ? size : static_cast<size_t>(static_cast<const uint8_t*>(slash) - path);
    if (!IsCleanName(path + at, end - at)) return false;
    if (slash == nullptr) return true;
    at = end + 1;
  }
}

/** True for commands that also apply to the snapshot's root directory, whose path is empty. */
bool TakesRoot(size_t command) {
  switch (command) {
    case kSetXattr:
    case kRemoveXattr:
    case kChmod:
    case kChown:
    case kUtimes:
    case kFileattrCommand:
      return true;
    default:
      return false;
  }
}

/** Whether a value names a file. The target of a symbolic link is data: it is stored, and leads nowhere by itself. */
bool IsPath(size_t command, size_t attribute) {
  if (attribute == kPathLink) return command != kSymlink;
  return attribute == kPath || attribute == kPathTo || attribute == kClonePath;
}

/** How much of a command is wanted in one piece: all of it, but with file data only the part before that. */
size_t HeadSize(const uint8_t* head) {
  const size_t command_size = CommandSize(head);
  const bool has_data = Type(head) == kWrite || Type(head) == kEncodedWrite;
  return has_data ? std::min(command_size, kDataHead) : command_size;
}

/** The kernel computes it with zeros in the place of the checksum. */
uint32_t Crc(const uint8_t* head, size_t size) {
  uint8_t header[kCommandHeader] = {};
  std::memcpy(header, head, 6);
  const uint32_t crc = crc32c::Extend(0, header, sizeof header);
  return crc32c::Extend(crc, head + kCommandHeader, size - kCommandHeader);
}

}  // namespace

struct Parser::Value {
  const uint8_t* data;
  size_t size;
};

struct Parser::Attributes {
  Value values[kAttributes];
  uint32_t seen = 0;

  uint64_t Number(Attribute attribute) const { return ReadNumber(values[attribute].data, values[attribute].size); }

  Uuid AsUuid(Attribute attribute) const {
    Uuid uuid;
    std::memcpy(uuid.data(), values[attribute].data, uuid.size());
    return uuid;
  }

  std::string Text(Attribute attribute) const {
    return {reinterpret_cast<const char*>(values[attribute].data), values[attribute].size};
  }
};

const char* CommandName(size_t command) { return command < kCommands ? kShapes[command].name : "unknown"; }

void Parser::Feed(const uint8_t* data, size_t size) {
  while (size > 0 && !failure_) {
    const size_t used = left_ > 0 ? FeedRest(data, size) : FeedHead(data, size);
    bytes_ += used;
    data += used;
    size -= used;
  }
}

void Parser::Finish() {
  if (failure_) return;
  if (bytes_ == 0) {
    Refuse("there is nothing");
  } else if (version_ == 0) {
    start_ = bytes_;
    Refuse("the end comes inside the header,");
  } else if (!head_.empty()) {
    Refuse("the end comes inside the command");
  } else if (!ended_) {
    start_ = bytes_;
    Refuse("the end comes without an END command");
  }
}

size_t Parser::FeedHead(const uint8_t* data, size_t size) {
  if (!head_.empty()) return Gather(data, size);
  start_ = bytes_;
  if (ended_) {
    Refuse("there is something after the END command");
    return 0;
  }
  if (version_ == 0 || size < kCommandHeader) return Gather(data, size);
  if (!CheckCommandHeader(data)) return 0;
  const size_t command_size = CommandSize(data);
  if (command_size > size) return Gather(data, size);
  Accept(data, command_size, Crc(data, command_size));
  return command_size;
}

size_t Parser::Gather(const uint8_t* data, size_t size) {
  const size_t wanted = version_ == 0                   ? kStreamHeader
                        : head_.size() < kCommandHeader ? kCommandHeader
                                                        : HeadSize(head_.data());
  const size_t taken = std::min(size, wanted - head_.size());
  head_.insert(head_.end(), data, data + taken);
  if (head_.size() < wanted) return taken;
  if (version_ == 0) {
    ReadStreamHeader();
  } else if (CheckCommandHeader(head_.data()) && head_.size() == HeadSize(head_.data())) {
    StartGathered();
  }
  return taken;
}

size_t Parser::FeedRest(const uint8_t* data, size_t size) {
  const size_t taken = std::min(size, left_);
  crc_ = crc32c::Extend(crc_, data, taken);
  left_ -= taken;
  if (left_ > 0) return taken;
  Accept(head_.data(), head_.size(), crc_);
  head_.clear();
  return taken;
}

void Parser::ReadStreamHeader() {
  if (std::memcmp(head_.data(), kMagic, sizeof kMagic) != 0) {
    Refuse("there is no btrfs send header");
    return;
  }
  version_ = static_cast<uint32_t>(ReadNumber(head_.data() + sizeof kMagic, 4));
  if (version_ != 1 && version_ != 2) {
    Refuse("protocol version " + std::to_string(version_) + " is not known here (only 1 and 2),");
    return;
  }
  estimated_bytes_ = kStreamHeader;
  head_.clear();
}

void Parser::StartGathered() {
  crc_ = Crc(head_.data(), head_.size());
  left_ = CommandSize(head_.data()) - head_.size();
  if (left_ > 0) return;
  Accept(head_.data(), head_.size(), crc_);
  head_.clear();
}

bool Parser::CheckCommandHeader(const uint8_t* head) {
  const size_t command = Type(head);
  const size_t last = version_ == 1 ? static_cast<size_t>(kLastOfVersion1) : kCommands - 1;
  if (command == 0 || command > last) return Refuse("unknown command " + std::to_string(command));
  const bool is_first = command == kSubvol || command == kSnapshot;
  if (!identity_ && !is_first) return RefuseIn(command, "a start without SUBVOL or SNAPSHOT");
  if (identity_ && is_first) return RefuseIn(command, "a second snapshot starts");
  if (DeclaredSize(head) > (version_ == 1 ? kMaxCommand1 : kMaxCommand2)) return RefuseIn(command, "impossible length");
  return true;
}

/** @param head - the command; only its file data may be missing, which is in the checksum already */
void Parser::Accept(const uint8_t* head, size_t head_size, uint32_t crc) {
  const size_t command = Type(head);
  if (crc != Checksum(head)) {
    RefuseIn(command, "wrong checksum");
    return;
  }
  Attributes attributes;
  if (!ReadAttributes(head, head_size, attributes)) return;
  if (!identity_ && !ReadIdentity(command, attributes)) return;
  Count(command, CommandSize(head), attributes);
  ended_ = command == kEnd;
}

bool Parser::ReadAttributes(const uint8_t* head, size_t head_size, Attributes& attributes) {
  const size_t command = Type(head);
  const uint32_t required = Required(command, version_);
  const uint32_t allowed = required | kShapes[command].optional;
  const size_t command_size = CommandSize(head);
  size_t at = kCommandHeader;
  while (at < command_size) {
    // From version 2 on file data has no length of its own: it extends to the end of the command.
    const bool bare = version_ >= 2 && at + 2 <= head_size && ReadNumber(head + at, 2) == kData;
    const size_t value = at + (bare ? 2 : 4);
    if (value > head_size) return RefuseIn(command, "an attribute is cut short");
    const size_t type = static_cast<size_t>(ReadNumber(head + at, 2));
    const size_t size = bare ? command_size - value : static_cast<size_t>(ReadNumber(head + at + 2, 2));
    if (type >= kAttributes || (allowed >> type & 1) == 0) return RefuseIn(command, "unexpected attribute", type);
    if ((attributes.seen >> type & 1) != 0) return RefuseIn(command, "repeated attribute", type);
    // File data comes last; of everything else all bytes are here.
    const bool fits = type == kData ? value + size == command_size : value + size <= head_size;
    const bool sane = size >= kLengths[type].min && size <= kLengths[type].max;
    if (!fits || !sane) return RefuseIn(command, "wrong length of attribute", type);
    if (IsPath(command, type) && !CheckPath(command, {head + value, size})) return false;
    attributes.values[type] = {head + value, size};
    attributes.seen |= 1u << type;
    at = value + size;
  }
  const uint32_t missing = required & ~attributes.seen;
  return missing == 0 || RefuseIn(command, "missing attribute", static_cast<size_t>(__builtin_ctz(missing)));
}

bool Parser::CheckPath(size_t command, const Value& path) {
  if (command == kSubvol || command == kSnapshot) {
    const bool is_name = IsCleanName(path.data, path.size) && std::memchr(path.data, '/', path.size) == nullptr;
    return is_name || RefuseIn(command, "an impossible name");
  }
  if (path.size == 0 && TakesRoot(command)) return true;
  return IsCleanPath(path.data, path.size) || RefuseIn(command, "a path that leads out of the snapshot, or is none,");
}

bool Parser::ReadIdentity(size_t command, const Attributes& attributes) {
  Identity identity{attributes.Text(kPath), attributes.AsUuid(kUuid), attributes.Number(kCtransid), std::nullopt, 0};
  if (command == kSnapshot) {
    identity.clone_uuid = attributes.AsUuid(kCloneUuid);
    identity.clone_ctransid = attributes.Number(kCloneCtransid);
  }
  const bool nameless = identity.uuid == Uuid{} || identity.clone_uuid == std::optional(Uuid{});
  if (nameless) return RefuseIn(command, "a UUID of zeros");
  // Nor could a double hold it exactly, which is what JS has.
  const uint64_t higher = std::max(identity.ctransid, identity.clone_ctransid);
  if (higher >> 53 != 0) return RefuseIn(command, "an impossibly high transaction id");
  identity_ = std::move(identity);
  return true;
}

void Parser::Count(size_t command, size_t size, const Attributes& attributes) {
  tallies_[command].count++;
  tallies_[command].bytes += size;
  if (command != kUpdateExtent) {
    estimated_bytes_ = AddWithoutOverflow(estimated_bytes_, size);
    return;
  }
  // Around the data of one WRITE stand, beside the path: header 10, PATH 4, FILE_OFFSET 12, DATA 4 (from version 2: 2).
  const uint64_t around = (version_ == 1 ? 30 : 28) + attributes.values[kPath].size;
  const uint64_t max = version_ == 1 ? kMaxWrite1 : kMaxWrite2;
  const uint64_t data = attributes.Number(kSize);
  const uint64_t writes = data / max + (data % max != 0 ? 1 : 0);
  // `around` is below 2^13, and `writes` below 2^49.
  estimated_bytes_ = AddWithoutOverflow(estimated_bytes_, AddWithoutOverflow(data, writes * around));
}

/** False, as the callers' own answer. */
bool Parser::Refuse(const std::string& sentence) {
  failure_ = Failure{sentence + " at byte " + std::to_string(start_) + " of the send stream", start_};
  return false;
}

bool Parser::RefuseIn(size_t command, const std::string& problem) {
  return Refuse(problem + " in the " + CommandName(command) + " command");
}

bool Parser::RefuseIn(size_t command, const std::string& problem, size_t attribute) {
  return RefuseIn(command, problem + " " + std::to_string(attribute));
}

}  // namespace send_stream
