// Damages send streams at random and feeds them to the parser, in one piece and in several: both must give the same
// result, and the sanitizers must report nothing. The checksums of most damaged commands are corrected, so that what
// follows them is reached too.
//
//   cmake-js compile --directory native --out native/build/sanitized --CDSANITIZE=ON
//   native/build/sanitized/send-stream-fuzz SEED ROUNDS STREAM...

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "crc32c.h"
#include "send_stream.h"

namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

size_t Below(Random& random, size_t limit) { return limit == 0 ? 0 : random() % limit; }

uint32_t ReadLength(const Bytes& bytes, size_t at) {
  uint32_t length = 0;
  for (size_t i = 4; i > 0; i--) length = length << 8 | bytes[at + i - 1];
  return length;
}

/** Every command that is still complete gets the checksum it should have. */
void PutRight(Bytes& bytes) {
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
size_t Place(Random& random, const std::vector<size_t>& starts, size_t size) {
  if (Below(random, 4) == 0 || starts.empty()) return Below(random, size);
  return std::min(size - 1, starts[Below(random, starts.size())] + Below(random, 40));
}

Bytes Damage(Random& random, Bytes bytes) {
  std::vector<size_t> starts;
  for (size_t at = 17; at + 10 <= bytes.size(); at += 10 + ReadLength(bytes, at)) starts.push_back(at);
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

/** Each piece in memory of its own size, so that a byte read too far is seen. */
std::string Verdict(const Bytes& bytes, Random* random) {
  send_stream::Parser parser;
  for (size_t at = 0; at < bytes.size();) {
    const size_t wanted = random == nullptr ? bytes.size() : 1 + Below(*random, Below(*random, 2) == 0 ? 30 : 9000);
    const size_t size = std::min(wanted, bytes.size() - at);
    const std::unique_ptr<uint8_t[]> piece(new uint8_t[size]);
    std::memcpy(piece.get(), &bytes[at], size);
    parser.Feed(piece.get(), size);
    at += size;
  }
  parser.Finish();
  return parser.failure() ? parser.failure()->sentence : "good " + std::to_string(parser.estimated_bytes());
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  Random random(std::strtoull(arguments[1], nullptr, 10));
  const long rounds = std::atol(arguments[2]);
  std::vector<Bytes> streams;
  for (int i = 3; i < count; i++) {
    std::ifstream file(arguments[i], std::ios::binary);
    streams.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  long good = 0;
  for (long round = 0; round < rounds; round++) {
    const Bytes bytes = Damage(random, streams[Below(random, streams.size())]);
    const std::string unsplit = Verdict(bytes, nullptr);
    const std::string pieces = Verdict(bytes, &random);
    if (unsplit != pieces) {
      std::printf("round %ld: %s / %s\n", round, unsplit.c_str(), pieces.c_str());
      return 1;
    }
    good += unsplit.compare(0, 4, "good") == 0;
  }
  std::printf("%ld rounds, %ld of them still good streams\n", rounds, good);
}
