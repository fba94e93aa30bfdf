#include "send_commands.h"

#include <cstring>

namespace send_stream {
namespace {

/** The longest name in a directory. */
constexpr size_t kNameMax = 255;

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
    {1, 1},        // VERITY_ALGORITHM
    kShortNumber,  // VERITY_BLOCK_SIZE
    kAny,          // VERITY_SALT_DATA
    kAny,          // VERITY_SIG_DATA
};

template <typename... Some>
constexpr uint64_t Set(Some... attributes) {
  return (uint64_t{0} | ... | (uint64_t{1} << attributes));
}

struct Shape {
  const char* name;
  /** Attributes that `btrfs receive` needs. */
  uint64_t required;
  /** Attributes that the kernel may add. */
  uint64_t optional;
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
    {"ENABLE_VERITY", Set(kPath, kVerityAlgorithm, kVerityBlockSize, kVeritySalt, kVeritySignature), 0},
};

}  // namespace

const Lengths& LengthsOf(size_t attribute) { return kLengths[attribute]; }

size_t LastCommand(uint32_t version) {
  return version == 1 ? kUpdateExtent : version == 2 ? kEncodedWrite : kEnableVerity;
}

const char* CommandName(size_t command) { return command < kCommands ? kShapes[command].name : "unknown"; }

/**
 * The version stands in the one field that no checksum covers, and a WRITE of one version passes for a WRITE of the
 * other with two bytes shifted. The creation time distinguishes them: version 2 has it in every UTIMES, version 1
 * never. A UTIMES of the file follows every write to it.
 */
uint64_t RequiredAttributes(size_t command, uint32_t version) {
  const uint64_t required = kShapes[command].required;
  return command == kUtimes && version >= 2 ? required | Set(kOtime) : required;
}

uint64_t OptionalAttributes(size_t command) { return kShapes[command].optional; }

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

bool IsPath(size_t command, size_t attribute) {
  if (attribute == kPathLink) return command != kSymlink;
  return attribute == kPath || attribute == kPathTo || attribute == kClonePath;
}

bool IsCleanName(const uint8_t* name, size_t size) {
  const bool leads_on = size == 0 || (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')));
  return !leads_on && size <= kNameMax && std::memchr(name, 0, size) == nullptr;
}

bool IsCleanPath(const uint8_t* path, size_t size) {
  for (size_t at = 0;;) {
    const void* slash = size > at ? std::memchr(path + at, '/', size - at) : nullptr;
    const size_t end = slash == nullptr ? size : static_cast<size_t>(static_cast<const uint8_t*>(slash) - path);
    if (!IsCleanName(path + at, end - at)) return false;
    if (slash == nullptr) return true;
    at = end + 1;
  }
}

}  // namespace send_stream
