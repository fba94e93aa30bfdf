// Patterns for paths, as shells have them: `*`, `?`, `[a-z]`, `[!a-z]`, `\` before what stands for itself; `**` also
// crosses directories. A pattern without a slash is for names, one that begins with a slash for complete paths, any
// other for paths that end so.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

class Glob {
 public:
  Glob(std::string_view pattern, bool ignores_case);

  /** @param path - relative, without a slash before it */
  bool Matches(std::string_view path) const;

 private:
  struct Token {
    enum Kind { kCharacter, kAnyCharacter, kSome, kAny, kAnyDirectories };
    Kind kind;
    /** The characters that fit, from-to. */
    std::vector<std::pair<char32_t, char32_t>> ranges;
    bool negated;
  };

  size_t ReadSet(const std::u32string& pattern, size_t at);
  bool Fits(const Token& token, char32_t character) const;

  bool ignores_case_;
  bool for_names_;
  std::vector<Token> tokens_;
};
