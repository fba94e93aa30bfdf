#include "subvolume.h"

#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
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

class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : number_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

/** Little-endian, as everything in a btrfs tree. */
uint64_t ReadNumber(const uint8_t* data, size_t size) {
  uint64_t number = 0;
  for (size_t at = size; at > 0; at--) number = number << 8 | data[at - 1];
  return number;
}

bool IsLater(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

constexpr size_t kSearchBytes = 256 << 10;

/** Room for the results of one search, after its arguments. */
struct Search {
  explicit Search(uint64_t tree) : memory(sizeof(struct btrfs_ioctl_search_args_v2) + kSearchBytes) {
    struct btrfs_ioctl_search_key& key = args()->key;
    key.tree_id = tree;
    key.min_objectid = BTRFS_FIRST_FREE_OBJECTID;
    key.max_objectid = BTRFS_LAST_FREE_OBJECTID;
    key.max_type = UINT32_MAX;
    key.max_offset = UINT64_MAX;
    key.max_transid = UINT64_MAX;
  }

  struct btrfs_ioctl_search_args_v2* args() {
    return reinterpret_cast<struct btrfs_ioctl_search_args_v2*>(memory.data());
  }

  std::vector<uint8_t> memory;
};

/** The change that an item of a subvolume's tree shows, if it is an inode that was changed after it was received. */
std::optional<Change> ToChange(const struct btrfs_ioctl_search_header& header, const uint8_t* item, const Info& info) {
  if (header.type != BTRFS_INODE_ITEM_KEY || header.len < sizeof(struct btrfs_inode_item)) return std::nullopt;
  const uint8_t* ctime = item + offsetof(struct btrfs_inode_item, ctime);
  Change change{header.objectid, ReadNumber(item + offsetof(struct btrfs_inode_item, transid), 8), {}};
  change.time.tv_sec = static_cast<time_t>(ReadNumber(ctime, 8));
  change.time.tv_nsec = static_cast<long>(ReadNumber(ctime + 8, 4));
  return change.transid > info.rtransid && IsLater(change.time, info.rtime) ? std::optional(change) : std::nullopt;
}

/** Continues a search behind an item. False when there can be nothing. */
bool StepBehind(const struct btrfs_ioctl_search_header& header, struct btrfs_ioctl_search_key& key) {
  key.min_objectid = header.objectid;
  key.min_type = header.type;
  key.min_offset = header.offset + 1;
  if (key.min_offset == 0 && ++key.min_type == 256) key.min_type = 0, key.min_objectid++;
  return key.min_objectid <= key.max_objectid;
}

Outcome SearchChange(const std::string& path, const Info& info, std::optional<Change>& change) {
  const Descriptor descriptor(path);
  if (descriptor.number() < 0) return Failure{BTRFS_UTIL_ERROR_OPEN_FAILED, errno, "open"};
  Search search(info.id);
  struct btrfs_ioctl_search_key& key = search.args()->key;
  key.min_transid = info.rtransid + 1;
  while (true) {
    search.args()->buf_size = kSearchBytes;
    key.nr_items = UINT32_MAX;
    if (ioctl(descriptor.number(), BTRFS_IOC_TREE_SEARCH_V2, search.args()) != 0) {
      return Failure{BTRFS_UTIL_ERROR_SEARCH_FAILED, errno, "TREE_SEARCH_V2"};
    }
    if (key.nr_items == 0) return std::nullopt;
    const uint8_t* at = search.memory.data() + sizeof(struct btrfs_ioctl_search_args_v2);
    struct btrfs_ioctl_search_header header {};
    for (uint32_t item = 0; item < key.nr_items; item++) {
      std::memcpy(&header, at, sizeof header);
      at += sizeof header;
      change = ToChange(header, at, info);
      if (change) return std::nullopt;
      at += header.len;
    }
    if (!StepBehind(header, key)) return std::nullopt;
  }
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
  struct btrfs_ioctl_received_subvol_args args {};
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

// Every write to an inode gives its subvolume a new ctransid, so one that is not above rtransid proves that nothing
// changed. The reverse proves nothing: `btrfs receive` seals before the data is written out, and data that is written
// out later, or is deduplicated, counts as a write (seen on Linux 6.18: rtransid 7, ctransid 9, nothing changed).
//
// Those writes leave the ctime of the inodes as it was, and every change by a user sets it. So this looks, among the
// inodes written after the seal, for one whose ctime is later too. The kernel skips the leaves of the tree that are
// older than the seal. Where the subvolume's own ctime, the time of its last write, lies before the seal, the clock was
// set back, and ctimes prove nothing: that counts as a change, of the root directory.
Outcome FindChange(const std::string& path, uint64_t id, std::optional<Change>& change) {
  Info info;
  if (Outcome failure = ReadInfo(path, id, info)) return failure;
  if (info.rtransid == 0 || info.ctransid <= info.rtransid) return std::nullopt;
  if (!IsLater(info.rtime, info.ctime)) return SearchChange(path, info, change);
  change = Change{BTRFS_FIRST_FREE_OBJECTID, info.ctransid, info.ctime};
  return std::nullopt;
}

// BTRFS_ROOT_SUBVOL_RDONLY of the root item. libbtrfsutil's own get_subvolume_read_only opens the path instead, which
// costs more and fails for subvolumes outside the mount.
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
