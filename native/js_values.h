// Values between JavaScript and C++: numbers, times, UUIDs, and the arguments of a call.
#pragma once

#include <napi.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

namespace js {

/** Lower-case 8-4-4-4-12, or null for the all-zero one, by which btrfs says "none". */
Napi::Value ToUuid(Napi::Env env, const uint8_t* bytes);

std::optional<std::array<uint8_t, 16>> ParseUuid(const std::string& text);

/** True when JavaScript's string, which puts U+FFFD for what it cannot read, says exactly these bytes. */
bool IsUtf8(std::string_view text);

/** Ids are below 2^48 (the kernel refuses others) and transaction ids cannot get near 2^53: exact as doubles. */
Napi::Number ToNumber(Napi::Env env, uint64_t value);

/** Nanoseconds since the epoch. */
Napi::BigInt ToNanoseconds(Napi::Env env, const struct timespec& time);

/** Leaves a TypeError pending. */
Napi::Value Refuse(Napi::Env env, const char* sentence);

/** The first argument; nothing (and a pending TypeError) unless it can be a path. */
std::optional<std::string> ReadPathArgument(const Napi::CallbackInfo& call);

/** An id, or `absent` where the argument is left out; nothing (and a pending TypeError) for anything else. */
std::optional<uint64_t> ReadId(Napi::Env env, const Napi::Value& value, uint64_t absent);

}  // namespace js
