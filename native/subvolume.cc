#include "subvolume.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "descriptor.h"

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

/** Call this in the line after the failed call, while errno is still its own. */
Outcome Check(enum btrfs_util_error code, const char* call) {
  const int number = errno;
  if (code == BTRFS_UTIL_OK) return std::nullopt;
  return Failure{code, number, call};
}

/**
 * For paths on other filesystems libbtrfsutil returns the error of the ioctl that failed first (SEARCH_FAILED, ENOTTY),
 * so the filesystem is asked for its name beforehand.
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

Outcome Delete(const std::string& directory, const std::string& name, uint64_t id) {
  if (Outcome failure = CheckBtrfs(directory)) return failure;
  const Descriptor descriptor(directory);
  if (descriptor.number() < 0) return Failure{BTRFS_UTIL_ERROR_OPEN_FAILED, errno, "open"};
  enum btrfs_util_error code = btrfs_util_delete_subvolume_by_id_fd(descriptor.number(), id);
  if (code != BTRFS_UTIL_OK && (errno == ENOTTY || errno == EOPNOTSUPP)) {
    code = btrfs_util_delete_subvolume_fd(descriptor.number(), name.c_str(), 0);
  }
  return Check(code, "delete_subvolume");
}

Outcome SetReadOnly(const std::string& path, bool read_only) {
  if (Outcome failure = CheckBtrfs(path)) return failure;
  const enum btrfs_util_error code = btrfs_util_set_subvolume_read_only(path.c_str(), read_only);
  return Check(code, "set_subvolume_read_only");
}

Outcome SetReceived(const std::string& path, const Uuid& uuid, uint64_t transid) {
  const Descriptor descriptor(path);
  if (descriptor.number() < 0) return Failure{BTRFS_UTIL_ERROR_OPEN_FAILED, errno, "open"};
  struct btrfs_ioctl_received_subvol_args args{};
  std::memcpy(args.uuid, uuid.data(), uuid.size());
  args.stransid = transid;
  if (ioctl(descriptor.number(), BTRFS_IOC_SET_RECEIVED_SUBVOL, &args) == 0) return std::nullopt;
  return Failure{BTRFS_UTIL_ERROR_SUBVOL_SETFLAGS_FAILED, errno, "SET_RECEIVED_SUBVOL"};
}

// A handle as the kernel makes them for an inode without parent (FILEID_BTRFS_WITHOUT_PARENT): inode, subvolume and
// generation, of which 0 is any.
Outcome OpenInode(const std::string& path, uint64_t id, uint64_t inode, int& descriptor) {
  if (Outcome failure = CheckBtrfs(path)) return failure;
  const Descriptor filesystem(path);
  if (filesystem.number() < 0) return Failure{BTRFS_UTIL_ERROR_OPEN_FAILED, errno, "open"};
  const uint64_t numbers[] = {inode, id};
  constexpr unsigned int kBytes = sizeof numbers + sizeof(uint32_t);
  alignas(struct file_handle) uint8_t memory[sizeof(struct file_handle) + kBytes] = {};
  auto* handle = reinterpret_cast<struct file_handle*>(memory);
  handle->handle_bytes = kBytes;
  handle->handle_type = 0x4d;
  std::memcpy(handle->f_handle, numbers, sizeof numbers);
  descriptor = open_by_handle_at(filesystem.number(), handle, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor >= 0) return std::nullopt;
  return Failure{BTRFS_UTIL_ERROR_OPEN_FAILED, errno, "open_by_handle_at"};
}

Outcome ReadAttribute(const std::string& path, const std::string& name, std::optional<std::vector<uint8_t>>& value) {
  std::vector<uint8_t> memory(65536);  // XATTR_SIZE_MAX
  const ssize_t size = getxattr(path.c_str(), name.c_str(), memory.data(), memory.size());
  if (size < 0 && errno != ENODATA && errno != EOPNOTSUPP) {
    return Failure{BTRFS_UTIL_ERROR_STAT_FAILED, errno, "getxattr"};
  }
  if (size < 0) return std::nullopt;
  memory.resize(static_cast<size_t>(size));
  value = std::move(memory);
  return std::nullopt;
}

// BTRFS_ROOT_SUBVOL_RDONLY of the root item. libbtrfsutil's own get_subvolume_read_only opens the path instead, which
// costs more and fails for subvolumes outside the mount.
bool IsReadOnly(const Info& info) { return (info.flags & 1) != 0; }

}  // namespace subvolume
