// Pipes for JavaScript: each is read on a thread of its own, which calls back.

#include <pthread.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "js_exports.h"
#include "js_send_stream.h"
#include "js_values.h"
#include "pipe.h"

namespace js {
namespace {

Napi::Value ThrowErrno(Napi::Env env, const char* call, int number) {
  Napi::Error error = Napi::Error::New(env, std::string(call) + ": " + std::strerror(number));
  error.Set("errno", Napi::Number::New(env, -number));
  error.ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value OpenPipe(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  if (!call[0].IsNumber()) return Refuse(env, "openPipe takes a size");
  const auto pipe = pipes::Open(call[0].As<Napi::Number>().Int32Value());
  if (!pipe) return ThrowErrno(env, "pipe2", errno);
  Napi::Object ends = Napi::Object::New(env);
  ends["readEnd"] = Napi::Number::New(env, pipe->read_end);
  ends["writeEnd"] = Napi::Number::New(env, pipe->write_end);
  return ends;
}

Napi::Value EnlargePipe(const Napi::CallbackInfo& call) {
  if (!call[0].IsNumber() || !call[1].IsNumber()) return Refuse(call.Env(), "enlargePipe takes an end and a size");
  pipes::Enlarge(call[0].As<Napi::Number>().Int32Value(), call[1].As<Napi::Number>().Int32Value());
  return call.Env().Undefined();
}

Napi::Value CountUnread(const Napi::CallbackInfo& call) {
  if (!call[0].IsNumber()) return Refuse(call.Env(), "countUnread takes a file descriptor");
  const int bytes = pipes::CountUnread(call[0].As<Napi::Number>().Int32Value());
  return bytes < 0 ? ThrowErrno(call.Env(), "FIONREAD", errno) : Napi::Number::New(call.Env(), bytes);
}

/** The failure, damage before all else, or null; and a summary of the stream. */
template <typename Machine>
void ReportEnd(Napi::Env env, Napi::Function on_end, const Machine& machine) {
  Napi::Value failure = env.Null();
  const send_stream::Parser& parser = machine.source().parser();
  if (parser.failure())
    failure = ToDamage(env, *parser.failure()).Value();
  else if (machine.error() != 0)
    failure = Napi::Error::New(env, std::strerror(machine.error())).Value();
  on_end.Call({failure, ToSummary(env, parser)});
}

/** Work on a thread of its own, and the function that it calls. */
template <typename Machine>
struct Working {
  std::shared_ptr<Machine> machine;
  Napi::ThreadSafeFunction heard;
};

/**
 * A thread of its own, not one of libuv's few, which it would keep for hours. It delays nothing in the process but the
 * callers that wait for it, and dies with the process. By pthread and without make_shared: std::thread and
 * std::make_shared without RTTI ask for a newer libstdc++ than Node does. False (and a pending error) when there is no
 * thread.
 */
template <typename Machine>
bool StartThread(Napi::Env env, Working<Machine> working, void* (*run)(void*)) {
  auto given = std::make_unique<Working<Machine>>(working);
  pthread_t thread;
  const int refused = pthread_create(&thread, nullptr, run, given.get());
  if (refused != 0) {
    working.heard.Release();
    Refuse(env, std::strerror(refused));
    return false;
  }
  given.release();
  pthread_detach(thread);
  return true;
}

void* Move(void* given) {
  const std::unique_ptr<Working<pipes::StreamTee>> working(static_cast<Working<pipes::StreamTee>*>(given));
  const auto mover = working->machine;
  mover->Run();
  working->heard.BlockingCall([mover](Napi::Env at, Napi::Function on_end) { ReportEnd(at, on_end, *mover); });
  working->heard.Release();
  return nullptr;
}

Napi::Value MoveSendStream(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  if (!call[0].IsNumber() || !call[1].IsNumber() || !call[2].IsFunction()) {
    return Refuse(env, "moveSendStream takes two ends of pipes and a function");
  }
  const std::shared_ptr<pipes::StreamTee> mover = std::make_unique<pipes::StreamTee>(
      call[0].As<Napi::Number>().Int32Value(), call[1].As<Napi::Number>().Int32Value());
  auto end = Napi::ThreadSafeFunction::New(env, call[2].As<Napi::Function>(), "moveSendStream", 0, 1);
  if (!StartThread<pipes::StreamTee>(env, {mover, end}, Move)) return env.Undefined();
  // The function that cancels it must not keep it: it is freed with its thread, not when garbage is collected.
  return Napi::Function::New(env, [running = std::weak_ptr<pipes::StreamTee>(mover)](const Napi::CallbackInfo&) {
    if (const auto found = running.lock()) found->Cancel();
  });
}

void* Serve(void* given) {
  const std::unique_ptr<Working<pipes::BufferReader>> working(static_cast<Working<pipes::BufferReader>*>(given));
  const auto filler = working->machine;
  filler->Serve([&](size_t size) {
    working->heard.BlockingCall([filler, size](Napi::Env at, Napi::Function on_filled) {
      if (size > 0)
        on_filled.Call({ToNumber(at, size)});
      else
        ReportEnd(at, on_filled, *filler);
    });
  });
  working->heard.Release();
  return nullptr;
}

/** Reads a pipe into memory that JavaScript gives. */
class PipeReader final : public Napi::ObjectWrap<PipeReader> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "PipeReader",
                       {InstanceMethod<&PipeReader::Fill>("fill"), InstanceMethod<&PipeReader::Cancel>("cancel")});
  }

  explicit PipeReader(const Napi::CallbackInfo& call) : Napi::ObjectWrap<PipeReader>(call) {
    const Napi::Env env = call.Env();
    if (!call[0].IsNumber() || !call[1].IsBoolean() || !call[2].IsFunction()) {
      Refuse(env, "PipeReader takes the end of a pipe, whether it is checked, and a function");
      return;
    }
    const std::shared_ptr<pipes::BufferReader> filler = std::make_unique<pipes::BufferReader>(
        call[0].As<Napi::Number>().Int32Value(), call[1].As<Napi::Boolean>().Value());
    auto heard = Napi::ThreadSafeFunction::New(env, call[2].As<Napi::Function>(), "PipeReader", 0, 1);
    if (StartThread<pipes::BufferReader>(env, {filler, heard}, js::Serve)) filler_ = filler;
  }

 private:
  /** The caller keeps the memory until the answer. */
  Napi::Value Fill(const Napi::CallbackInfo& call) {
    if (!call[0].IsBuffer() || !call[1].IsBoolean())
      return Refuse(call.Env(), "fill takes a Buffer and whether to fill it");
    const auto memory = call[0].As<Napi::Buffer<uint8_t>>();
    const bool until_full = call[1].As<Napi::Boolean>().Value();
    if (const auto filler = filler_.lock()) filler->Ask({memory.Data(), memory.Length(), until_full});
    return call.Env().Undefined();
  }

  Napi::Value Cancel(const Napi::CallbackInfo& call) {
    if (const auto filler = filler_.lock()) filler->Cancel();
    return call.Env().Undefined();
  }

  /** Freed with its thread. */
  std::weak_ptr<pipes::BufferReader> filler_;
};

}  // namespace

void ExportPipes(Napi::Env env, Napi::Object exports) {
  exports["openPipe"] = Napi::Function::New(env, OpenPipe, "openPipe");
  exports["enlargePipe"] = Napi::Function::New(env, EnlargePipe, "enlargePipe");
  exports["countUnread"] = Napi::Function::New(env, CountUnread, "countUnread");
  exports["moveSendStream"] = Napi::Function::New(env, MoveSendStream, "moveSendStream");
  exports["PipeReader"] = PipeReader::Define(env);
}

}  // namespace js
