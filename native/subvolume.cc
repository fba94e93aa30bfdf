#include "subvolume.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <system_error>

namespace subvolume {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
  void operator()(struct btrfs_util_subvolume_iterator* iterator) const {
    btrfs_util_destroy_subvolume_iterator(iterator);
  }
};
using Text = std::unique_ptr<char, Free>;
using Iterator = std::unique_ptr<struct btrfs_util_subvolume_iterator, Free>;

/** To be called in the line after the call, while errno is still its own. */
Outcome Check(enum btrfs_util_error code, const char* call) {
  const int number = errno;
  if (code == BTRFS_UTIL_OK) return std::nullopt;
  return Failure{code, number, call};
}

/**
 * libbtrfsutil answers paths on other filesystems with whatever ioctl failed first (SEARCH_FAILED, ENOTTY), so the
 * filesystem is asked for its name beforehand.
 */
Outcome CheckBtrfs(const std::string& path) {
  struct statfs filesystem;
  if (statfs(path.c_str(), &filesystem) != 0) return Failure{BTRFS_UTIL_ERROR_STATFS_FAILED, errno, "statfs"};
  if (filesystem.f_type == BTRFS_SUPER_MAGIC) return std::nullopt;
  return Failure{BTRFS_UTIL_ERROR_NOT_BTRFS, EINVAL, "statfs"};
}

bool Passes(const Filter& filter, const Info& info) {
  if (filter.read_only && *filter.read_only != IsReadOnly(info)) return false;
  if (!filter.parent_uuid) return true;
  return std::memcmp(filter.parent_uuid->data(), info.parent_uuid, filter.parent_uuid->size()) == 0;
}

}  // namespace

// The iterator dies with its first error: asking it again segfaults in libbtrfsutil 5.10 to 6.2 (btrfs-progs #1158).
Outcome List(const std::string& path, uint64_t top, const Filter& filter, std::vector<Listed>& listed) {
  if (Outcome failure = CheckBtrfs(path)) return failure;
  struct btrfs_util_subvolume_iterator* opened = nullptr;
  enum btrfs_util_error code = btrfs_util_create_subvolume_iterator(path.c_str(), top, 0, &opened);
  if (Outcome failure = Check(code, "create_subvolume_iterator")) return failure;
  const Iterator iterator(opened);
  while (true) {
    char* found = nullptr;
    Info info;
    code = btrfs_util_subvolume_iterator_next_info(iterator.get(), &found, &info);
    if (code == BTRFS_UTIL_ERROR_STOP_ITERATION) return std::nullopt;
    if (Outcome failure = Check(code, "subvolume_iterator_next_info")) return failure;
    const Text text(found);
    if (Passes(filter, info)) listed.push_back({text.get(), info});
  }
}

Outcome ReadInfo(const std::string& path, uint64_t id, Info& info) {
  if (Outcome failure = CheckBtrfs(path)) return failure;
  const enum btrfs_util_error code = btrfs_util_subvolume_info(path.c_str(), id, &info);
  return Check(code, "subvolume_info");
}

Outcome ReadPath(const std::string& path, uint64_t id, std::string& found) {
  if (Outcome failure = CheckBtrfs(path)) return failure;
  char* text = nullptr;
  const enum btrfs_util_error code = btrfs_util_subvolume_path(path.c_str(), id, &text);
  if (Outcome failure = Check(code, "subvolume_path")) return failure;
  found = Text(text).get();
  return std::nullopt;
}

Outcome IsSubvolume(const std::string& path, bool& answer) {
  const enum btrfs_util_error code = btrfs_util_is_subvolume(path.c_str());
  Outcome failure = Check(code, "is_subvolume");
  answer = code == BTRFS_UTIL_OK;
  if (code == BTRFS_UTIL_ERROR_NOT_BTRFS || code == BTRFS_UTIL_ERROR_NOT_SUBVOLUME) return std::nullopt;
  return failure;
}

Outcome Sync(const std::string& path) {
  if (Outcome failure = CheckBtrfs(path)) return failure;
  const enum btrfs_util_error code = btrfs_util_sync(path.c_str());
  return Check(code, "sync");
}

Outcome Delete(const std::string& path) {
  if (Outcome failure = CheckBtrfs(path)) return failure;
  const enum btrfs_util_error code = btrfs_util_delete_subvolume(path.c_str(), 0);
  return Check(code, "delete_subvolume");
}

// BTRFS_ROOT_SUBVOL_RDONLY of the root item. libbtrfsutil's own get_subvolume_read_only opens the path instead, which
// costs more and fails for what lies outside the mount.
bool IsReadOnly(const Info& info) { return (info.flags & 1) != 0; }

const char* CodeName(enum btrfs_util_error code) {
  static constexpr const char* kNames[] = {
      "OK",
      "STOP_ITERATION",
      "NO_MEMORY",
      "INVALID_ARGUMENT",
      "NOT_BTRFS",
      "NOT_SUBVOLUME",
      "SUBVOLUME_NOT_FOUND",
      "OPEN_FAILED",
      "RMDIR_FAILED",
      "UNLINK_FAILED",
      "STAT_FAILED",
      "STATFS_FAILED",
      "SEARCH_FAILED",
      "INO_LOOKUP_FAILED",
      "SUBVOL_GETFLAGS_FAILED",
      "SUBVOL_SETFLAGS_FAILED",
      "SUBVOL_CREATE_FAILED",
      "SNAP_CREATE_FAILED",
      "SNAP_DESTROY_FAILED",
      "DEFAULT_SUBVOL_FAILED",
      "SYNC_FAILED",
      "START_SYNC_FAILED",
      "WAIT_SYNC_FAILED",
      "GET_SUBVOL_INFO_FAILED",
      "GET_SUBVOL_ROOTREF_FAILED",
      "INO_LOOKUP_USER_FAILED",
      "FS_INFO_FAILED",
  };
  const auto index = static_cast<size_t>(code);
  return index < std::size(kNames) ? kNames[index] : "UNKNOWN";
}

// strerrorname_np would say it, but only glibc 2.32 and later have it.
const char* ErrnoName(int number) {
  switch (number) {
#define NAME(symbol) \
  case symbol:       \
    return #symbol;
    NAME(EPERM) NAME(ENOENT) NAME(EINTR) NAME(EIO) NAME(EBADF) NAME(EAGAIN) NAME(ENOMEM) NAME(EACCES) NAME(EBUSY)
    NAME(EEXIST) NAME(EXDEV) NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR) NAME(EINVAL) NAME(ENFILE) NAME(EMFILE)
    NAME(ENOTTY) NAME(ENOSPC) NAME(EROFS) NAME(ENAMETOOLONG) NAME(ENOSYS) NAME(ENOTEMPTY) NAME(ELOOP)
    NAME(EOVERFLOW) NAME(EUCLEAN) NAME(EOPNOTSUPP) NAME(ESTALE) NAME(EDQUOT)
#undef NAME
    default:
      return "UNKNOWN";
  }
}

std::string Sentence(const Failure& failure, const std::string& path) {
  if (failure.code == BTRFS_UTIL_ERROR_NOT_BTRFS) return path + " does not lie on a btrfs filesystem";
  if (failure.code == BTRFS_UTIL_ERROR_NOT_SUBVOLUME) return path + " is not a subvolume";
  if (failure.code == BTRFS_UTIL_ERROR_SUBVOLUME_NOT_FOUND) return "no such subvolume on the filesystem of " + path;
  if (failure.number == ENOENT) return path + " does not exist";
  const std::string call = failure.call;
  // Deleting is refused with EPERM also to root, when the subvolume is just being sent.
  const bool for_want_of_root = failure.number == EPERM && failure.code != BTRFS_UTIL_ERROR_SNAP_DESTROY_FAILED;
  if (for_want_of_root) return call + " of " + path + " needs root (CAP_SYS_ADMIN)";
  return call + " of " + path + " failed: " + std::generic_category().message(failure.number);
}

}  // namespace subvolume
