#include "subvolume_failure.h"

#include <cerrno>
#include <iterator>
#include <system_error>

namespace subvolume {

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

// strerrorname_np returns it, but only glibc 2.32 and later have that.
const char* ErrnoName(int number) {
  switch (number) {
#define NAME(symbol) \
  case symbol:       \
    return #symbol;
    // clang-format off
    NAME(EPERM) NAME(ENOENT) NAME(EINTR) NAME(EIO) NAME(EBADF) NAME(EAGAIN) NAME(ENOMEM) NAME(EACCES) NAME(EBUSY)
    NAME(EEXIST) NAME(EXDEV) NAME(ENODEV) NAME(ENOTDIR) NAME(EISDIR) NAME(EINVAL) NAME(ENFILE) NAME(EMFILE)
    NAME(ENOTTY) NAME(ENOSPC) NAME(EROFS) NAME(ENAMETOOLONG) NAME(ENOSYS) NAME(ENOTEMPTY) NAME(ELOOP)
    NAME(EOVERFLOW) NAME(EUCLEAN) NAME(EOPNOTSUPP) NAME(ESTALE) NAME(EDQUOT)
    // clang-format on
#undef NAME
                    default : return "UNKNOWN";
  }
}

std::string Sentence(const Failure& failure, const std::string& path) {
  if (failure.code == BTRFS_UTIL_ERROR_NOT_BTRFS) return path + " does not lie on a btrfs filesystem";
  if (failure.code == BTRFS_UTIL_ERROR_NOT_SUBVOLUME) return path + " is not a subvolume";
  if (failure.code == BTRFS_UTIL_ERROR_SUBVOLUME_NOT_FOUND) return "no such subvolume on the filesystem of " + path;
  if (failure.number == ENOENT) return path + " does not exist";
  const std::string call = failure.call;
  // The kernel refuses to delete with EPERM, to root too, while the subvolume is being sent.
  const bool for_want_of_root = failure.number == EPERM && failure.code != BTRFS_UTIL_ERROR_SNAP_DESTROY_FAILED;
  if (for_want_of_root) return call + " of " + path + " needs root (CAP_SYS_ADMIN)";
  return call + " of " + path + " failed: " + std::generic_category().message(failure.number);
}

}  // namespace subvolume
