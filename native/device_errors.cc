#include "device_errors.h"

#include <linux/btrfs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "descriptor.h"

namespace subvolume {

Outcome ReadDeviceErrors(const std::string& path, std::vector<DeviceErrors>& devices) {
  const Descriptor filesystem(path);
  if (filesystem.number() < 0) return Failure{BTRFS_UTIL_ERROR_OPEN_FAILED, errno, "open"};
  struct btrfs_ioctl_fs_info_args about{};
  if (ioctl(filesystem.number(), BTRFS_IOC_FS_INFO, &about) != 0)
    return Failure{BTRFS_UTIL_ERROR_FS_INFO_FAILED, errno, "FS_INFO"};
  // Id 0 is the target of a replacement in progress.
  for (uint64_t id = 0; id <= about.max_id; id++) {
    // Asked first, because the kernel logs a warning when it is asked for the errors of a device that does not exist.
    struct btrfs_ioctl_dev_info_args device{};
    device.devid = id;
    if (ioctl(filesystem.number(), BTRFS_IOC_DEV_INFO, &device) != 0) {
      if (errno == ENODEV) continue;
      return Failure{BTRFS_UTIL_ERROR_FS_INFO_FAILED, errno, "DEV_INFO"};
    }
    struct btrfs_ioctl_get_dev_stats stats{};
    stats.devid = id;
    stats.nr_items = BTRFS_DEV_STAT_VALUES_MAX;
    if (ioctl(filesystem.number(), BTRFS_IOC_GET_DEV_STATS, &stats) != 0) {
      if (errno == ENODEV) continue;
      return Failure{BTRFS_UTIL_ERROR_FS_INFO_FAILED, errno, "GET_DEV_STATS"};
    }
    auto* name = reinterpret_cast<const char*>(device.path);
    DeviceErrors errors{id, std::string(name, strnlen(name, sizeof device.path)), {}};
    std::copy_n(std::begin(stats.values), errors.counts.size(), errors.counts.begin());
    devices.push_back(std::move(errors));
  }
  return std::nullopt;
}

Outcome SyncOpened(int descriptor) {
  if (syncfs(descriptor) == 0) return std::nullopt;
  return Failure{BTRFS_UTIL_ERROR_SYNC_FAILED, errno, "syncfs"};
}

}  // namespace subvolume
