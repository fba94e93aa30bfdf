#include "page_tree.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

constexpr size_t kFull = 4096;
constexpr size_t kSparse = kFull / 4;
constexpr size_t kItemHead = 2 + 2;
/** Pages grow by so much. */
constexpr size_t kStep = 128;

size_t memory = 0;

}  // namespace

// Items lie at the beginning of `data`, in any order; their offsets, in the order of the keys, at its end, the first
// one last. An item is the lengths of key and value (2 bytes each), key, value. The value in an inner page is the
// pointer to a child, and the key its lowest; that of the first child counts as the lowest of all.
struct PageTree::Page {
  uint32_t references;
  uint16_t level;
  uint16_t count;
  uint16_t used;
  uint16_t capacity;
  uint8_t data[];

  static Page* Create(uint16_t level, size_t capacity) {
    Page* page = static_cast<Page*>(std::malloc(sizeof(Page) + capacity));
    if (page == nullptr) std::abort();
    memory += sizeof(Page) + capacity;
    *page = Page{1, level, 0, 0, static_cast<uint16_t>(capacity)};
    return page;
  }

  static void Free(Page* page) {
    memory -= sizeof(Page) + page->capacity;
    std::free(page);
  }

  /** A copy whose capacity is at least `room` more than what it holds. */
  Page* Copy(size_t room) const {
    const size_t needed = Size() + room;
    Page* copy = Create(level, (needed + kStep - 1) / kStep * kStep);
    copy->count = count;
    copy->used = used;
    std::memcpy(copy->data, data, used);
    std::memcpy(copy->data + copy->capacity - 2 * count, data + capacity - 2 * count, 2 * count);
    return copy;
  }

  size_t Size() const { return used + 2u * count; }

  uint16_t Read(size_t at) const {
    uint16_t number;
    std::memcpy(&number, data + at, 2);
    return number;
  }

  void Write(size_t at, size_t number) {
    const uint16_t narrow = static_cast<uint16_t>(number);
    std::memcpy(data + at, &narrow, 2);
  }

  size_t OffsetPlace(size_t item) const { return capacity - 2 * (item + 1); }
  size_t Offset(size_t item) const { return Read(OffsetPlace(item)); }
  size_t ItemSize(size_t item) const {
    const size_t at = Offset(item);
    return kItemHead + Read(at) + Read(at + 2);
  }

  Bytes Key(size_t item) const {
    const size_t at = Offset(item);
    return {reinterpret_cast<const char*>(data + at + kItemHead), Read(at)};
  }

  Bytes Value(size_t item) const {
    const size_t at = Offset(item);
    return {reinterpret_cast<const char*>(data + at + kItemHead + Read(at)), Read(at + 2)};
  }

  Page* Child(size_t item) const {
    Page* child;
    std::memcpy(&child, Value(item).data(), sizeof child);
    return child;
  }

  void SetChild(size_t item, Page* child) { std::memcpy(const_cast<char*>(Value(item).data()), &child, sizeof child); }

  /** The first item whose key is not below. */
  size_t LowerBound(Bytes key) const {
    size_t low = 0;
    for (size_t high = count; low < high;) {
      const size_t middle = (low + high) / 2;
      if (Key(middle) < key) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }

  /** The child in which a key belongs. */
  size_t ChildOf(Bytes key) const {
    const size_t at = LowerBound(key);
    const bool is_exact = at < count && Key(at) == key;
    return is_exact || at == 0 ? at : at - 1;
  }

  static void Add(Page*& page, size_t item, Bytes key, Bytes value) {
    const size_t size = kItemHead + key.size() + value.size();
    if (page->Size() + size + 2 > page->capacity) {
      Page* larger = page->Copy(size + 2);
      Free(page);
      page = larger;
    }
    Page& here = *page;
    const size_t at = here.used;
    here.Write(at, key.size());
    here.Write(at + 2, value.size());
    std::memcpy(here.data + at + kItemHead, key.data(), key.size());
    if (!value.empty()) std::memcpy(here.data + at + kItemHead + key.size(), value.data(), value.size());
    here.used = static_cast<uint16_t>(at + size);
    uint8_t* lowest = here.data + here.OffsetPlace(here.count);
    std::memmove(lowest, lowest + 2, 2 * (here.count - item));
    here.Write(here.OffsetPlace(item), at);
    here.count++;
  }

  void Drop(size_t item) {
    const size_t at = Offset(item);
    const size_t size = ItemSize(item);
    std::memmove(data + at, data + at + size, used - at - size);
    used = static_cast<uint16_t>(used - size);
    uint8_t* lowest = data + OffsetPlace(count - 1u);
    std::memmove(lowest + 2, lowest, 2 * (count - 1u - item));
    count--;
    for (size_t other = 0; other < count; other++) {
      const size_t offset = Offset(other);
      if (offset > at) Write(OffsetPlace(other), offset - size);
    }
  }
};

PageTree::~PageTree() { Release(root_); }

PageTree::PageTree(const PageTree& other) : root_(other.root_) {
  if (root_ != nullptr) root_->references++;
}

PageTree::PageTree(PageTree&& other) noexcept : root_(std::exchange(other.root_, nullptr)) {}

PageTree& PageTree::operator=(PageTree other) noexcept {
  std::swap(root_, other.root_);
  return *this;
}

size_t PageTree::Memory() { return memory; }

bool PageTree::Get(Bytes key, Bytes& value) const {
  const Page* page = root_;
  if (page == nullptr) return false;
  while (page->level > 0) page = page->Child(page->ChildOf(key));
  const size_t item = page->LowerBound(key);
  if (item == page->count || page->Key(item) != key) return false;
  value = page->Value(item);
  return true;
}

void PageTree::Put(Bytes key, Bytes value) {
  if (root_ == nullptr) root_ = Page::Create(0, kStep);
  Page* right = Insert(root_, key, value);
  if (right == nullptr) return;
  Page* above = Page::Create(static_cast<uint16_t>(root_->level + 1), kStep);
  for (Page* child : {root_, right}) {
    Page::Add(above, above->count, child->Key(0), {reinterpret_cast<const char*>(&child), sizeof child});
  }
  root_ = above;
}

bool PageTree::Erase(Bytes key) {
  Bytes value;
  if (!Get(key, value)) return false;
  Remove(root_, key);
  while (root_ != nullptr && root_->level > 0 && root_->count == 1) {
    Page* child = root_->Child(0);
    Page::Free(root_);
    root_ = child;
  }
  if (root_ != nullptr && root_->count == 0) {
    Page::Free(root_);
    root_ = nullptr;
  }
  return true;
}

// As deep as the tree is high: a dozen pages at most.
void PageTree::Release(Page* page) {
  if (page == nullptr || --page->references > 0) return;
  for (size_t item = 0; page->level > 0 && item < page->count; item++) Release(page->Child(item));
  Page::Free(page);
}

void PageTree::MakeUnique(Page*& page) {
  if (page->references == 1) return;
  Page* copy = page->Copy(0);
  for (size_t item = 0; page->level > 0 && item < page->count; item++) page->Child(item)->references++;
  page->references--;
  page = copy;
}

/** Returns what does not fit any more, as the page to the right; else null. */
PageTree::Page* PageTree::Insert(Page*& page, Bytes key, Bytes value) {
  MakeUnique(page);
  size_t item;
  if (page->level == 0) {
    item = page->LowerBound(key);
    if (item < page->count && page->Key(item) == key) page->Drop(item);
    Page::Add(page, item, key, value);
  } else {
    item = page->ChildOf(key);
    Page* child = page->Child(item);
    Page* right = Insert(child, key, value);
    page->SetChild(item, child);
    if (right == nullptr) return nullptr;
    Page::Add(page, ++item, right->Key(0), {reinterpret_cast<const char*>(&right), sizeof right});
  }
  return page->Size() > kFull ? Split(page, item + 1u == page->count) : nullptr;
}

/** @param appended - the items come in order, so that pages to the left stay full */
PageTree::Page* PageTree::Split(Page*& page, bool appended) {
  size_t from = page->count - 1u;
  for (size_t size = page->ItemSize(from); !appended && size < page->Size() / 2 && from > 1;) {
    size += page->ItemSize(--from) + 2;
  }
  Page* right = Page::Create(page->level, kStep);
  for (size_t item = from; item < page->count; item++) {
    Page::Add(right, right->count, page->Key(item), page->Value(item));
  }
  Page* left = Page::Create(page->level, kStep);
  for (size_t item = 0; item < from; item++) Page::Add(left, item, page->Key(item), page->Value(item));
  Page::Free(page);
  page = left;
  return right;
}

/** The key is there. */
void PageTree::Remove(Page*& page, Bytes key) {
  MakeUnique(page);
  if (page->level == 0) {
    page->Drop(page->LowerBound(key));
    return;
  }
  const size_t item = page->ChildOf(key);
  Page* child = page->Child(item);
  Remove(child, key);
  page->SetChild(item, child);
  if (child->Size() < kSparse) MergeAround(page, item);
}

/** Joins a sparse child with a neighbour, where both fit one page. */
void PageTree::MergeAround(Page*& parent, size_t item) {
  if (parent->Child(item)->count == 0) {
    Page::Free(parent->Child(item));
    parent->Drop(item);
    return;
  }
  if (parent->count == 1) return;
  const size_t left = item + 1u == parent->count ? item - 1 : item;
  Page* into = parent->Child(left);
  Page* from = parent->Child(left + 1);
  if (into->Size() + from->Size() > kFull * 3 / 4) return;
  MakeUnique(into);
  for (size_t each = 0; each < from->count; each++) {
    // The first child of an inner page may have keys below its own, but none below that by which its parent knows it.
    const Bytes key = each == 0 && from->level > 0 ? parent->Key(left + 1) : from->Key(each);
    Page::Add(into, into->count, key, from->Value(each));
    if (from->level > 0) from->Child(each)->references++;
  }
  Release(from);
  parent->SetChild(left, into);
  parent->Drop(left + 1);
}

PageTree::Cursor::Cursor(const PageTree& tree, Bytes key) {
  if (tree.root_ == nullptr) return;
  for (Page* page = tree.root_;;) {
    if (page->level == 0) {
      places_.push_back({page, page->LowerBound(key)});
      break;
    }
    const size_t item = page->ChildOf(key);
    places_.push_back({page, item});
    page = page->Child(item);
  }
  SkipEnds();
}

Bytes PageTree::Cursor::key() const { return places_.back().page->Key(places_.back().item); }

Bytes PageTree::Cursor::value() const { return places_.back().page->Value(places_.back().item); }

void PageTree::Cursor::Next() {
  places_.back().item++;
  SkipEnds();
}

void PageTree::Cursor::SkipEnds() {
  while (!places_.empty() && places_.back().item == places_.back().page->count) {
    places_.pop_back();
    if (!places_.empty()) places_.back().item++;
  }
  while (!places_.empty() && places_.back().page->level > 0) {
    Page* child = places_.back().page->Child(places_.back().item);
    places_.push_back({child, 0});
  }
}
