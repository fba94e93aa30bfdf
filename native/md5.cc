#include "md5.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace md5 {
namespace {

#define INLINE __attribute__((always_inline)) inline

constexpr size_t kBlock = 64;
constexpr size_t kLanes = 4;

/**
 * The least number of messages for which lanes pay, idle ones included. NEON needs two cycles where general registers
 * need one.
 */
#if defined(__x86_64__)
constexpr size_t kFewest = 2;
#else
constexpr size_t kFewest = 3;
#endif

/** One 32-bit word of each lane: SSE2 on x64, NEON on arm64. */
using Vector = uint32_t __attribute__((vector_size(4 * kLanes)));

/** floor(2^32 * |sin(step + 1)|). */
constexpr uint32_t kSines[64] = {
    0xD76AA478, 0xE8C7B756, 0x242070DB, 0xC1BDCEEE, 0xF57C0FAF, 0x4787C62A, 0xA8304613, 0xFD469501,
    0x698098D8, 0x8B44F7AF, 0xFFFF5BB1, 0x895CD7BE, 0x6B901122, 0xFD987193, 0xA679438E, 0x49B40821,
    0xF61E2562, 0xC040B340, 0x265E5A51, 0xE9B6C7AA, 0xD62F105D, 0x02441453, 0xD8A1E681, 0xE7D3FBC8,
    0x21E1CDE6, 0xC33707D6, 0xF4D50D87, 0x455A14ED, 0xA9E3E905, 0xFCEFA3F8, 0x676F02D9, 0x8D2A4C8A,
    0xFFFA3942, 0x8771F681, 0x6D9D6122, 0xFDE5380C, 0xA4BEEA44, 0x4BDECFA9, 0xF6BB4B60, 0xBEBFBC70,
    0x289B7EC6, 0xEAA127FA, 0xD4EF3085, 0x04881D05, 0xD9D4D039, 0xE6DB99E5, 0x1FA27CF8, 0xC4AC5665,
    0xF4292244, 0x432AFF97, 0xAB9423A7, 0xFC93A039, 0x655B59C3, 0x8F0CCC92, 0xFFEFF47D, 0x85845DD1,
    0x6FA87E4F, 0xFE2CE6E0, 0xA3014314, 0x4E0811A1, 0xF7537E82, 0xBD3AF235, 0x2AD7D2BB, 0xEB86D391,
};

constexpr int kRotations[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

/** Step i of a round takes word (kFirst + kStride * i) % 16 of the block. */
constexpr size_t kFirst[4] = {0, 1, 5, 0};
constexpr size_t kStride[4] = {1, 5, 3, 7};

/** Four bytes, the first one lowest. */
INLINE uint32_t Load(const uint8_t* data) {
  uint32_t word;
  std::memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  word = __builtin_bswap32(word);
#endif
  return word;
}

#if defined(__x86_64__)
#define IN_VECTOR_REGISTER "+x"
#elif defined(__aarch64__)
#define IN_VECTOR_REGISTER "+w"
#endif

/** sum += more, before everything after it: without this, compilers make additions wait for each other. */
template <typename Word>
INLINE void Add(Word& sum, Word more) {
  sum += more;
#ifdef IN_VECTOR_REGISTER
  if constexpr (sizeof sum == sizeof(Vector)) {
    asm("" : IN_VECTOR_REGISTER(sum));
  } else {
    asm("" : "+r"(sum));
  }
#endif
}

/**
 * One of a block's 64 steps, for Word = uint32_t or Vector. Instead of rotating the four words of the state, it
 * renames them. The step before has just computed b, so b is used as late as possible.
 */
template <size_t kStep, typename Word>
INLINE void Step(Word (&state)[4], const Word (&words)[16]) {
  constexpr size_t kRound = kStep / 16;
  constexpr int kRotation = kRotations[kRound][kStep % 4];
  Word& a = state[(64 - kStep) % 4];
  const Word b = state[(65 - kStep) % 4];
  const Word c = state[(66 - kStep) % 4];
  const Word d = state[(67 - kStep) % 4];
  Word sum = a;
  Add(sum, words[(kFirst[kRound] + kStride[kRound] * kStep) % 16] + kSines[kStep]);
  if constexpr (kRound == 0) sum += d ^ (b & (c ^ d));
  if constexpr (kRound == 1) {
    Add(sum, c & ~d);
    sum += b & d;
  }
  if constexpr (kRound == 2) sum += b ^ (c ^ d);
  if constexpr (kRound == 3) sum += c ^ (b | ~d);
  a = b + (sum << kRotation | sum >> (32 - kRotation));
}

template <typename Word, size_t... kStep>
INLINE void AddBlock(Word (&state)[4], const Word (&words)[16], std::index_sequence<kStep...>) {
  Word next[4] = {state[0], state[1], state[2], state[3]};
  (Step<kStep>(next, words), ...);
  for (size_t i = 0; i < 4; i++) state[i] += next[i];
}

/** A message in progress. Its end and the padding make the last block, or the last two. */
struct Lane {
  const uint8_t* at;
  /** Complete blocks from there on. */
  size_t blocks;
  uint32_t state[4];
  uint8_t ending[2 * kBlock];
  size_t ending_blocks;
  Digest* digest;
};

void Start(Lane& lane, const Message& message, Digest* digest) {
  const size_t rest = message.size % kBlock;
  lane = Lane{message.data, message.size / kBlock, {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476}, {}, 0, digest};
  if (rest > 0) std::memcpy(lane.ending, message.data + (message.size - rest), rest);
  lane.ending[rest] = 0x80;
  lane.ending_blocks = rest + 1 + 8 <= kBlock ? 1 : 2;
  const uint64_t bits = static_cast<uint64_t>(message.size) * 8;
  uint8_t* length = lane.ending + lane.ending_blocks * kBlock - 8;
  for (size_t i = 0; i < 8; i++) length[i] = static_cast<uint8_t>(bits >> 8 * i);
}

/** Moves a lane without more blocks to its ending. False when the ending is over too, and the digest made. */
bool HasBlocks(Lane& lane) {
  if (lane.blocks > 0) return true;
  lane.at = lane.ending;
  lane.blocks = std::exchange(lane.ending_blocks, 0);
  if (lane.blocks > 0) return true;
  for (size_t i = 0; i < lane.digest->size(); i++) {
    (*lane.digest)[i] = static_cast<uint8_t>(lane.state[i / 4] >> 8 * (i % 4));
  }
  return false;
}

void AdvanceOne(Lane& lane, size_t blocks) {
  uint32_t state[4];
  std::copy_n(lane.state, 4, state);
  for (size_t block = 0; block < blocks; block++) {
    uint32_t words[16];
    for (size_t i = 0; i < 16; i++) words[i] = Load(lane.at + block * kBlock + 4 * i);
    AddBlock(state, words, std::make_index_sequence<64>());
  }
  std::copy_n(state, 4, lane.state);
  lane.at += blocks * kBlock;
  lane.blocks -= blocks;
}

using Lanes = std::array<Lane*, kLanes>;

/** One lane may stand for several: they all compute the same. */
INLINE void AdvanceVectors(const Lanes& lanes, size_t blocks) {
  const uint8_t* at[kLanes];
  size_t left[kLanes];
  for (size_t lane = 0; lane < kLanes; lane++) {
    at[lane] = lanes[lane]->at;
    left[lane] = lanes[lane]->blocks - blocks;
  }
  Vector state[4];
  for (size_t i = 0; i < 4; i++) {
    state[i] = Vector{lanes[0]->state[i], lanes[1]->state[i], lanes[2]->state[i], lanes[3]->state[i]};
  }
  for (size_t block = 0; block < blocks; block++) {
    Vector words[16];
    for (size_t i = 0; i < 16; i++) {
      words[i] = Vector{Load(at[0] + 4 * i), Load(at[1] + 4 * i), Load(at[2] + 4 * i), Load(at[3] + 4 * i)};
    }
    AddBlock(state, words, std::make_index_sequence<64>());
    for (auto& each : at) each += kBlock;
  }
  for (size_t lane = 0; lane < kLanes; lane++) {
    lanes[lane]->at = at[lane];
    lanes[lane]->blocks = left[lane];
    for (size_t i = 0; i < 4; i++) lanes[lane]->state[i] = state[i][lane];
  }
}

#if defined(__x86_64__)

void AdvanceBySse2(const Lanes& lanes, size_t blocks) { AdvanceVectors(lanes, blocks); }

/** One instruction to rotate by, and one for each way that three words are joined. */
__attribute__((target("avx512vl"))) void AdvanceByAvx512(const Lanes& lanes, size_t blocks) {
  AdvanceVectors(lanes, blocks);
}

using Advancer = void (*)(const Lanes&, size_t);

Advancer Choose() { return __builtin_cpu_supports("avx512vl") ? AdvanceByAvx512 : AdvanceBySse2; }

void Advance(const Lanes& lanes, size_t blocks) {
  static const Advancer advancer = Choose();
  advancer(lanes, blocks);
}

#else

void Advance(const Lanes& lanes, size_t blocks) { AdvanceVectors(lanes, blocks); }

#endif

}  // namespace

// A message that is over leaves its lane to the next one.
void HashTogether(const Message* messages, size_t count, Digest* digests) {
  Lane storage[kLanes];
  Lanes lanes;  // the first `busy` of them have something to do
  for (size_t i = 0; i < kLanes; i++) lanes[i] = &storage[i];
  size_t busy = 0;
  for (size_t started = 0; started < count || busy > 0;) {
    for (; busy < kLanes && started < count; started++) Start(*lanes[busy++], messages[started], &digests[started]);
    size_t blocks = lanes[0]->blocks;
    for (size_t i = 1; i < busy; i++) blocks = std::min(blocks, lanes[i]->blocks);
    if (busy < kFewest) {
      for (size_t i = 0; i < busy; i++) AdvanceOne(*lanes[i], blocks);
    } else {
      Lanes all = lanes;
      std::fill(all.begin() + busy, all.end(), lanes[0]);
      Advance(all, blocks);
    }
    for (size_t i = busy; i-- > 0;) {
      if (!HasBlocks(*lanes[i])) std::swap(lanes[i], lanes[--busy]);
    }
  }
}

}  // namespace md5
