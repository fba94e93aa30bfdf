// An ordered map from byte strings to byte strings that can be copied in no time: a B-tree whose pages are shared by
// the copies until one of them changes. Pages take what their items need, and hold at most 4 KiB. Reference counts are
// not atomic: all copies belong to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

using Bytes = std::string_view;

class PageTree {
 public:
  /** The longest key and value together. */
  static constexpr size_t kMaxItem = 1500;

  PageTree() = default;
  ~PageTree();
  PageTree(const PageTree& other);
  PageTree(PageTree&& other) noexcept;
  PageTree& operator=(PageTree other) noexcept;

  /** The value, valid until this map changes; false when there is none. */
  bool Get(Bytes key, Bytes& value) const;

  /** Inserts or replaces. */
  void Put(Bytes key, Bytes value);

  /** False when there was none. */
  bool Erase(Bytes key);

  /** Bytes that all maps of this process take together. */
  static size_t Memory();

 private:
  struct Page;
  struct Place {
    Page* page;
    size_t item;
  };

 public:
  /** Walks through the items in the order of their keys. Valid until the map changes or ends. */
  class Cursor {
   public:
    /** At the first item whose key is not below `key`. */
    Cursor(const PageTree& tree, Bytes key);

    bool at_end() const { return places_.empty(); }
    Bytes key() const;
    Bytes value() const;
    void Next();

   private:
    void SkipEnds();

    std::vector<Place> places_;
  };

 private:
  static void Release(Page* page);
  static void MakeUnique(Page*& page);
  static Page* Insert(Page*& page, Bytes key, Bytes value);
  static Page* Split(Page*& page, bool appended);
  static void Remove(Page*& page, Bytes key);
  static void MergeAround(Page*& parent, size_t item);

  Page* root_ = nullptr;
};
