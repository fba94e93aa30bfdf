// Locks of files for JavaScript.

#include <optional>
#include <string>

#include "js_exports.h"
#include "js_values.h"
#include "lock.h"
#include "subvolume_failure.h"

namespace js {
namespace {

/** The descriptor of the locked file, or null when another process holds the lock. */
Napi::Value LockFile(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  int descriptor = -1;
  if (const auto failure = lock::Take(*path, descriptor)) {
    const char* name = subvolume::ErrnoName(failure->number);
    Napi::Error error = Napi::Error::New(env, std::string(failure->call) + " of " + *path + " failed: " + name);
    error.Set("code", Napi::String::New(env, name));
    error.ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return descriptor < 0 ? env.Null() : Napi::Value(Napi::Number::New(env, descriptor));
}

}  // namespace

void ExportLocks(Napi::Env env, Napi::Object exports) {
  exports["lockFile"] = Napi::Function::New(env, LockFile, "lockFile");
}

}  // namespace js
