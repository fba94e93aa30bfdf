// Damages the streams of a chain at random, and replays them: damage of bytes, and complete commands left out, doubled
// or swapped. The sanitizers must report nothing; a stream in pieces must give the same tree as in one; all that can
// be asked of a tree is asked, and must agree with itself. First, the ordered map is compared with std::map.
//
//   cmake-js compile --directory native --out native/build/sanitized --CDSANITIZE=ON
//   native/build/sanitized/tree-fuzz SEED ROUNDS STREAM...    (each stream builds on one before it, or is full)

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "damaged-stream.h"
#include "tree_replay.h"
#include "tree_walk.h"

namespace {

using fuzz::Below;
using fuzz::Random;

[[noreturn]] void Fail(const char* what, long round) {
  std::printf("round %ld: %s\n", round, what);
  std::fflush(stdout);
  std::_Exit(1);
}

void Check(bool right, const char* what, long round) {
  if (!right) Fail(what, round);
}

std::string RandomText(Random& random) {
  std::string text(Below(random, Below(random, 8) == 0 ? 270 : 6), 0);
  for (char& byte : text) byte = static_cast<char>(Below(random, 3) == 0 ? random() : 'a' + Below(random, 3));
  return text;
}

void Compare(const PageTree& tree, const std::map<std::string, std::string>& map, long round) {
  PageTree::Cursor cursor(tree, {});
  for (const auto& [key, value] : map) {
    Check(!cursor.at_end() && cursor.key() == key && cursor.value() == value, "the map lost an item", round);
    cursor.Next();
  }
  Check(cursor.at_end(), "the map has an item too many", round);
}

/** Copies must keep what they had when the original changes. */
void FuzzMap(Random& random, long round) {
  PageTree tree, copy;
  std::map<std::string, std::string> map, copied;
  for (size_t steps = Below(random, 4000); steps > 0; steps--) {
    const std::string key = RandomText(random);
    const size_t action = Below(random, 100);
    if (action < 55) {
      const std::string value(Below(random, Below(random, 10) == 0 ? 1024 : 20), static_cast<char>(random()));
      tree.Put(key, value);
      map[key] = value;
    } else if (action < 98) {
      const auto next = map.lower_bound(key);
      const std::string gone = next == map.end() ? key : next->first;
      Check(tree.Erase(gone) == (map.erase(gone) == 1), "the map erased another item", round);
    } else {
      copy = tree;
      copied = map;
    }
  }
  Compare(tree, map, round);
  Compare(copy, copied, round);
  const std::string key = RandomText(random);
  const PageTree::Cursor cursor(tree, key);
  const auto next = map.lower_bound(key);
  Check(cursor.at_end() ? next == map.end() : next != map.end() && cursor.key() == next->first, "a search", round);
}

struct Replayed {
  std::string verdict;
  std::optional<send_stream::Identity> identity;
  tree::Tree tree;
  tree::Problems problems;
};

Replayed Replay(const fuzz::Stream& bytes, uint32_t archive, const std::vector<tree::NamedTree>& ancestors,
                Random* random) {
  tree::Replayer replayer(archive, ancestors, size_t{1} << 28);
  send_stream::Parser parser(send_stream::kNewestVersion, &replayer);
  fuzz::FeedAll(parser, bytes, random);
  const std::string verdict = parser.failure() ? parser.failure()->sentence : replayer.refusal().value_or("good");
  return {verdict, parser.identity(), replayer.tree(), replayer.problems()};
}

/** Extents lie one behind the other, within the file, and their pieces are all of them. */
void CheckExtents(const tree::Tree& tree, const tree::Entry& entry, long round) {
  uint64_t end = 0;
  for (tree::Tree::Extents each(tree, entry.id); !each.at_end(); each.Next()) {
    const tree::Extent extent = each.Get();
    Check(extent.offset >= end && extent.length > 0, "extents overlap", round);
    end = extent.end();
    uint64_t at = extent.offset;
    size_t pieces = 0;
    if (extent.kind != tree::Extent::kPlain) continue;
    if (extent.piece != 0 && extent.length / extent.piece > 100000) continue;
    extent.ForEachPiece([&](uint64_t offset, uint64_t, uint64_t length) {
      Check(offset == at && length > 0, "the pieces of an extent have gaps", round);
      at += length;
      pieces++;
    });
    Check(at == extent.end(), "the pieces of an extent are not all of it", round);
  }
  Check(end <= entry.inode.size, "an extent ends behind its file", round);
}

void CheckTree(const tree::Tree& tree, long round) {
  if (tree.inodes() == 0) return;  // no command was good
  std::map<tree::Id, uint64_t> names;
  tree::Walk walk(tree, "", true);
  std::string before;
  while (const auto entry = walk.Next()) {
    Check(tree.Find(entry->path) == entry->id, "a path leads elsewhere", round);
    Check(entry->inode.mode != 0, "a name without an inode", round);
    names[entry->id]++;
    if (entry->inode.IsFile()) CheckExtents(tree, *entry, round);
    if (entry->inode.IsLink()) Check(tree.Target(entry->id).size() == entry->inode.size, "the length of a link", round);
    tree.ForEachXattr(entry->id, [&](Bytes name, const std::string&) { Check(!name.empty(), "a nameless xattr", round); });
  }
  if (walk.too_deep() > 0) return;
  Check(names.size() + 1 == tree.inodes(), "inodes without a name", round);
  for (const auto& [id, count] : names) Check(tree.Read(id)->links == count, "wrong number of links", round);
}

std::string Describe(const tree::Tree& one, const tree::Tree& other, long round) {
  tree::Comparison comparison(one, other, true);
  std::string text;
  for (std::optional<tree::Change> change; comparison.Step(change);) {
    if (!change) continue;
    Check(change->before || change->after, "a change of nothing", round);
    text += change->path + "\n";
  }
  return text;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) return 2;
  Random random(std::strtoull(arguments[1], nullptr, 10));
  const long rounds = std::atol(arguments[2]);
  std::vector<fuzz::Stream> streams;
  for (int i = 3; i < count; i++) streams.push_back(fuzz::ReadStream(arguments[i]));
  for (long round = 0; round < rounds / 20 + 1; round++) FuzzMap(random, round);
  std::vector<tree::NamedTree> whole;
  for (const fuzz::Stream& stream : streams) {
    const Replayed replayed = Replay(stream, static_cast<uint32_t>(whole.size()), whole, nullptr);
    Check(replayed.verdict == "good" && replayed.problems.count == 0, "a stream is not good to begin with", -1);
    CheckTree(replayed.tree, -1);
    whole.push_back({replayed.identity->uuid, replayed.identity->ctransid, replayed.tree});
  }
  long good = 0, troubled = 0;
  for (long round = 0; round < rounds; round++) {
    const size_t which = Below(random, streams.size());
    const fuzz::Stream bytes =
        Below(random, 2) == 0 ? fuzz::Shuffle(random, streams[which]) : fuzz::Damage(random, streams[which]);
    const uint32_t archive = static_cast<uint32_t>(which);
    const Replayed unsplit = Replay(bytes, archive, whole, nullptr);
    const Replayed pieces = Replay(bytes, archive, whole, &random);
    Check(unsplit.verdict == pieces.verdict, "another verdict in pieces", round);
    Check(unsplit.problems.sentences == pieces.problems.sentences, "other problems in pieces", round);
    Check(Describe(unsplit.tree, pieces.tree, round).empty(), "another tree in pieces", round);
    CheckTree(unsplit.tree, round);
    Describe(whole[Below(random, whole.size())].tree, unsplit.tree, round);
    good += unsplit.verdict == "good";
    troubled += unsplit.problems.count > 0;
  }
  // What was there before must not have changed.
  for (const tree::NamedTree& each : whole) CheckTree(each.tree, rounds);
  std::printf("%ld rounds, %ld streams still good, %ld with problems\n", rounds, good, troubled);
}
