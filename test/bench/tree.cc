// Measures the model of a tree: bytes and time for each entry of a tree as a full stream builds it (a name that is
// renamed, one extent, owner, mode, times), and what a copy costs in which some files then change.
//
//   g++ -std=c++17 -O2 -Inative test/bench/tree.cc native/{page_tree,tree,tree_replay,tree_walk,glob,send_commands,send_stream,crc32c}.cc
//   ./a.out 10000000

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tree_replay.h"
#include "tree_walk.h"

namespace {

using send_stream::Attribute;
using send_stream::ParsedCommand;

/** A command with its values in memory of its own. */
class Made {
 public:
  explicit Made(size_t type, uint64_t start) {
    command_.type = type;
    command_.version = 2;
    command_.start = start;
    command_.head = reinterpret_cast<const uint8_t*>(memory_);
  }

  Made& Text(Attribute attribute, const std::string& text) { return Put(attribute, text.data(), text.size()); }
  Made& Number(Attribute attribute, uint64_t number) { return Put(attribute, &number, sizeof number); }
  Made& Time(Attribute attribute, uint64_t seconds, uint32_t nanoseconds) {
    char bytes[12];
    std::memcpy(bytes, &seconds, 8);
    std::memcpy(bytes + 8, &nanoseconds, 4);
    return Put(attribute, bytes, sizeof bytes);
  }

  const ParsedCommand& command() const { return command_; }

 private:
  Made& Put(Attribute attribute, const void* value, size_t size) {
    std::memcpy(memory_ + used_, value, std::min(size, sizeof memory_ - used_));
    command_.values[attribute] = {reinterpret_cast<const uint8_t*>(memory_ + used_), size};
    command_.seen |= uint64_t{1} << attribute;
    used_ += std::min(size, sizeof memory_ - used_);
    return *this;
  }

  ParsedCommand command_;
  char memory_[16384];
  size_t used_ = 0;
};

std::string DirectoryOf(uint64_t entry) {
  const uint64_t directory = entry / 40;
  return "dir-" + std::to_string(directory / 2500) + "/sub-" + std::to_string(directory % 2500);
}

void Times(tree::Replayer& replayer, const std::string& path, uint64_t entry, uint64_t at) {
  const uint64_t seconds = 1700000000 + entry / 100;
  const uint32_t nanoseconds = static_cast<uint32_t>(entry * 7919 % 1000000000);
  replayer.Take(Made(send_stream::kUtimes, at)
                    .Text(send_stream::kPath, path)
                    .Time(send_stream::kAtime, seconds, nanoseconds / 2)
                    .Time(send_stream::kMtime, seconds, nanoseconds)
                    .Time(send_stream::kCtime, seconds + 1, nanoseconds / 3)
                    .Time(send_stream::kOtime, seconds, nanoseconds / 2)
                    .command());
}

void MakeDirectory(tree::Replayer& replayer, const std::string& path, uint64_t at) {
  replayer.Take(Made(send_stream::kMkdir, at).Text(send_stream::kPath, path).command());
  Times(replayer, path, at, at);
}

/** Returns the bytes that the names take. */
uint64_t MakeEntry(tree::Replayer& replayer, uint64_t entry, uint64_t& at) {
  const std::string orphan = "o" + std::to_string(entry + 300) + "-7-0";
  const std::string directory = DirectoryOf(entry);
  const std::string path = directory + "/file-" + std::to_string(entry) + ".txt";
  if (entry % 100000 == 0) MakeDirectory(replayer, directory.substr(0, directory.find('/')), at);
  if (entry % 40 == 0) MakeDirectory(replayer, directory, at);
  replayer.Take(Made(send_stream::kMkfile, at).Text(send_stream::kPath, orphan).command());
  replayer.Take(
      Made(send_stream::kRename, at).Text(send_stream::kPath, orphan).Text(send_stream::kPathTo, path).command());
  const std::string data(1000 + entry % 7000, 'x');
  replayer.Take(Made(send_stream::kWrite, at)
                    .Text(send_stream::kPath, path)
                    .Number(send_stream::kFileOffset, 0)
                    .Text(send_stream::kData, data)
                    .command());
  at += data.size() + 300;
  replayer.Take(Made(send_stream::kChown, at)
                    .Text(send_stream::kPath, path)
                    .Number(send_stream::kUid, 1000)
                    .Number(send_stream::kGid, 1000)
                    .command());
  replayer.Take(
      Made(send_stream::kChmod, at).Text(send_stream::kPath, path).Number(send_stream::kMode, 0644).command());
  Times(replayer, path, entry, at);
  return path.size() - directory.size() - 1;
}

double Since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int count, char** arguments) {
  const uint64_t entries = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 1000000;
  const std::string uuid(16, 'u');
  tree::Replayer replayer(0, {}, SIZE_MAX);
  replayer.Take(Made(send_stream::kSubvol, 17).Text(send_stream::kUuid, uuid).Number(send_stream::kCtransid, 1).command());
  auto start = std::chrono::steady_clock::now();
  uint64_t names = 0;
  uint64_t at = 1000;
  for (uint64_t entry = 0; entry < entries; entry++) names += MakeEntry(replayer, entry, at);
  const double inodes = static_cast<double>(replayer.tree().inodes());
  const double memory = static_cast<double>(PageTree::Memory());
  std::printf("%.0f entries, names of %.1f bytes, %llu problems\n", inodes, names / inodes,
              static_cast<unsigned long long>(replayer.problems().count));
  std::printf("built: %.1f bytes an entry, %.1f beside its name, %.2f us\n", memory / inodes, (memory - names) / inodes,
              Since(start) / inodes * 1e6);
  start = std::chrono::steady_clock::now();
  tree::Walk walk(replayer.tree(), "", true);
  uint64_t seen = 0;
  while (walk.Next()) seen++;
  std::printf("walked: %llu entries, %.2f us each\n", static_cast<unsigned long long>(seen), Since(start) / inodes * 1e6);
  const std::string other(16, 'v');
  send_stream::Uuid parent;
  std::memcpy(parent.data(), uuid.data(), 16);
  tree::Replayer next(1, {{parent, 1, replayer.tree()}}, SIZE_MAX);
  next.Take(Made(send_stream::kSnapshot, 17)
                .Text(send_stream::kUuid, other)
                .Text(send_stream::kCloneUuid, uuid)
                .Number(send_stream::kCtransid, 2)
                .Number(send_stream::kCloneCtransid, 1)
                .command());
  for (uint64_t entry = 0; entry < entries; entry += 1000) {
    Times(next, DirectoryOf(entry) + "/file-" + std::to_string(entry) + ".txt", entry + 1, at);
  }
  const double changed = static_cast<double>((entries + 999) / 1000);
  std::printf("copied, every 1000th file changed: %.0f bytes for each of them\n",
              (static_cast<double>(PageTree::Memory()) - memory) / changed);
  start = std::chrono::steady_clock::now();
  tree::Comparison comparison(replayer.tree(), next.tree(), true);
  uint64_t changes = 0;
  for (std::optional<tree::Change> change; comparison.Step(change);) changes += change ? 1 : 0;
  std::printf("compared: %llu changes, %.2f us an entry\n", static_cast<unsigned long long>(changes),
              Since(start) / inodes * 1e6);
}
