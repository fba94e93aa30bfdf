// Damages send streams at random, for the fuzzers. The checksums of most damaged commands are corrected, so that what
// follows them is reached too.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <vector>

#include "crc32c.h"

namespace fuzz {

using Stream = std::vector<uint8_t>;
using Random = std::mt19937_64;

inline size_t Below(Random& random, size_t limit) { return limit == 0 ? 0 : random() % limit; }

inline Stream ReadStream(const char* name) {
  std::ifstream file(name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline uint32_t ReadLength(const Stream& bytes, size_t at) {
  uint32_t length = 0;
  for (size_t i = 4; i > 0; i--) length = length << 8 | bytes[at + i - 1];
  return length;
}

inline std::vector<size_t> StartsOfCommands(const Stream& bytes) {
  std::vector<size_t> starts;
  for (size_t at = 17; at + 10 <= bytes.size(); at += 10 + ReadLength(bytes, at)) starts.push_back(at);
  return starts;
}

/** Every command that is still complete gets the checksum it should have. */
inline void PutRight(Stream& bytes) {
  size_t at = 17;
  while (at + 10 <= bytes.size() && ReadLength(bytes, at) <= bytes.size() - at - 10) {
    const size_t size = 10 + ReadLength(bytes, at);
    std::memset(&bytes[at + 6], 0, 4);
    const uint32_t crc = crc32c::ExtendByTables(0, &bytes[at], size);
    for (size_t i = 0; i < 4; i++) bytes[at + 6 + i] = static_cast<uint8_t>(crc >> (8 * i));
    at += size;
  }
}

/** The starts of commands are hit more often than chance would: that is where the numbers are. */
inline size_t Place(Random& random, const std::vector<size_t>& starts, size_t size) {
  if (Below(random, 4) == 0 || starts.empty()) return Below(random, size);
  return std::min(size - 1, starts[Below(random, starts.size())] + Below(random, 40));
}

inline Stream Damage(Random& random, Stream bytes) {
  const std::vector<size_t> starts = StartsOfCommands(bytes);
  for (size_t times = 1 + Below(random, 4); times > 0 && !bytes.empty(); times--) {
    const size_t at = Place(random, starts, bytes.size());
    const auto here = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const size_t length = std::min(bytes.size() - at, Below(random, 64));
    switch (Below(random, 6)) {
      case 0: bytes[at] = static_cast<uint8_t>(random()); break;
      case 1: bytes[at] = static_cast<uint8_t>(bytes[at] ^ 1u << Below(random, 8)); break;
      case 2: bytes[at] = Below(random, 2) == 0 ? 0 : 255; break;
      case 3: bytes.erase(here, here + static_cast<std::ptrdiff_t>(length)); break;
      case 4: bytes.insert(here, length, static_cast<uint8_t>(random())); break;
      default: if (Below(random, 8) == 0) bytes.resize(at);
    }
  }
  if (Below(random, 5) != 0) PutRight(bytes);
  return bytes;
}

/**
 * Feeds all of a stream to a parser, in one piece or, with `random`, in several. Each piece is in memory of its own size, so
 * that a byte read too far is seen.
 */
template <typename Parser>
void FeedAll(Parser& parser, const Stream& bytes, Random* random) {
  for (size_t at = 0; at < bytes.size();) {
    const size_t wanted = random == nullptr ? bytes.size() : 1 + Below(*random, Below(*random, 2) == 0 ? 30 : 9000);
    const size_t size = std::min(wanted, bytes.size() - at);
    const std::unique_ptr<uint8_t[]> piece(new uint8_t[size]);
    std::memcpy(piece.get(), &bytes[at], size);
    parser.Feed(piece.get(), size);
    at += size;
  }
  parser.Finish();
}

/** Complete commands behind the first, left out, doubled, or swapped: their checksums stay right. */
inline Stream Shuffle(Random& random, const Stream& bytes) {
  const std::vector<size_t> starts = StartsOfCommands(bytes);
  if (starts.size() < 4) return bytes;
  Stream shuffled(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(starts[1]));
  const auto append = [&](size_t command) {
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(starts[command]);
    shuffled.insert(shuffled.end(), from, from + 10 + ReadLength(bytes, starts[command]));
  };
  const size_t rarity = 2 + Below(random, 60);
  for (size_t command = 1; command + 1 < starts.size(); command++) {
    const size_t chance = Below(random, rarity * 3);
    if (chance != 0) append(command);
    if (chance == 1) append(command);
    if (chance == 2) append(1 + Below(random, starts.size() - 2));
  }
  append(starts.size() - 1);
  return shuffled;
}

}  // namespace fuzz
