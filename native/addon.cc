// The JavaScript side of the addon is in the files js_*.cc: they convert, and decide nothing. Here are its exports.

#include <btrfsutil.h>
#include <napi.h>

#include "js_exports.h"
#include "js_values.h"

namespace {

#define TEXT(token) #token
#define EXPANDED_TEXT(token) TEXT(token)
#define VERSION_TEXT(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

Napi::Object ToVersions(Napi::Env env) {
  Napi::Object versions = Napi::Object::New(env);
  versions["libbtrfsutil"] = Napi::String::New(
      env, VERSION_TEXT(BTRFS_UTIL_VERSION_MAJOR, BTRFS_UTIL_VERSION_MINOR, BTRFS_UTIL_VERSION_PATCH));
  versions["napi"] = js::ToNumber(env, NAPI_VERSION);
  versions["sources"] = Napi::String::New(env, EXPANDED_TEXT(ADDON_SOURCES));
  return versions;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  js::ExportSubvolumes(env, exports);
  js::ExportSendStreams(env, exports);
  js::ExportLocks(env, exports);
  js::ExportPipes(env, exports);
  js::ExportDigests(env, exports);
  js::ExportTrees(env, exports);
  exports["versions"] = ToVersions(env);
  return exports;
}

}  // namespace

NODE_API_MODULE(btrfs, Init)
