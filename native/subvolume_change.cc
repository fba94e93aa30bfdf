#include "subvolume_change.h"

#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "descriptor.h"
#include "little_endian.h"
#include "subvolume.h"

namespace subvolume {
namespace {

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
    struct btrfs_ioctl_search_header header{};
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

}  // namespace subvolume
