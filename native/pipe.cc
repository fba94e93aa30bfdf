#include "pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace pipes {

namespace {

/** What is read at once: as much as the kernel lets a large pipe hold. */
constexpr size_t kBufferBytes = 1 << 20;

void CloseEnd(int& end) {
  if (end >= 0) close(end);
  end = -1;
}

void MakeNonBlocking(int end) { fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK); }

}  // namespace

std::optional<Pipe> Open(int size) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  // More than 1 MiB, or than all pipes of a user may have together, is refused: then it stays as it is.
  fcntl(ends[1], F_SETPIPE_SZ, size);
  return Pipe{ends[0], ends[1]};
}

int CountUnread(int end) {
  int bytes = 0;
  return ioctl(end, FIONREAD, &bytes) == 0 ? bytes : -1;
}

Mover::Mover(int from, int to) : from_(from), to_(to), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  // The other ends are in other hands, and are not changed by this.
  MakeNonBlocking(from_);
  MakeNonBlocking(to_);
}

Mover::~Mover() {
  Close();
  CloseEnd(wake_);
}

void Mover::Close() {
  CloseEnd(from_);
  CloseEnd(to_);
}

void Mover::Run() {
  std::vector<uint8_t> buffer(kBufferBytes);
  while (error_ == 0 && !parser_.failure()) {
    const ssize_t got = read(from_, buffer.data(), buffer.size());
    if (got > 0) {
      parser_.Feed(buffer.data(), static_cast<size_t>(got));
      if (!parser_.failure()) Write(buffer.data(), static_cast<size_t>(got));
    } else if (got == 0) {
      parser_.Finish();
      break;
    } else if (errno != EINTR && (errno != EAGAIN || !WaitFor(from_, POLLIN)) && error_ == 0) {
      error_ = errno;
    }
  }
  Close();
}

void Mover::Cancel() {
  const uint64_t one = 1;
  if (write(wake_, &one, sizeof one) < 0) return;
}

/** True when there is something to do; otherwise `error_` says why not. */
bool Mover::WaitFor(int end, short event) {
  struct pollfd both[] = {{end, event, 0}, {wake_, POLLIN, 0}};
  while (poll(both, 2, -1) < 0) {
    if (errno == EINTR) continue;
    error_ = errno;
    return false;
  }
  if (both[1].revents != 0) error_ = ECANCELED;
  return error_ == 0;
}

bool Mover::Write(const uint8_t* data, size_t size) {
  while (size > 0) {
    const ssize_t put = write(to_, data, size);
    if (put > 0) {
      data += put;
      size -= static_cast<size_t>(put);
    } else if (put < 0 && errno != EINTR && (errno != EAGAIN || !WaitFor(to_, POLLOUT))) {
      if (error_ == 0) error_ = errno;
      return false;
    }
  }
  return true;
}

}  // namespace pipes
