// The exports of the addon, by noun; each function adds those of its file.
#pragma once

#include <napi.h>

namespace js {

void ExportSubvolumes(Napi::Env env, Napi::Object exports);
void ExportSendStreams(Napi::Env env, Napi::Object exports);
void ExportLocks(Napi::Env env, Napi::Object exports);
void ExportPipes(Napi::Env env, Napi::Object exports);
void ExportDigests(Napi::Env env, Napi::Object exports);
void ExportTrees(Napi::Env env, Napi::Object exports);

}  // namespace js
