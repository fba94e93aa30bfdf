// CRC32C as the send stream uses it: reflected polynomial 0x82F63B78, no inversion before or after.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crc32c {

/** Continues `crc` (0 at the start) over `size` bytes: by the CPU's instruction where it has one, else by tables. */
uint32_t Extend(uint32_t crc, const uint8_t* data, size_t size);

/** The same, by tables only: for machines without the instruction, and to compare the two. */
uint32_t ExtendByTables(uint32_t crc, const uint8_t* data, size_t size);

}  // namespace crc32c
