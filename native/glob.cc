#include "glob.h"

#include <locale.h>
#include <stdint.h>
#include <wctype.h>

namespace {

/** Of a locale of its own, because that of the process need not know more than ASCII. */
char32_t Fold(char32_t character) {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  if (character >= 'A' && character <= 'Z') return character + 32;
  if (character < 128 || locale == nullptr) return character;
  return static_cast<char32_t>(towlower_l(static_cast<wint_t>(character), locale));
}

/** Bytes that are no UTF-8 become characters of their own, which no text has. */
std::u32string Decode(std::string_view bytes, bool folds) {
  std::u32string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const auto byte = static_cast<uint8_t>(bytes[at]);
    const size_t more = byte < 0xc2 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : byte < 0xf5 ? 3 : 0;
    char32_t character = more == 0 ? byte : byte & (0x3f >> more);
    size_t taken = 1;
    while (taken <= more && at + taken < bytes.size() && (bytes[at + taken] & 0xc0) == 0x80) {
      character = character << 6 | (static_cast<uint8_t>(bytes[at + taken++]) & 0x3f);
    }
    if (taken != more + 1 || (more == 0 && byte >= 128)) {
      text.push_back(0x110000 + byte);
      at++;
      continue;
    }
    text.push_back(folds ? Fold(character) : character);
    at += taken;
  }
  return text;
}

}  // namespace

Glob::Glob(std::string_view pattern, bool ignores_case)
    : ignores_case_(ignores_case), for_names_(pattern.find('/') == std::string_view::npos) {
  const std::u32string text = Decode(pattern, ignores_case);
  if (!for_names_ && text[0] != '/') {
    tokens_.push_back({Token::kCharacter, {{'/', '/'}}, false});
    tokens_.push_back({Token::kAnyDirectories, {}, false});
  }
  for (size_t at = 0; at < text.size();) {
    const bool begins_name = at == 0 || text[at - 1] == '/';
    if (text[at] == '[' && text.find(']', at + 2) != std::u32string::npos) {
      at = ReadSet(text, at);
    } else if (text[at] == '?') {
      tokens_.push_back({Token::kAnyCharacter, {}, false});
      at++;
    } else if (begins_name && text.compare(at, 3, U"**/") == 0) {
      tokens_.push_back({Token::kAnyDirectories, {}, false});
      at += 3;
    } else if (text[at] == '*') {
      const bool is_double = at + 1 < text.size() && text[at + 1] == '*';
      tokens_.push_back({is_double ? Token::kAny : Token::kSome, {}, false});
      at += is_double ? 2 : 1;
    } else {
      if (text[at] == '\\' && at + 1 < text.size()) at++;
      tokens_.push_back({Token::kCharacter, {{text[at], text[at]}}, false});
      at++;
    }
  }
}

/** Returns where the pattern goes on. */
size_t Glob::ReadSet(const std::u32string& pattern, size_t at) {
  Token token{Token::kCharacter, {}, false};
  at++;
  if (pattern[at] == '!' || pattern[at] == '^') {
    token.negated = true;
    at++;
  }
  // A bracket that comes first stands for itself.
  for (bool first = true; at < pattern.size() && (first || pattern[at] != ']'); first = false) {
    const char32_t from = pattern[at];
    const bool is_range = at + 2 < pattern.size() && pattern[at + 1] == '-' && pattern[at + 2] != ']';
    token.ranges.emplace_back(from, is_range ? pattern[at + 2] : from);
    at += is_range ? 3 : 1;
  }
  tokens_.push_back(std::move(token));
  return at + 1;
}

bool Glob::Fits(const Token& token, char32_t character) const {
  if (token.kind == Token::kAnyCharacter) return character != '/';
  bool fits = false;
  for (const auto& [from, to] : token.ranges) fits = fits || (character >= from && character <= to);
  return token.negated ? !fits && character != '/' : fits;
}

bool Glob::Matches(std::string_view path) const {
  const size_t slash = path.rfind('/');
  const std::string_view shown = for_names_ && slash != std::string_view::npos ? path.substr(slash + 1) : path;
  std::u32string text = Decode(shown, ignores_case_);
  if (!for_names_) text.insert(text.begin(), '/');
  constexpr size_t kNone = SIZE_MAX;
  // Where to try again after a mismatch: behind the last `*` and behind the last `**`, with one more character taken.
  size_t some = kNone, some_at = 0, any = kNone, any_at = 0;
  size_t token = 0;
  size_t at = 0;
  while (at < text.size() || token < tokens_.size()) {
    const Token* next = token < tokens_.size() ? &tokens_[token] : nullptr;
    if (next != nullptr && next->kind == Token::kSome) {
      some = ++token;
      some_at = at;
    } else if (next != nullptr && (next->kind == Token::kAny || next->kind == Token::kAnyDirectories)) {
      any = ++token;
      any_at = at;
      some = kNone;
    } else if (next != nullptr && at < text.size() && Fits(*next, text[at])) {
      token++;
      at++;
    } else if (some != kNone && some_at < text.size() && text[some_at] != '/') {
      token = some;
      at = ++some_at;
    } else if (any != kNone && any_at < text.size()) {
      any_at++;
      // Directories are skipped as a whole.
      if (tokens_[any - 1].kind == Token::kAnyDirectories) {
        const size_t end = text.find('/', any_at - 1);
        any_at = end == std::u32string::npos ? text.size() : end + 1;
      }
      token = any;
      at = any_at;
      some = kNone;
    } else {
      return false;
    }
  }
  return true;
}
