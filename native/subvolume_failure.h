// Failures of calls on subvolumes, and their names. Plain C++.
#pragma once

// The compiler shows this line when the header is missing:
#include <btrfsutil.h>  // apt-get install libbtrfsutil-dev (Fedora: btrfs-progs-devel, Alpine: btrfs-progs-dev)

#include <optional>
#include <string>

namespace subvolume {

/** Why a call failed: libbtrfsutil's code, errno as it stood right after the call, and the call. */
struct Failure {
  enum btrfs_util_error code;
  int number;
  const char* call;
};

/** Nothing when all went well. */
using Outcome = std::optional<Failure>;

/** libbtrfsutil's code without its prefix, such as "NOT_SUBVOLUME". */
const char* CodeName(enum btrfs_util_error code);

/** Such as "ENOENT"; "UNKNOWN" for numbers that these calls do not give. */
const char* ErrnoName(int number);

/** The failure, as one sentence. */
std::string Sentence(const Failure& failure, const std::string& path);

}  // namespace subvolume
