// MD5 digests for JavaScript, computed off the event loop.

#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "js_exports.h"
#include "js_values.h"
#include "md5.h"
#include "worker.h"

namespace js {
namespace {

using Digests = std::vector<md5::Digest>;

Napi::Value ToBuffers(Napi::Env env, const Digests& digests) {
  Napi::Array array = Napi::Array::New(env, digests.size());
  for (size_t i = 0; i < digests.size(); i++) {
    array[static_cast<uint32_t>(i)] = Napi::Buffer<uint8_t>::Copy(env, digests[i].data(), digests[i].size());
  }
  return array;
}

struct Hashing {
  std::vector<md5::Message> messages;
  /** A copy of the caller's array, which may change before the end: its elements must not be collected. */
  Napi::Reference<Napi::Array> views;
};

Napi::Value Md5s(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  constexpr const char* kTakes = "md5s takes an array of Uint8Arrays";
  if (!call[0].IsArray()) return Refuse(env, kTakes);
  const auto given = call[0].As<Napi::Array>();
  Napi::Array views = Napi::Array::New(env);
  const std::shared_ptr<Hashing> hashing = std::make_unique<Hashing>();
  for (uint32_t i = 0; i < given.Length(); i++) {
    const Napi::Value view = given[i];
    if (view.IsEmpty()) return env.Undefined();  // a getter has thrown
    const bool usable = view.IsTypedArray() && view.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
    if (!usable) return Refuse(env, kTakes);
    const auto bytes = view.As<Napi::Uint8Array>();
    hashing->messages.push_back({bytes.Data(), bytes.ByteLength()});
    views[i] = view;
  }
  hashing->views = Napi::Persistent(views);
  auto compute = [hashing](Digests& digests) {
    digests.resize(hashing->messages.size());
    md5::HashTogether(hashing->messages.data(), digests.size(), digests.data());
    return std::optional<std::monostate>();
  };
  return Worker<Digests, std::monostate>::Run(env, {std::move(compute), ToBuffers, nullptr});
}

}  // namespace

void ExportDigests(Napi::Env env, Napi::Object exports) { exports["md5s"] = Napi::Function::New(env, Md5s, "md5s"); }

}  // namespace js
