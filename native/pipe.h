// Pipes between programs, and the way of a send stream from one pipe into another on a thread of its own, checked as it
// passes: so it never goes through JavaScript. Plain C++.
#pragma once

#include <optional>
#include <string>

#include "send_stream.h"

namespace pipes {

struct Pipe {
  int read_end;
  int write_end;
};

/** Both ends close on exec. As large as `size`, or as the kernel allows. Nothing, with errno, when there is none. */
std::optional<Pipe> Open(int size);

/** Bytes in a pipe that nobody has read; -1, with errno, for what is no pipe. */
int CountUnread(int end);

/** Moves one send stream. `Run` on one thread, `Cancel` from any other; the parser is to be asked when `Run` is over. */
class Mover {
 public:
  /** Takes both ends, which are closed when it is over. */
  Mover(int from, int to);
  ~Mover();
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  /** Until the stream's end, its first damage, a failure or a cancel. */
  void Run();

  void Cancel();

  /** What is wrong with the stream is told by it. */
  const send_stream::Parser& parser() const { return parser_; }

  /** What else has gone wrong: an errno; 0 = nothing. ECANCELED when it was cancelled. */
  int error() const { return error_; }

 private:
  bool WaitFor(int end, short event);
  bool Write(const uint8_t* data, size_t size);
  void Close();

  int from_;
  int to_;
  int wake_;
  int error_ = 0;
  send_stream::Parser parser_;
};

}  // namespace pipes
