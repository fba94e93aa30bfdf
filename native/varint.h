// Numbers of variable length: seven bits a byte, the lowest first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

class VarintWriter {
 public:
  VarintWriter& Put(uint64_t number) {
    for (; number > 127; number >>= 7) bytes_.push_back(static_cast<char>(number | 128));
    bytes_.push_back(static_cast<char>(number));
    return *this;
  }

  /** Small numbers of either sign stay short. */
  VarintWriter& PutSigned(int64_t number) {
    const uint64_t bits = static_cast<uint64_t>(number);
    return Put(number < 0 ? ~(bits << 1) : bits << 1);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/** Reads what a VarintWriter wrote. */
class VarintReader {
 public:
  explicit VarintReader(std::string_view bytes) : bytes_(bytes) {}

  uint64_t Take() {
    uint64_t number = 0;
    for (unsigned shift = 0; at_ < bytes_.size(); shift += 7) {
      const uint64_t byte = static_cast<uint8_t>(bytes_[at_++]);
      number |= (byte & 127) << shift;
      if (byte < 128) break;
    }
    return number;
  }

  int64_t TakeSigned() {
    const uint64_t bits = Take();
    return static_cast<int64_t>((bits & 1) != 0 ? ~(bits >> 1) : bits >> 1);
  }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
};
