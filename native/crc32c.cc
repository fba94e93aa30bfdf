#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

namespace crc32c {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;

/** Multiplies by x, in the reflected notation: bit 31 is x^0. */
constexpr uint32_t TimesX(uint32_t value) { return (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0); }

using Tables = std::array<std::array<uint32_t, 256>, 8>;

/** tables[k][b]: the CRC of byte b followed by k zero bytes. */
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = TimesX(crc);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < tables.size(); k++) {
    for (size_t byte = 0; byte < 256; byte++) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

/** Eight bytes, the first one lowest. */
inline uint64_t Load(const uint8_t* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}

#if defined(__x86_64__)

#define WITH_INSTRUCTIONS __attribute__((target("sse4.2,pclmul")))

/** x^n modulo the polynomial. */
constexpr uint32_t PowerOfX(unsigned n) {
  uint32_t value = 0x80000000;
  for (; n > 0; n--) value = TimesX(value);
  return value;
}

/**
 * The factor that moves a CRC to stand before `bytes` more bytes. The carry-less product of two reflected 32-bit values
 * is one bit shorter than its 64-bit frame, and the crc32 instruction that reduces it multiplies by x^32: hence the 33.
 */
constexpr uint32_t Advance(size_t bytes) { return PowerOfX(static_cast<unsigned>(8 * bytes) - 33); }

WITH_INSTRUCTIONS inline uint64_t Multiply(uint32_t a, uint32_t b) {
  const __m128i x = _mm_cvtsi32_si128(static_cast<int>(a));
  const __m128i y = _mm_cvtsi32_si128(static_cast<int>(b));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_clmulepi64_si128(x, y, 0)));
}

/**
 * Three lanes of kLane bytes side by side: the crc32 instruction answers after three cycles, but takes a new word in
 * every cycle. The lanes are joined afterwards. Consumes all complete triples.
 */
template <size_t kLane>
WITH_INSTRUCTIONS inline uint32_t ExtendByLanes(uint32_t crc, const uint8_t*& data, size_t& size) {
  constexpr uint32_t kByOne = Advance(kLane);
  constexpr uint32_t kByTwo = Advance(2 * kLane);
  while (size >= 3 * kLane) {
    uint64_t first = crc, second = 0, third = 0;
    for (size_t at = 0; at < kLane; at += 8) {
      first = _mm_crc32_u64(first, Load(data + at));
      second = _mm_crc32_u64(second, Load(data + kLane + at));
      third = _mm_crc32_u64(third, Load(data + 2 * kLane + at));
    }
    const uint64_t product =
        Multiply(static_cast<uint32_t>(first), kByTwo) ^ Multiply(static_cast<uint32_t>(second), kByOne);
    crc = static_cast<uint32_t>(_mm_crc32_u64(0, product) ^ third);
    data += 3 * kLane;
    size -= 3 * kLane;
  }
  return crc;
}

WITH_INSTRUCTIONS uint32_t ExtendByInstructions(uint32_t crc, const uint8_t* data, size_t size) {
  crc = ExtendByLanes<2048>(crc, data, size);
  crc = ExtendByLanes<128>(crc, data, size);
  for (; size >= 8; data += 8, size -= 8) crc = static_cast<uint32_t>(_mm_crc32_u64(crc, Load(data)));
  for (; size > 0; data++, size--) crc = _mm_crc32_u8(crc, *data);
  return crc;
}

using Extender = uint32_t (*)(uint32_t, const uint8_t*, size_t);

Extender Choose() {
  const bool able = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
  return able ? ExtendByInstructions : ExtendByTables;
}

#elif defined(__ARM_FEATURE_CRC32)

uint32_t ExtendByInstructions(uint32_t crc, const uint8_t* data, size_t size) {
  for (; size >= 8; data += 8, size -= 8) crc = __crc32cd(crc, Load(data));
  for (; size > 0; data++, size--) crc = __crc32cb(crc, *data);
  return crc;
}

#endif

}  // namespace

// Eight bytes a step ("slicing by 8").
uint32_t ExtendByTables(uint32_t crc, const uint8_t* data, size_t size) {
  for (; size >= 8; data += 8, size -= 8) {
    const uint64_t word = Load(data) ^ crc;
    crc = kTables[7][word & 0xFF] ^ kTables[6][word >> 8 & 0xFF] ^ kTables[5][word >> 16 & 0xFF] ^
          kTables[4][word >> 24 & 0xFF] ^ kTables[3][word >> 32 & 0xFF] ^ kTables[2][word >> 40 & 0xFF] ^
          kTables[1][word >> 48 & 0xFF] ^ kTables[0][word >> 56];
  }
  for (; size > 0; data++, size--) crc = (crc >> 8) ^ kTables[0][(crc ^ *data) & 0xFF];
  return crc;
}

#if defined(__x86_64__)
uint32_t Extend(uint32_t crc, const uint8_t* data, size_t size) {
  static const Extender extender = Choose();
  return extender(crc, data, size);
}
#elif defined(__ARM_FEATURE_CRC32)
uint32_t Extend(uint32_t crc, const uint8_t* data, size_t size) { return ExtendByInstructions(crc, data, size); }
#else
uint32_t Extend(uint32_t crc, const uint8_t* data, size_t size) { return ExtendByTables(crc, data, size); }
#endif

}  // namespace crc32c
