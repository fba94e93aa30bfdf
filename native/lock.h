// A lock on a file that the kernel frees when the process is gone, however it went. Node has no flock.
// Plain C++: no <napi.h>.
#pragma once

#include <optional>
#include <string>

namespace lock {

/** Errno as it stood right after the call, and the call. */
struct Failure {
  int number;
  const char* call;
};

/**
 * Opens a file, creates it when it is missing, and locks it. `descriptor` is then open for reading and writing, and
 * -1 when another process holds the lock. Programs that are started do not inherit it; links are not followed.
 */
std::optional<Failure> Take(const std::string& path, int& descriptor);

}  // namespace lock
