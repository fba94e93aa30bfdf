// The one way off the event loop: compute on libuv's thread pool, settle a promise on the JS thread.
#pragma once

#include <napi.h>

#include <functional>
#include <optional>
#include <utility>

/** The three steps of a worker. `compute` must not touch JS; the other two run on the JS thread. */
template <typename Value, typename Failure>
struct Work {
  std::function<std::optional<Failure>(Value&)> compute;
  std::function<Napi::Value(Napi::Env, const Value&)> resolve;
  std::function<Napi::Value(Napi::Env, const Failure&)> reject;
};

template <typename Value, typename Failure>
class Worker final : public Napi::AsyncWorker {
 public:
  /** A promise of the result of `resolve` for the computed value, or of `reject` for the failure. */
  static Napi::Promise Run(Napi::Env env, Work<Value, Failure> work) {
    auto* worker = new Worker(env, std::move(work));  // AsyncWorker deletes itself when it is done
    worker->Queue();
    return worker->deferred_.Promise();
  }

 private:
  Worker(Napi::Env env, Work<Value, Failure> work)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)) {}

  void Execute() override { failure_ = work_.compute(value_); }

  void OnOK() override {
    if (failure_) return deferred_.Reject(work_.reject(Env(), *failure_));
    deferred_.Resolve(work_.resolve(Env(), value_));
  }

  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  Work<Value, Failure> work_;
  Value value_{};
  std::optional<Failure> failure_;
};
