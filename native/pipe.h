// Pipes between programs, read on threads of their own. A send stream moves into another pipe, checked as it passes, so
// that it never goes through JavaScript; anything else is read into memory. Plain C++.
#pragma once

#include <deque>
#include <mutex>
#include <optional>

#include "send_stream.h"

namespace pipes {

struct Pipe {
  int read_end;
  int write_end;
};

/** Both ends close on exec. Enlarged to `size`. Nothing, with errno, when there is none. */
std::optional<Pipe> Open(int size);

/** Makes a pipe as large as `size`, or as the kernel allows, unless it is larger; anything else stays as it is. */
void Enlarge(int end, int size);

/** Bytes in a pipe that nobody has read; -1, with errno, when it is no pipe. */
int CountUnread(int end);

/**
 * The end of a pipe, read until nothing comes any more, and checked on the way where it must be a send stream. One
 * thread reads it, any other may cancel it. Ask for its failure when it is over.
 */
class PipeSource {
 public:
  /** Takes the end, and closes it when it is over. */
  PipeSource(int end, bool checked);
  ~PipeSource();
  PipeSource(const PipeSource&) = delete;
  PipeSource& operator=(const PipeSource&) = delete;

  /** One byte or more, as many as fit; 0 when it is over, well or not. Waits for them. */
  size_t Read(uint8_t* data, size_t size);

  /** The same, but until the memory is full or, unless `until_full`, nothing has come for a moment. */
  size_t Fill(uint8_t* data, size_t size, bool until_full);

  /** Whether nothing comes any more. */
  bool is_over() const { return end_ < 0; }

  void Cancel();

  /** Closes it before its end: the writer learns at once that nobody reads any more. */
  void Close();

  /** The same, with an error. */
  void Fail(int error);

  int end() const { return end_; }

  /** Waits for an end of a pipe, this one or another. False when there is nothing to wait for any more, see `error`. */
  bool WaitFor(int end, short event);

  /** Reports damage of a send stream. */
  const send_stream::Parser& parser() const { return parser_; }

  /** Any other failure: an errno; 0 = none. ECANCELED when it was cancelled. */
  int error() const { return error_; }

  /** False when it has ended well. */
  bool failed() const { return error_ != 0 || parser_.failure(); }

 private:
  enum class Wait { kReady, kNothing, kFailed };

  ssize_t Take(uint8_t* data, size_t size);
  Wait Poll(int end, short event, int milliseconds);

  int end_;
  int wake_;
  bool checked_;
  int error_ = 0;
  send_stream::Parser parser_;
};

/** Moves a send stream from one pipe into another. Damaged bytes may get there too; it reports them when it is over. */
class StreamTee {
 public:
  /** Takes both ends, and closes them when it is over. */
  StreamTee(int from, int to) : source_(from, true), to_(to) {}
  ~StreamTee();
  StreamTee(const StreamTee&) = delete;
  StreamTee& operator=(const StreamTee&) = delete;

  /** Until the stream's end, its first damage, a failure or a cancel. */
  void Run();

  void Cancel() { source_.Cancel(); }

  const PipeSource& source() const { return source_; }

  int error() const { return source_.error(); }

 private:
  size_t Share();
  void Finish();

  PipeSource source_;
  int to_;
};

/** Fills memory from a pipe, piece by piece in the order in which they are asked for. */
class BufferReader {
 public:
  struct Piece {
    uint8_t* data;
    size_t size;
    /** True: fill it, unless the pipe ends before. False: take as much as there is. */
    bool until_full;
  };

  BufferReader(int from, bool checked);
  ~BufferReader();
  BufferReader(const BufferReader&) = delete;
  BufferReader& operator=(const BufferReader&) = delete;

  /** From any thread. */
  void Ask(const Piece& piece);

  /** Calls `filled` for each piece with its number of bytes, and with 0 as soon as nothing comes any more. */
  template <typename Filled>
  void Serve(Filled filled) {
    while (!source_.is_over()) {
      const std::optional<Piece> piece = Next();
      if (!piece) break;
      const size_t size = source_.Fill(piece->data, piece->size, piece->until_full);
      if (size > 0) filled(size);
    }
    filled(0);
  }

  /** From any thread. Nothing is written into the memory any more once `filled` was called with 0. */
  void Cancel() { source_.Cancel(); }

  const PipeSource& source() const { return source_; }
  int error() const { return source_.error(); }

 private:
  std::optional<Piece> Next();

  PipeSource source_;
  int asked_;
  std::mutex lock_;
  std::deque<Piece> pieces_;
};

}  // namespace pipes
