// Trees of snapshots for JavaScript: a reader that makes one of a send stream, and what can be asked of it. Trees and
// walks are handles that only the functions here understand.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "js_exports.h"
#include "js_send_stream.h"
#include "js_values.h"
#include "tree_replay.h"
#include "tree_walk.h"

namespace js {
namespace {

using tree::Tree;

/** Entries that are looked at for each one that is wanted, before the event loop gets its turn. */
constexpr size_t kStepsForOne = 16;

template <typename Native>
Napi::Value ToHandle(Napi::Env env, Native native) {
  return Napi::External<Native>::New(env, new Native(std::move(native)), [](Napi::Env, Native* data) { delete data; });
}

template <typename Native>
Native& FromHandle(const Napi::Value& handle) {
  return *handle.As<Napi::External<Native>>().Data();
}

bool AreHandles(const Napi::CallbackInfo& call, size_t count) {
  for (size_t at = 0; at < count; at++) {
    if (!call[at].IsExternal()) return false;
  }
  return true;
}

Napi::Value ToBytes(Napi::Env env, Bytes bytes) { return Napi::Buffer<char>::Copy(env, bytes.data(), bytes.size()); }

/** Adds a name as text and, where that is only an approximation, as bytes. */
void SetText(Napi::Object object, const char* name, const char* raw_name, const std::string& bytes) {
  object[name] = Napi::String::New(object.Env(), bytes);
  object[raw_name] = IsUtf8(bytes) ? object.Env().Null() : ToBytes(object.Env(), bytes);
}

Napi::Value ToTime(Napi::Env env, const tree::Time& time) {
  Napi::Object object = Napi::Object::New(env);
  object["seconds"] = Napi::Number::New(env, static_cast<double>(time.seconds));
  object["nanoseconds"] = Napi::Number::New(env, time.nanoseconds);
  return object;
}

Napi::Object ToInode(Napi::Env env, const tree::Inode& inode) {
  Napi::Object object = Napi::Object::New(env);
  object["mode"] = ToNumber(env, inode.mode);
  object["uid"] = ToNumber(env, inode.uid);
  object["gid"] = ToNumber(env, inode.gid);
  object["links"] = ToNumber(env, inode.links);
  object["size"] = ToNumber(env, inode.size);
  object["device"] = ToNumber(env, inode.device);
  object["atime"] = ToTime(env, inode.atime);
  object["mtime"] = ToTime(env, inode.mtime);
  object["ctime"] = ToTime(env, inode.ctime);
  object["otime"] = inode.otime ? ToTime(env, *inode.otime) : env.Null();
  return object;
}

Napi::Object ToEntry(Napi::Env env, const Tree& tree, const tree::Entry& entry) {
  Napi::Object object = ToInode(env, entry.inode);
  SetText(object, "path", "rawPath", entry.path);
  object["id"] = ToNumber(env, entry.id);
  object["target"] = env.Null();
  if (entry.inode.IsLink()) SetText(object, "target", "rawTarget", tree.Target(entry.id));
  return object;
}

/** Makes a tree of a send stream, which it checks as a SendStreamChecker does. */
class TreeReader final : public Napi::ObjectWrap<TreeReader> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "TreeReader",
        {InstanceMethod<&TreeReader::Push>("push"), InstanceMethod<&TreeReader::Finish>("finish"),
         InstanceMethod<&TreeReader::Summary>("summary"), InstanceMethod<&TreeReader::Refusal>("refusal"),
         InstanceMethod<&TreeReader::Problems>("problems"), InstanceMethod<&TreeReader::TakeTree>("tree")});
  }

  /** (archive, [{ handle, uuid, ctransid }], mostMemory) */
  explicit TreeReader(const Napi::CallbackInfo& call) : Napi::ObjectWrap<TreeReader>(call) {
    if (!call[0].IsNumber() || !call[1].IsArray() || !call[2].IsNumber()) {
      Refuse(call.Env(), "TreeReader takes a number, ancestors, and a number of bytes");
      return;
    }
    std::vector<tree::NamedTree> ancestors;
    const auto given = call[1].As<Napi::Array>();
    for (uint32_t i = 0; i < given.Length(); i++) {
      const auto each = Napi::Value(given[i]).As<Napi::Object>();
      const auto uuid = ParseUuid(Napi::Value(each["uuid"]).ToString().Utf8Value());
      const Napi::Value handle = each["handle"];
      if (!uuid || !handle.IsExternal()) {
        Refuse(call.Env(), "an ancestor is a tree with a UUID");
        return;
      }
      const double ctransid = Napi::Value(each["ctransid"]).ToNumber().DoubleValue();
      ancestors.push_back({*uuid, static_cast<uint64_t>(ctransid), FromHandle<Tree>(handle)});
    }
    const double most_memory = call[2].As<Napi::Number>().DoubleValue();
    replayer_ = std::make_unique<tree::Replayer>(call[0].As<Napi::Number>().Uint32Value(), std::move(ancestors),
                                                 static_cast<size_t>(most_memory));
    parser_ = std::make_unique<send_stream::Parser>(send_stream::kNewestVersion, replayer_.get());
  }

 private:
  Napi::Value Push(const Napi::CallbackInfo& call) {
    if (!call[0].IsBuffer()) return Refuse(call.Env(), "push takes a Buffer");
    const auto bytes = call[0].As<Napi::Buffer<uint8_t>>();
    parser_->Feed(bytes.Data(), bytes.Length());
    return Answer(call.Env());
  }

  Napi::Value Finish(const Napi::CallbackInfo& call) {
    parser_->Finish();
    return Answer(call.Env());
  }

  Napi::Value Summary(const Napi::CallbackInfo& call) { return ToSummary(call.Env(), *parser_); }

  Napi::Value Refusal(const Napi::CallbackInfo& call) {
    const auto& refusal = replayer_->refusal();
    return refusal ? Napi::Value(Napi::String::New(call.Env(), *refusal)) : call.Env().Null();
  }

  Napi::Value Problems(const Napi::CallbackInfo& call) {
    const tree::Problems& problems = replayer_->problems();
    Napi::Array sentences = Napi::Array::New(call.Env(), problems.sentences.size());
    for (size_t i = 0; i < problems.sentences.size(); i++) {
      sentences[static_cast<uint32_t>(i)] = Napi::String::New(call.Env(), problems.sentences[i]);
    }
    Napi::Object object = Napi::Object::New(call.Env());
    object["count"] = ToNumber(call.Env(), problems.count);
    object["sentences"] = sentences;
    return object;
  }

  Napi::Value TakeTree(const Napi::CallbackInfo& call) { return ToHandle(call.Env(), Tree(replayer_->tree())); }

  Napi::Value Answer(Napi::Env env) const {
    if (!parser_->failure()) return env.Undefined();
    ToDamage(env, *parser_->failure()).ThrowAsJavaScriptException();
    return env.Undefined();
  }

  std::unique_ptr<tree::Replayer> replayer_;
  std::unique_ptr<send_stream::Parser> parser_;
};

/** (tree, path): its entry, or null. */
Napi::Value TreeFind(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 1)) return Refuse(call.Env(), "a tree is expected");
  const Tree& tree = FromHandle<Tree>(call[0]);
  const std::string path = call[1].ToString().Utf8Value();
  const tree::Id id = tree.Find(path);
  const auto inode = tree.Read(id);
  return inode ? Napi::Value(ToEntry(call.Env(), tree, {path, id, *inode})) : call.Env().Null();
}

/** (tree, id): its extended attributes. */
Napi::Value TreeXattrs(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 1)) return Refuse(call.Env(), "a tree is expected");
  const Napi::Env env = call.Env();
  Napi::Array all = Napi::Array::New(env);
  FromHandle<Tree>(call[0]).ForEachXattr(call[1].ToNumber().Uint32Value(), [&](Bytes name, const std::string& value) {
    Napi::Object object = Napi::Object::New(env);
    object["name"] = ToBytes(env, name);
    object["value"] = ToBytes(env, value);
    all[all.Length()] = object;
  });
  return all;
}

Napi::Object ToExtent(Napi::Env env, const tree::Extent& extent) {
  static constexpr const char* kKinds[] = {"plain", "encoded", "nowhere"};
  Napi::Object object = Napi::Object::New(env);
  object["kind"] = Napi::String::New(env, kKinds[extent.kind]);
  object["offset"] = ToNumber(env, extent.offset);
  object["length"] = ToNumber(env, extent.length);
  object["archive"] = ToNumber(env, extent.archive);
  object["position"] = ToNumber(env, extent.position);
  object["piece"] = ToNumber(env, extent.piece);
  object["gap"] = ToNumber(env, extent.gap);
  object["skip"] = ToNumber(env, extent.skip);
  object["stored"] = ToNumber(env, extent.stored);
  object["decoded"] = ToNumber(env, extent.decoded);
  object["compression"] = ToNumber(env, extent.compression);
  return object;
}

/** (tree, id, from, limit): at most so many extents of a file, those that end behind `from`. */
Napi::Value TreeExtents(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 1)) return Refuse(call.Env(), "a tree is expected");
  const double from = std::max(0.0, call[2].ToNumber().DoubleValue());
  const uint32_t limit = call[3].ToNumber().Uint32Value();
  Napi::Array extents = Napi::Array::New(call.Env());
  tree::Tree::Extents each(FromHandle<Tree>(call[0]), call[1].ToNumber().Uint32Value(), static_cast<uint64_t>(from));
  for (; !each.at_end() && extents.Length() < limit; each.Next()) {
    extents[extents.Length()] = ToExtent(call.Env(), each.Get());
  }
  return extents;
}

/** A walk that shows only what fits one of the patterns; without patterns everything. */
struct Search {
  Tree tree;
  tree::Walk walk;
  std::vector<Glob> patterns;

  bool Fits(const std::string& path) const {
    const auto fits = [&](const Glob& glob) { return glob.Matches(path); };
    return patterns.empty() || std::any_of(patterns.begin(), patterns.end(), fits);
  }
};

/** (tree, path, recursive, patterns, ignoresCase) */
Napi::Value OpenWalk(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 1) || !call[3].IsArray()) return Refuse(call.Env(), "a tree and patterns are expected");
  const Tree& tree = FromHandle<Tree>(call[0]);
  Search search{tree, tree::Walk(tree, call[1].ToString().Utf8Value(), call[2].ToBoolean()), {}};
  const auto patterns = call[3].As<Napi::Array>();
  for (uint32_t i = 0; i < patterns.Length(); i++) {
    search.patterns.emplace_back(Napi::Value(patterns[i]).ToString().Utf8Value(), call[4].ToBoolean());
  }
  return ToHandle(call.Env(), std::move(search));
}

Napi::Object ToBatch(Napi::Array items, bool done, uint64_t too_deep) {
  Napi::Object batch = Napi::Object::New(items.Env());
  batch["items"] = items;
  batch["done"] = Napi::Boolean::New(items.Env(), done);
  batch["tooDeep"] = ToNumber(items.Env(), too_deep);
  return batch;
}

/** (walk, limit): at most so many entries. */
Napi::Value WalkNext(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 1)) return Refuse(call.Env(), "a walk is expected");
  Search& search = FromHandle<Search>(call[0]);
  const uint32_t limit = call[1].ToNumber().Uint32Value();
  Napi::Array items = Napi::Array::New(call.Env());
  bool done = false;
  for (size_t steps = kStepsForOne * limit; steps > 0 && !done && items.Length() < limit; steps--) {
    const auto entry = search.walk.Next();
    done = !entry;
    if (!done && search.Fits(entry->path)) items[items.Length()] = ToEntry(call.Env(), search.tree, *entry);
  }
  return ToBatch(items, done, search.walk.too_deep());
}

/** (tree, tree, related) */
Napi::Value OpenComparison(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 2)) return Refuse(call.Env(), "two trees are expected");
  const Tree& before = FromHandle<Tree>(call[0]);
  const Tree& after = FromHandle<Tree>(call[1]);
  return ToHandle(call.Env(), tree::Comparison(before, after, call[2].ToBoolean()));
}

Napi::Object ToChange(Napi::Env env, const tree::Change& change) {
  Napi::Object object = Napi::Object::New(env);
  SetText(object, "path", "rawPath", change.path);
  object["before"] = change.before ? Napi::Value(ToInode(env, *change.before)) : env.Null();
  object["after"] = change.after ? Napi::Value(ToInode(env, *change.after)) : env.Null();
  object["type"] = Napi::Boolean::New(env, change.type);
  object["content"] = Napi::Boolean::New(env, change.content);
  object["metadata"] = Napi::Boolean::New(env, change.metadata);
  return object;
}

/** (comparison, limit): at most so many changes. */
Napi::Value ComparisonNext(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 1)) return Refuse(call.Env(), "a comparison is expected");
  auto& comparison = FromHandle<tree::Comparison>(call[0]);
  const uint32_t limit = call[1].ToNumber().Uint32Value();
  Napi::Array items = Napi::Array::New(call.Env());
  bool done = false;
  for (size_t steps = kStepsForOne * limit; steps > 0 && !done && items.Length() < limit; steps--) {
    std::optional<tree::Change> change;
    done = !comparison.Step(change);
    if (change) items[items.Length()] = ToChange(call.Env(), *change);
  }
  return ToBatch(items, done, comparison.too_deep());
}

/** (tree): forgets what is in it, and gives its memory back. */
Napi::Value CloseTree(const Napi::CallbackInfo& call) {
  if (!AreHandles(call, 1)) return Refuse(call.Env(), "a tree is expected");
  FromHandle<Tree>(call[0]) = Tree();
  return call.Env().Undefined();
}

Napi::Value TreeMemory(const Napi::CallbackInfo& call) { return ToNumber(call.Env(), PageTree::Memory()); }

}  // namespace

void ExportTrees(Napi::Env env, Napi::Object exports) {
  exports["TreeReader"] = TreeReader::Define(env);
  exports["treeFind"] = Napi::Function::New(env, TreeFind, "treeFind");
  exports["treeXattrs"] = Napi::Function::New(env, TreeXattrs, "treeXattrs");
  exports["treeExtents"] = Napi::Function::New(env, TreeExtents, "treeExtents");
  exports["openWalk"] = Napi::Function::New(env, OpenWalk, "openWalk");
  exports["walkNext"] = Napi::Function::New(env, WalkNext, "walkNext");
  exports["openComparison"] = Napi::Function::New(env, OpenComparison, "openComparison");
  exports["comparisonNext"] = Napi::Function::New(env, ComparisonNext, "comparisonNext");
  exports["closeTree"] = Napi::Function::New(env, CloseTree, "closeTree");
  exports["treeMemory"] = Napi::Function::New(env, TreeMemory, "treeMemory");
}

}  // namespace js
