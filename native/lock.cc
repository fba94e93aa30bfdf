#include "lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

namespace lock {

std::optional<Failure> Take(const std::string& path, int& descriptor) {
  descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (descriptor < 0) return Failure{errno, "open"};
  if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) return std::nullopt;
  const int number = errno;
  close(descriptor);
  descriptor = -1;
  if (number == EWOULDBLOCK) return std::nullopt;
  return Failure{number, "flock"};
}

}  // namespace lock
