// Data that did not reach its devices: errors that writing back met, and what btrfs counts for each device. Plain C++.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "subvolume_failure.h"

namespace subvolume {

/** The errors of one device since somebody reset its counters. */
struct DeviceErrors {
  uint64_t id;
  std::string path;
  /** Of writing, reading, flushing, checksums, generations: the kernel's order. */
  std::array<uint64_t, 5> counts;
};

/** The errors of every device of the filesystem that `path` lies on. Needs no privilege. */
Outcome ReadDeviceErrors(const std::string& path, std::vector<DeviceErrors>& devices);

/**
 * Writes everything of the filesystem of an open file to disk. Fails also when something that was written since the
 * file was opened, or since the last call with it, did not get there (Linux 5.8); BTRFS_IOC_SYNC, which
 * btrfs_util_sync calls, does not.
 */
Outcome SyncOpened(int descriptor);

}  // namespace subvolume
