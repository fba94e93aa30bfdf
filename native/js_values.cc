#include "js_values.h"

#include <cctype>

namespace js {

Napi::Value ToUuid(Napi::Env env, const uint8_t* bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  char text[36];
  size_t at = 0;
  bool zero = true;
  for (size_t i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text[at++] = '-';
    text[at++] = kDigits[bytes[i] >> 4];
    text[at++] = kDigits[bytes[i] & 15];
    zero = zero && bytes[i] == 0;
  }
  return zero ? env.Null() : Napi::Value(Napi::String::New(env, text, sizeof text));
}

std::optional<std::array<uint8_t, 16>> ParseUuid(const std::string& text) {
  std::array<uint8_t, 16> bytes{};
  size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const int value = lower >= '0' && lower <= '9' ? lower - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    if (value < 0 || digits == 32) return std::nullopt;
    bytes[digits / 2] = static_cast<uint8_t>(bytes[digits / 2] << 4 | value);
    digits++;
  }
  return digits == 32 ? std::optional(bytes) : std::nullopt;
}

bool IsUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const auto first = static_cast<uint8_t>(text[at++]);
    if (first < 0x80) continue;
    const size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || text.size() - at < more) return false;
    uint32_t point = first & (0x3F >> more);
    for (size_t i = 0; i < more; i++, at++) {
      const auto next = static_cast<uint8_t>(text[at]);
      if ((next & 0xC0) != 0x80) return false;
      point = point << 6 | (next & 0x3F);
    }
    const bool overlong = (more == 2 && point < 0x800) || (more == 3 && point < 0x10000);
    if (overlong || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return false;
  }
  return true;
}

Napi::Number ToNumber(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

Napi::BigInt ToNanoseconds(Napi::Env env, const struct timespec& time) {
  const uint64_t seconds = static_cast<uint64_t>(time.tv_sec);
  return Napi::BigInt::New(env, static_cast<int64_t>(seconds * 1000000000 + static_cast<uint64_t>(time.tv_nsec)));
}

Napi::Value Refuse(Napi::Env env, const char* sentence) {
  Napi::TypeError::New(env, sentence).ThrowAsJavaScriptException();
  return env.Undefined();
}

std::optional<std::string> ReadPathArgument(const Napi::CallbackInfo& call) {
  std::string path = call[0].IsString() ? call[0].As<Napi::String>().Utf8Value() : std::string();
  const bool usable = !path.empty() && path.find('\0') == std::string::npos;
  if (usable) return path;
  Refuse(call.Env(), "path must be a string that is not empty and has no NUL");
  return std::nullopt;
}

std::optional<uint64_t> ReadId(Napi::Env env, const Napi::Value& value, uint64_t absent) {
  if (value.IsUndefined()) return absent;
  const double id = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (id >= 0 && id < 281474976710656.0 && id == static_cast<double>(static_cast<uint64_t>(id))) {
    return static_cast<uint64_t>(id);
  }
  Refuse(env, "a subvolume id must be a whole number below 2^48");
  return std::nullopt;
}

}  // namespace js
