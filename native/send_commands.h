// The commands of a btrfs send stream and their attributes, as the kernel's fs/btrfs/send.h numbers them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace send_stream {

inline constexpr size_t kPathMax = 4096;

// Complete commands: 64 KiB in version 1; from version 2 on 16 KiB + 128 KiB, rounded up to the page size of the
// sending machine, which is at most 64 KiB.
inline constexpr uint64_t kMaxCommand1 = 64 << 10;
inline constexpr uint64_t kMaxCommand2 = 192 << 10;

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
  kVerityAlgorithm,
  kVerityBlockSize,
  kVeritySalt,
  kVeritySignature,
  kAttributes,
};

struct Lengths {
  size_t min;
  size_t max;
};

/** The lengths that the value of an attribute can have. */
const Lengths& LengthsOf(size_t attribute);

/** One more than the highest command of version 3. */
inline constexpr size_t kCommands = 27;

enum Command : size_t {
  kSubvol = 1,
  kSnapshot,
  kMkfile,
  kMkdir,
  kMknod,
  kMkfifo,
  kMksock,
  kSymlink,
  kRename,
  kLink,
  kUnlink,
  kRmdir,
  kSetXattr,
  kRemoveXattr,
  kWrite,
  kClone,
  kTruncate,
  kChmod,
  kChown,
  kUtimes,
  kEnd,
  kUpdateExtent,
  kFallocate,
  kFileattrCommand,
  kEncodedWrite,
  kEnableVerity,
};

/** The highest command of a version. */
size_t LastCommand(uint32_t version);

/** Such as "WRITE". */
const char* CommandName(size_t command);

/** The attributes that `btrfs receive` needs, as bits. */
uint64_t RequiredAttributes(size_t command, uint32_t version);

/** The attributes that the kernel may add, as bits. */
uint64_t OptionalAttributes(size_t command);

/** True for commands that also apply to the snapshot's root directory, whose path is empty. */
bool TakesRoot(size_t command);

/** Whether a value names a file. The target of a symbolic link is data: it is stored, and leads nowhere by itself. */
bool IsPath(size_t command, size_t attribute);

/** True for names that the kernel can have sent. `btrfs receive` would follow any name to where it leads. */
bool IsCleanName(const uint8_t* name, size_t size);

/** Relative, of clean names: it leads nowhere but below the snapshot. */
bool IsCleanPath(const uint8_t* path, size_t size);

}  // namespace send_stream
