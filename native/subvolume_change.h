// Changes in a received subvolume after it was sealed. Plain C++.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>

#include "subvolume_failure.h"

namespace subvolume {

/** A file or directory of a received subvolume that was changed later. */
struct Change {
  uint64_t inode;
  uint64_t transid;
  struct timespec time;
};

/**
 * Finds a change in a received subvolume after it was sealed; nothing when it is unchanged, or was not received. See
 * subvolume_change.cc for what counts as a change. Ask when everything is on disk.
 */
Outcome FindChange(const std::string& path, uint64_t id, std::optional<Change>& change);

}  // namespace subvolume
