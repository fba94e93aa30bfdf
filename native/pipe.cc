#include "pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace pipes {

namespace {

/** The size of a large pipe. */
constexpr size_t kPipeBytes = 1 << 20;

/** The bytes checked at once: they stay in the processor's cache. */
constexpr size_t kCheckedBytes = 1 << 17;

/** How long a pipe is empty before it counts as slow. */
constexpr int kMomentMs = 50;

void CloseEnd(int& end) {
  if (end >= 0) close(end);
  end = -1;
}

void Wake(int event) {
  const uint64_t one = 1;
  if (write(event, &one, sizeof one) < 0) return;
}

/** Whether nobody writes into a pipe any more. */
bool HasHungUp(int end) {
  struct pollfd one = {end, POLLIN, 0};
  return poll(&one, 1, 0) > 0 && (one.revents & POLLHUP) != 0;
}

void MakeNonBlocking(int end) { fcntl(end, F_SETFL, fcntl(end, F_GETFL) | O_NONBLOCK); }

}  // namespace

std::optional<Pipe> Open(int size) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  Enlarge(ends[1], size);
  return Pipe{ends[0], ends[1]};
}

// The kernel refuses more than 1 MiB, or than all pipes of a user may have together: then the size stays as it is.
void Enlarge(int end, int size) {
  const int now = fcntl(end, F_GETPIPE_SZ);
  if (now >= 0 && now < size) fcntl(end, F_SETPIPE_SZ, size);
}

int CountUnread(int end) {
  int bytes = 0;
  return ioctl(end, FIONREAD, &bytes) == 0 ? bytes : -1;
}

PipeSource::PipeSource(int end, bool checked)
    : end_(end), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), checked_(checked) {
  // The other end belongs to another process, and this does not change it.
  MakeNonBlocking(end_);
  // Never begin a read that could not be cancelled.
  if (wake_ < 0) Fail(errno);
}

PipeSource::~PipeSource() {
  CloseEnd(end_);
  CloseEnd(wake_);
}

size_t PipeSource::Read(uint8_t* data, size_t size) {
  for (;;) {
    const ssize_t got = Take(data, size);
    if (got >= 0) return static_cast<size_t>(got);
    if (!WaitFor(end_, POLLIN)) return Close(), 0;
  }
}

size_t PipeSource::Fill(uint8_t* data, size_t size, bool until_full) {
  size_t filled = Read(data, size);
  while (filled > 0 && filled < size && !is_over()) {
    const ssize_t got = Take(data + filled, size - filled);
    if (got > 0)
      filled += static_cast<size_t>(got);
    else if (got < 0 && Poll(end_, POLLIN, until_full ? -1 : kMomentMs) != Wait::kReady)
      break;
  }
  if (failed()) Close();
  return filled;
}

void PipeSource::Cancel() { Wake(wake_); }

bool PipeSource::WaitFor(int end, short event) { return Poll(end, event, -1) == Wait::kReady; }

PipeSource::Wait PipeSource::Poll(int end, short event, int milliseconds) {
  struct pollfd both[] = {{end, event, 0}, {wake_, POLLIN, 0}};
  int ready = 0;
  while ((ready = poll(both, 2, milliseconds)) < 0) {
    if (errno == EINTR) continue;
    error_ = errno;
    return Wait::kFailed;
  }
  if (both[1].revents != 0) error_ = ECANCELED;
  if (error_ != 0) return Wait::kFailed;
  return ready > 0 ? Wait::kReady : Wait::kNothing;
}

/** Reads the available bytes: returns their number, 0 when the pipe is over, -1 when there are none yet. */
ssize_t PipeSource::Take(uint8_t* data, size_t size) {
  while (end_ >= 0) {
    const ssize_t got = read(end_, data, size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return -1;
    if (got < 0) error_ = errno;
    if (got > 0 && checked_) parser_.Feed(data, static_cast<size_t>(got));
    if (got == 0 && checked_) parser_.Finish();
    if (got > 0 && !failed()) return got;
    Close();
  }
  return 0;
}

void PipeSource::Close() { CloseEnd(end_); }

void PipeSource::Fail(int error) {
  error_ = error;
  Close();
}

StreamTee::~StreamTee() { CloseEnd(to_); }

void StreamTee::Run() {
  std::vector<uint8_t> buffer(kCheckedBytes);
  size_t shared = 0;
  while (shared > 0 || (shared = Share()) > 0) {
    const size_t got = source_.Read(buffer.data(), std::min(shared, buffer.size()));
    if (got == 0) break;
    shared -= got;
  }
  CloseEnd(to_);
}

/**
 * Shares the bytes in this pipe with the other one, and returns their number; 0 when it is over. Both pipes use the
 * same pages: only the bytes that are checked afterwards are copied.
 */
size_t StreamTee::Share() {
  while (!source_.is_over()) {
    const ssize_t shared = tee(source_.end(), to_, kPipeBytes, SPLICE_F_NONBLOCK);
    if (shared > 0) return static_cast<size_t>(shared);
    if (shared < 0 && errno != EAGAIN && errno != EINTR) return source_.Fail(errno), 0;
    // There are no bytes, or no room for them; also at the end, when the other pipe is full. Look in this order.
    const bool hung_up = HasHungUp(source_.end());
    const bool empty = CountUnread(source_.end()) == 0;
    if (empty && hung_up) return Finish(), 0;
    source_.WaitFor(empty ? source_.end() : to_, empty ? POLLIN : POLLOUT);
    if (source_.error() != 0) source_.Close();
  }
  return 0;
}

/** Reads the end of the stream, as there is nothing else. */
void StreamTee::Finish() {
  uint8_t none;
  if (source_.Read(&none, 1) > 0) source_.Fail(EIO);
}

BufferReader::BufferReader(int from, bool checked)
    : source_(from, checked), asked_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) {
  if (asked_ < 0) source_.Fail(errno);
}

BufferReader::~BufferReader() { CloseEnd(asked_); }

void BufferReader::Ask(const Piece& piece) {
  {
    const std::lock_guard<std::mutex> hold(lock_);
    pieces_.push_back(piece);
  }
  Wake(asked_);
}

/** Nothing when it was cancelled before there was one. */
std::optional<BufferReader::Piece> BufferReader::Next() {
  uint64_t one = 0;
  if (!source_.WaitFor(asked_, POLLIN) || read(asked_, &one, sizeof one) < 0) {
    source_.Close();
    return std::nullopt;
  }
  const std::lock_guard<std::mutex> hold(lock_);
  const Piece piece = pieces_.front();
  pieces_.pop_front();
  return piece;
}

}  // namespace pipes
