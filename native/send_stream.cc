#include "send_stream.h"

#include <algorithm>
#include <cstring>

#include "crc32c.h"
#include "little_endian.h"
#include "send_commands.h"

namespace send_stream {
namespace {

constexpr char kMagic[13] = "btrfs-stream";  // with its NUL
constexpr size_t kStreamHeader = sizeof kMagic + 4;
constexpr size_t kCommandHeader = 4 + 2 + 4;

// Payload of one WRITE as the kernel cuts extents.
constexpr uint64_t kMaxWrite1 = 48 << 10;
constexpr uint64_t kMaxWrite2 = 128 << 10;

// Enough for everything that can stand before the file data of WRITE and ENCODED_WRITE: a path and some numbers.
constexpr size_t kDataHead = kPathMax + 256;

// Sizes from a stream are added and compared in 64 bits: 32 bits may not hold them.
uint64_t Length(const uint8_t* head) { return ReadNumber(head, 4); }
size_t Type(const uint8_t* head) { return static_cast<size_t>(ReadNumber(head + 4, 2)); }
uint32_t Checksum(const uint8_t* head) { return static_cast<uint32_t>(ReadNumber(head + 6, 4)); }
uint64_t DeclaredSize(const uint8_t* head) { return kCommandHeader + Length(head); }

/** Size of a command with its header, which was checked. */
size_t CommandSize(const uint8_t* head) { return static_cast<size_t>(DeclaredSize(head)); }

uint64_t AddWithoutOverflow(uint64_t a, uint64_t b) { return b > UINT64_MAX - a ? UINT64_MAX : a + b; }

/** How much of a command is wanted in one piece: all of it, but with file data only the part before that. */
size_t HeadSize(const uint8_t* head) {
  const size_t command_size = CommandSize(head);
  const bool has_data = Type(head) == kWrite || Type(head) == kEncodedWrite;
  return has_data ? std::min(command_size, kDataHead) : command_size;
}

/** The kernel computes it with zeros in the place of the checksum. */
uint32_t Crc(const uint8_t* head, size_t size) {
  uint8_t header[kCommandHeader] = {};
  std::memcpy(header, head, 6);
  const uint32_t crc = crc32c::Extend(0, header, sizeof header);
  return crc32c::Extend(crc, head + kCommandHeader, size - kCommandHeader);
}

}  // namespace

uint64_t ParsedCommand::Number(Attribute attribute) const {
  return ReadNumber(values[attribute].data, values[attribute].size);
}

Uuid ParsedCommand::AsUuid(Attribute attribute) const {
  Uuid uuid;
  std::memcpy(uuid.data(), values[attribute].data, uuid.size());
  return uuid;
}

std::string_view ParsedCommand::Text(Attribute attribute) const {
  return {reinterpret_cast<const char*>(values[attribute].data), values[attribute].size};
}

void Parser::Feed(const uint8_t* data, size_t size) {
  while (size > 0 && !failure_) {
    const size_t used = left_ > 0 ? FeedRest(data, size) : FeedHead(data, size);
    bytes_ += used;
    data += used;
    size -= used;
  }
}

void Parser::Finish() {
  if (failure_) return;
  if (bytes_ == 0) {
    Refuse("there is nothing");
  } else if (version_ == 0) {
    start_ = bytes_;
    Refuse("the end comes inside the header,");
  } else if (!head_.empty()) {
    Refuse("the end comes inside the command");
  } else if (!ended_) {
    start_ = bytes_;
    Refuse("the end comes without an END command");
  }
}

size_t Parser::FeedHead(const uint8_t* data, size_t size) {
  if (!head_.empty()) return Gather(data, size);
  start_ = bytes_;
  if (ended_) {
    Refuse("there is something after the END command");
    return 0;
  }
  if (version_ == 0 || size < kCommandHeader) return Gather(data, size);
  if (!CheckCommandHeader(data)) return 0;
  const size_t command_size = CommandSize(data);
  if (command_size > size) return Gather(data, size);
  Accept(data, command_size, Crc(data, command_size));
  return command_size;
}

size_t Parser::Gather(const uint8_t* data, size_t size) {
  const size_t wanted = version_ == 0                   ? kStreamHeader
                        : head_.size() < kCommandHeader ? kCommandHeader
                                                        : HeadSize(head_.data());
  const size_t taken = std::min(size, wanted - head_.size());
  head_.insert(head_.end(), data, data + taken);
  if (head_.size() < wanted) return taken;
  if (version_ == 0) {
    ReadStreamHeader();
  } else if (CheckCommandHeader(head_.data()) && head_.size() == HeadSize(head_.data())) {
    StartGathered();
  }
  return taken;
}

size_t Parser::FeedRest(const uint8_t* data, size_t size) {
  const size_t taken = std::min(size, left_);
  crc_ = crc32c::Extend(crc_, data, taken);
  left_ -= taken;
  if (left_ > 0) return taken;
  Accept(head_.data(), head_.size(), crc_);
  head_.clear();
  return taken;
}

void Parser::ReadStreamHeader() {
  if (std::memcmp(head_.data(), kMagic, sizeof kMagic) != 0) {
    Refuse("there is no btrfs send header");
    return;
  }
  version_ = static_cast<uint32_t>(ReadNumber(head_.data() + sizeof kMagic, 4));
  if (version_ == 0 || version_ > newest_version_) {
    const std::string known = newest_version_ == kUsualVersion ? "1 and 2" : "1 to 3";
    Refuse("protocol version " + std::to_string(version_) + " is not known here (only " + known + "),");
    return;
  }
  estimated_bytes_ = kStreamHeader;
  head_.clear();
}

void Parser::StartGathered() {
  crc_ = Crc(head_.data(), head_.size());
  left_ = CommandSize(head_.data()) - head_.size();
  if (left_ > 0) return;
  Accept(head_.data(), head_.size(), crc_);
  head_.clear();
}

bool Parser::CheckCommandHeader(const uint8_t* head) {
  const size_t command = Type(head);
  if (command == 0 || command > LastCommand(version_)) return Refuse("unknown command " + std::to_string(command));
  const bool is_first = command == kSubvol || command == kSnapshot;
  if (!identity_ && !is_first) return RefuseIn(command, "a start without SUBVOL or SNAPSHOT");
  if (identity_ && is_first) return RefuseIn(command, "a second snapshot starts");
  if (DeclaredSize(head) > (version_ == 1 ? kMaxCommand1 : kMaxCommand2)) return RefuseIn(command, "impossible length");
  return true;
}

/** @param head - the command; only its file data may be missing, which is in the checksum already */
void Parser::Accept(const uint8_t* head, size_t head_size, uint32_t crc) {
  ParsedCommand command;
  command.type = Type(head);
  command.version = version_;
  command.start = start_;
  command.head = head;
  if (crc != Checksum(head)) {
    RefuseIn(command.type, "wrong checksum");
    return;
  }
  if (!ReadAttributes(head_size, command)) return;
  if (!identity_ && !ReadIdentity(command)) return;
  Count(command);
  ended_ = command.type == kEnd;
  if (listener_ != nullptr) listener_->Take(command);
}

bool Parser::ReadAttributes(size_t head_size, ParsedCommand& command) {
  const uint8_t* head = command.head;
  const uint64_t required = RequiredAttributes(command.type, version_);
  const uint64_t allowed = required | OptionalAttributes(command.type);
  const size_t command_size = CommandSize(head);
  size_t at = kCommandHeader;
  while (at < command_size) {
    // From version 2 on file data has no length of its own: it extends to the end of the command.
    const bool bare = version_ >= 2 && at + 2 <= head_size && ReadNumber(head + at, 2) == kData;
    const size_t value = at + (bare ? 2 : 4);
    if (value > head_size) return RefuseIn(command.type, "an attribute is cut short");
    const size_t type = static_cast<size_t>(ReadNumber(head + at, 2));
    const size_t size = bare ? command_size - value : static_cast<size_t>(ReadNumber(head + at + 2, 2));
    if (type >= kAttributes || (allowed >> type & 1) == 0) {
      return RefuseIn(command.type, "unexpected attribute", type);
    }
    if ((command.seen >> type & 1) != 0) return RefuseIn(command.type, "repeated attribute", type);
    // File data comes last; of everything else all bytes are here.
    const bool fits = type == kData ? value + size == command_size : value + size <= head_size;
    const bool sane = size >= LengthsOf(type).min && size <= LengthsOf(type).max;
    if (!fits || !sane) return RefuseIn(command.type, "wrong length of attribute", type);
    if (IsPath(command.type, type) && !CheckPath(command.type, {head + value, size})) return false;
    command.values[type] = {head + value, size};
    command.seen |= uint64_t{1} << type;
    at = value + size;
  }
  const uint64_t missing = required & ~command.seen;
  return missing == 0 || RefuseIn(command.type, "missing attribute", static_cast<size_t>(__builtin_ctzll(missing)));
}

bool Parser::CheckPath(size_t command, const ParsedCommand::Value& path) {
  if (command == kSubvol || command == kSnapshot) {
    const bool is_name = IsCleanName(path.data, path.size) && std::memchr(path.data, '/', path.size) == nullptr;
    return is_name || RefuseIn(command, "an impossible name");
  }
  if (path.size == 0 && TakesRoot(command)) return true;
  return IsCleanPath(path.data, path.size) || RefuseIn(command, "a path that leads out of the snapshot, or is none,");
}

bool Parser::ReadIdentity(const ParsedCommand& command) {
  Identity identity{std::string(command.Text(kPath)), command.AsUuid(kUuid), command.Number(kCtransid), std::nullopt,
                    0};
  if (command.type == kSnapshot) {
    identity.clone_uuid = command.AsUuid(kCloneUuid);
    identity.clone_ctransid = command.Number(kCloneCtransid);
  }
  const bool nameless = identity.uuid == Uuid{} || identity.clone_uuid == std::optional(Uuid{});
  if (nameless) return RefuseIn(command.type, "a UUID of zeros");
  // Nor could a double hold it exactly, which is what JS has.
  const uint64_t higher = std::max(identity.ctransid, identity.clone_ctransid);
  if (higher >> 53 != 0) return RefuseIn(command.type, "an impossibly high transaction id");
  identity_ = std::move(identity);
  return true;
}

void Parser::Count(const ParsedCommand& command) {
  const size_t size = CommandSize(command.head);
  tallies_[command.type].count++;
  tallies_[command.type].bytes += size;
  if (command.type != kUpdateExtent) {
    estimated_bytes_ = AddWithoutOverflow(estimated_bytes_, size);
    return;
  }
  // Around the data of one WRITE stand, beside the path: header 10, PATH 4, FILE_OFFSET 12, DATA 4 (from version 2: 2).
  const uint64_t around = (version_ == 1 ? 30 : 28) + command.values[kPath].size;
  const uint64_t max = version_ == 1 ? kMaxWrite1 : kMaxWrite2;
  const uint64_t data = command.Number(kSize);
  const uint64_t writes = data / max + (data % max != 0 ? 1 : 0);
  // `around` is below 2^13, and `writes` below 2^49.
  estimated_bytes_ = AddWithoutOverflow(estimated_bytes_, AddWithoutOverflow(data, writes * around));
}

/** False, as the callers' own answer. */
bool Parser::Refuse(const std::string& sentence) {
  failure_ = Failure{sentence + " at byte " + std::to_string(start_) + " of the send stream", start_};
  return false;
}

bool Parser::RefuseIn(size_t command, const std::string& problem) {
  return Refuse(problem + " in the " + CommandName(command) + " command");
}

bool Parser::RefuseIn(size_t command, const std::string& problem, size_t attribute) {
  return RefuseIn(command, problem + " " + std::to_string(attribute));
}

}  // namespace send_stream
