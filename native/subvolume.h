// Subvolumes of a mounted btrfs, through libbtrfsutil (1.2 and later; only names that all of them have).
// Plain C++: no <napi.h>, no thread of its own. It opens nothing by the paths that it finds, so it reports
// subvolumes that no mount reaches like any other.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "subvolume_failure.h"

namespace subvolume {

/** The id of the top level of every btrfs: listing below it lists all there is. */
inline constexpr uint64_t kTopLevel = 5;

// libbtrfsutil has a function of the same name, hence `struct`.
using Info = struct btrfs_util_subvolume_info;

struct Listed {
  /** Relative to the subvolume that was listed; bytes, as the filesystem has them. */
  std::string path;
  Info info;
};

using Uuid = std::array<uint8_t, 16>;

struct Filter {
  std::optional<Uuid> parent_uuid;
  std::optional<bool> read_only;
};

/** Every subvolume below `top` on the filesystem that `path` lies on. `top` itself is not among them. */
Outcome List(const std::string& path, uint64_t top, const Filter& filter, std::vector<Listed>& listed);

/** Reads the subvolume with this id, or for id 0 the one whose root `path` is. */
Outcome ReadInfo(const std::string& path, uint64_t id, Info& info);

/** Relative to the top level, in bytes, of the subvolume with this id, or for id 0 of the one whose root `path` is. */
Outcome ReadPath(const std::string& path, uint64_t id, std::string& found);

Outcome IsSubvolume(const std::string& path, bool& answer);

/** Writes everything of the filesystem that `path` lies on to disk. */
Outcome Sync(const std::string& path);

/**
 * Deletes the subvolume with this id, under any path. Linux before 5.7 cannot do that: there it deletes the one of this
 * name in `directory`. Fails when other subvolumes lie in it.
 */
Outcome Delete(const std::string& directory, const std::string& name, uint64_t id);

/** For the subvolume whose root `path` is. Keeps its received UUID, which `btrfs property set` does not. */
Outcome SetReadOnly(const std::string& path, bool read_only);

/** Marks the subvolume whose root `path` is as received: from one of this UUID, at that transaction. */
Outcome SetReceived(const std::string& path, const Uuid& uuid, uint64_t transid);

/**
 * A descriptor of an inode of the subvolume with this id, on the filesystem that `path` lies on, whether a mount leads
 * to it or not. Needs CAP_DAC_READ_SEARCH.
 */
Outcome OpenInode(const std::string& path, uint64_t id, uint64_t inode, int& descriptor);

/** An extended attribute; nothing where there is none, or the filesystem knows none of that name. */
Outcome ReadAttribute(const std::string& path, const std::string& name, std::optional<std::vector<uint8_t>>& value);

bool IsReadOnly(const Info& info);

}  // namespace subvolume
