// Numbers in send streams and btrfs trees: little-endian, of any size up to 8 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

inline uint64_t ReadNumber(const uint8_t* data, size_t size) {
  uint64_t number = 0;
  for (size_t at = size; at > 0; at--) number = number << 8 | data[at - 1];
  return number;
}
