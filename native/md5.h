// MD5 of several messages side by side. One message is a chain in which every step waits for the one before, so four of
// them, one in each lane of a vector, take hardly longer than one. Plain C++.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace md5 {

struct Message {
  const uint8_t* data;
  size_t size;
};

using Digest = std::array<uint8_t, 16>;

/** The digests of `count` messages, in their order. The messages may be of any sizes; alike ones are fastest. */
void HashTogether(const Message* messages, size_t count, Digest* digests);

}  // namespace md5
