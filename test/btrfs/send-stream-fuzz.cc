// Damages send streams at random and feeds them to the parser, in one piece and in several: both must give the same
// result, and the sanitizers must report nothing.
//
//   cmake-js compile --directory native --out native/build/sanitized --CDSANITIZE=ON
//   native/build/sanitized/send-stream-fuzz SEED ROUNDS STREAM...

#include <cstdio>
#include <cstdlib>
#include <string>

#include "damaged-stream.h"
#include "send_stream.h"

namespace {

using fuzz::Below;
using fuzz::Random;
using Bytes = fuzz::Stream;

std::string Verdict(const Bytes& bytes, Random* random) {
  send_stream::Parser parser;
  fuzz::FeedAll(parser, bytes, random);
  return parser.failure() ? parser.failure()->sentence : "good " + std::to_string(parser.estimated_bytes());
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  Random random(std::strtoull(arguments[1], nullptr, 10));
  const long rounds = std::atol(arguments[2]);
  std::vector<Bytes> streams;
  for (int i = 3; i < count; i++) streams.push_back(fuzz::ReadStream(arguments[i]));
  long good = 0;
  for (long round = 0; round < rounds; round++) {
    const Bytes bytes = fuzz::Damage(random, streams[Below(random, streams.size())]);
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
