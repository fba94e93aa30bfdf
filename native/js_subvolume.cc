// Subvolumes for JavaScript: records → objects, failures → Error.

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "device_errors.h"
#include "js_exports.h"
#include "js_values.h"
#include "subvolume.h"
#include "subvolume_change.h"
#include "worker.h"

namespace js {
namespace {

bool IsZero(const struct timespec& time) { return time.tv_sec == 0 && time.tv_nsec == 0; }

constexpr const char* kFields[] = {
    "id",       "parentId", "readOnly", "uuid",    "parentUuid", "receivedUuid", "generation", "ctransid",
    "otransid", "stransid", "rtransid", "ctimeNs", "otimeNs",    "rtimeNs",      "path",       "pathIsExact",
};

/** kFields as JS strings, made once per list: made for every row, they cost more than all the values. */
struct FieldNames {
  explicit FieldNames(Napi::Env env) {
    for (size_t i = 0; i < std::size(kFields); i++) values[i] = Napi::String::New(env, kFields[i]);
  }
  napi_value values[std::size(kFields)];
};

/** @param path - null: a record without path */
Napi::Object ToRecord(Napi::Env env, const FieldNames& names, const subvolume::Info& info, const std::string* path) {
  const napi_value values[std::size(kFields)] = {
      ToNumber(env, info.id),
      ToNumber(env, info.parent_id),
      Napi::Boolean::New(env, subvolume::IsReadOnly(info)),
      ToUuid(env, info.uuid),
      ToUuid(env, info.parent_uuid),
      ToUuid(env, info.received_uuid),
      ToNumber(env, info.generation),
      ToNumber(env, info.ctransid),
      ToNumber(env, info.otransid),
      ToNumber(env, info.stransid),
      ToNumber(env, info.rtransid),
      ToNanoseconds(env, info.ctime),
      ToNanoseconds(env, info.otime),
      IsZero(info.rtime) ? env.Null() : Napi::Value(ToNanoseconds(env, info.rtime)),
      path == nullptr ? nullptr : napi_value(Napi::String::New(env, *path)),
      path == nullptr ? nullptr : napi_value(Napi::Boolean::New(env, IsUtf8(*path))),
  };
  Napi::Object record = Napi::Object::New(env);
  for (size_t i = 0; i < std::size(kFields) && values[i] != nullptr; i++) {
    napi_set_property(env, record, names.values[i], values[i]);
  }
  return record;
}

Napi::Value ToInfo(Napi::Env env, const subvolume::Info& info) { return ToRecord(env, FieldNames(env), info, nullptr); }

Napi::Value ToList(Napi::Env env, const std::vector<subvolume::Listed>& listed) {
  const FieldNames names(env);
  Napi::Array array = Napi::Array::New(env, listed.size());
  for (size_t i = 0; i < listed.size(); i++) {
    const Napi::HandleScope scope(env);
    array[static_cast<uint32_t>(i)] = ToRecord(env, names, listed[i].info, &listed[i].path);
  }
  return array;
}

Napi::Value ToError(Napi::Env env, const subvolume::Failure& failure, const std::string& path) {
  Napi::Object error = Napi::Error::New(env, subvolume::Sentence(failure, path)).Value();
  error["code"] = Napi::String::New(env, subvolume::ErrnoName(failure.number));
  error["errno"] = Napi::Number::New(env, -failure.number);
  error["btrfsCode"] = Napi::String::New(env, subvolume::CodeName(failure.code));
  error["syscall"] = Napi::String::New(env, failure.call);
  error["path"] = Napi::String::New(env, path);
  return error;
}

/** `compute` on the thread pool; a promise of what `resolve` makes of its answer, or of an error with this path. */
template <typename Value>
Napi::Value Run(Napi::Env env, const std::string& path, std::function<subvolume::Outcome(Value&)> compute,
                std::function<Napi::Value(Napi::Env, const Value&)> resolve) {
  auto reject = [path](Napi::Env at, const subvolume::Failure& failure) { return ToError(at, failure, path); };
  return Worker<Value, subvolume::Failure>::Run(env, {std::move(compute), std::move(resolve), std::move(reject)});
}

/** For calls that return nothing but success. */
Napi::Value RunPlain(const Napi::CallbackInfo& call, subvolume::Outcome (*action)(const std::string&)) {
  const auto path = ReadPathArgument(call);
  if (!path) return call.Env().Undefined();
  return Run<bool>(
      call.Env(), *path, [path = *path, action](bool&) { return action(path); },
      [](Napi::Env env, const bool&) { return env.Undefined(); });
}

Napi::Value ListSubvolumes(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  if (!call[1].IsObject() && !call[1].IsUndefined()) return Refuse(env, "options must be an object");
  const Napi::Object options = call[1].IsObject() ? call[1].As<Napi::Object>() : Napi::Object::New(env);
  // Where a getter has thrown there is no value, and its error is pending: nothing may be thrown on top of it.
  const Napi::Value top_value = options.Get("top");
  if (top_value.IsEmpty()) return env.Undefined();
  const auto top = ReadId(env, top_value, subvolume::kTopLevel);
  if (!top) return env.Undefined();
  subvolume::Filter filter;
  const Napi::Value read_only = options.Get("readOnly");
  if (read_only.IsEmpty()) return env.Undefined();
  if (read_only.IsBoolean()) filter.read_only = read_only.As<Napi::Boolean>().Value();
  const Napi::Value parent_uuid = options.Get("parentUuid");
  if (parent_uuid.IsEmpty()) return env.Undefined();
  if (parent_uuid.IsString()) filter.parent_uuid = ParseUuid(parent_uuid.As<Napi::String>());
  if (!filter.parent_uuid && !parent_uuid.IsUndefined()) return Refuse(env, "parentUuid must be a UUID");
  if (!filter.read_only && !read_only.IsUndefined()) return Refuse(env, "readOnly must be a boolean");
  using List = std::vector<subvolume::Listed>;
  return Run<List>(
      env, *path, [path = *path, top = *top, filter](List& list) { return subvolume::List(path, top, filter, list); },
      ToList);
}

Napi::Value SubvolumeInfo(const Napi::CallbackInfo& call) {
  const auto path = ReadPathArgument(call);
  if (!path) return call.Env().Undefined();
  const auto id = ReadId(call.Env(), call[1], 0);
  if (!id) return call.Env().Undefined();
  using Info = subvolume::Info;
  return Run<Info>(
      call.Env(), *path, [path = *path, id = *id](Info& info) { return subvolume::ReadInfo(path, id, info); }, ToInfo);
}

Napi::Value SubvolumePath(const Napi::CallbackInfo& call) {
  const auto path = ReadPathArgument(call);
  if (!path) return call.Env().Undefined();
  const auto id = ReadId(call.Env(), call[1], 0);
  if (!id) return call.Env().Undefined();
  return Run<std::string>(
      call.Env(), *path, [path = *path, id = *id](std::string& found) { return subvolume::ReadPath(path, id, found); },
      [](Napi::Env env, const std::string& found) { return Napi::String::New(env, found); });
}

Napi::Value IsSubvolume(const Napi::CallbackInfo& call) {
  const auto path = ReadPathArgument(call);
  if (!path) return call.Env().Undefined();
  return Run<bool>(
      call.Env(), *path, [path = *path](bool& answer) { return subvolume::IsSubvolume(path, answer); },
      [](Napi::Env env, const bool& answer) { return Napi::Boolean::New(env, answer); });
}

Napi::Value SyncFilesystem(const Napi::CallbackInfo& call) { return RunPlain(call, subvolume::Sync); }

Napi::Value DeleteSubvolume(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  const std::string name = call[1].IsString() ? call[1].As<Napi::String>().Utf8Value() : std::string();
  const auto id = ReadId(env, call[2], 0);
  if (!id) return env.Undefined();
  const bool is_name = !name.empty() && name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
  if (!is_name || *id <= subvolume::kTopLevel)
    return Refuse(env, "deleteSubvolume takes a name and the id of a subvolume");
  return Run<bool>(
      env, *path, [path = *path, name, id = *id](bool&) { return subvolume::Delete(path, name, id); },
      [](Napi::Env at, const bool&) { return at.Undefined(); });
}

Napi::Value SetReadOnly(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  if (!call[1].IsBoolean()) return Refuse(env, "setReadOnly takes a boolean");
  const bool read_only = call[1].As<Napi::Boolean>().Value();
  return Run<bool>(
      env, *path, [path = *path, read_only](bool&) { return subvolume::SetReadOnly(path, read_only); },
      [](Napi::Env at, const bool&) { return at.Undefined(); });
}

Napi::Value SetReceived(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  const auto uuid = call[1].IsString() ? ParseUuid(call[1].As<Napi::String>()) : std::nullopt;
  const auto transid = ReadId(env, call[2], 0);
  if (!transid) return env.Undefined();
  if (!uuid) return Refuse(env, "setReceived takes a UUID and a transaction id");
  return Run<bool>(
      env, *path,
      [path = *path, uuid = *uuid, transid = *transid](bool&) { return subvolume::SetReceived(path, uuid, transid); },
      [](Napi::Env at, const bool&) { return at.Undefined(); });
}

Napi::Value OpenInode(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  const auto id = ReadId(env, call[1], 0);
  if (!id) return env.Undefined();
  const auto inode = ReadId(env, call[2], 0);
  if (!inode) return env.Undefined();
  return Run<int>(
      env, *path,
      [path = *path, id = *id, inode = *inode](int& found) { return subvolume::OpenInode(path, id, inode, found); },
      [](Napi::Env at, const int& found) { return Napi::Number::New(at, found); });
}

Napi::Value ReadAttribute(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  if (!call[1].IsString()) return Refuse(env, "readAttribute takes the name of an attribute");
  using Value = std::optional<std::vector<uint8_t>>;
  return Run<Value>(
      env, *path,
      [path = *path, name = call[1].As<Napi::String>().Utf8Value()](Value& value) {
        return subvolume::ReadAttribute(path, name, value);
      },
      [](Napi::Env at, const Value& value) -> Napi::Value {
        if (!value) return at.Null();
        return Napi::Buffer<uint8_t>::Copy(at, value->data(), value->size());
      });
}

Napi::Value FindChange(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  const auto id = ReadId(env, call[1], 0);
  if (!id) return env.Undefined();
  using Found = std::optional<subvolume::Change>;
  return Run<Found>(
      env, *path, [path = *path, id = *id](Found& found) { return subvolume::FindChange(path, id, found); },
      [](Napi::Env at, const Found& found) -> Napi::Value {
        if (!found) return at.Null();
        Napi::Object change = Napi::Object::New(at);
        change["inode"] = ToNumber(at, found->inode);
        change["transid"] = ToNumber(at, found->transid);
        change["timeNs"] = ToNanoseconds(at, found->time);
        return change;
      });
}

constexpr const char* kCounters[] = {"write", "read", "flush", "corruption", "generation"};

Napi::Value ReadDeviceErrors(const Napi::CallbackInfo& call) {
  const auto path = ReadPathArgument(call);
  if (!path) return call.Env().Undefined();
  using Devices = std::vector<subvolume::DeviceErrors>;
  return Run<Devices>(
      call.Env(), *path, [path = *path](Devices& devices) { return subvolume::ReadDeviceErrors(path, devices); },
      [](Napi::Env at, const Devices& devices) -> Napi::Value {
        Napi::Array array = Napi::Array::New(at, devices.size());
        for (size_t i = 0; i < devices.size(); i++) {
          Napi::Object device = Napi::Object::New(at);
          device["id"] = ToNumber(at, devices[i].id);
          device["path"] = Napi::String::New(at, devices[i].path);
          for (size_t n = 0; n < std::size(kCounters); n++) device[kCounters[n]] = ToNumber(at, devices[i].counts[n]);
          array[static_cast<uint32_t>(i)] = device;
        }
        return array;
      });
}

Napi::Value SyncOpened(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  if (!call[1].IsNumber()) return Refuse(env, "syncOpened takes a descriptor");
  const int descriptor = call[1].As<Napi::Number>().Int32Value();
  return Run<bool>(
      env, *path, [descriptor](bool&) { return subvolume::SyncOpened(descriptor); },
      [](Napi::Env at, const bool&) { return at.Undefined(); });
}

}  // namespace

void ExportSubvolumes(Napi::Env env, Napi::Object exports) {
  exports["listSubvolumes"] = Napi::Function::New(env, ListSubvolumes, "listSubvolumes");
  exports["subvolumeInfo"] = Napi::Function::New(env, SubvolumeInfo, "subvolumeInfo");
  exports["subvolumePath"] = Napi::Function::New(env, SubvolumePath, "subvolumePath");
  exports["isSubvolume"] = Napi::Function::New(env, IsSubvolume, "isSubvolume");
  exports["syncFilesystem"] = Napi::Function::New(env, SyncFilesystem, "syncFilesystem");
  exports["deleteSubvolume"] = Napi::Function::New(env, DeleteSubvolume, "deleteSubvolume");
  exports["setReadOnly"] = Napi::Function::New(env, SetReadOnly, "setReadOnly");
  exports["setReceived"] = Napi::Function::New(env, SetReceived, "setReceived");
  exports["openInode"] = Napi::Function::New(env, OpenInode, "openInode");
  exports["readAttribute"] = Napi::Function::New(env, ReadAttribute, "readAttribute");
  exports["findChange"] = Napi::Function::New(env, FindChange, "findChange");
  exports["readDeviceErrors"] = Napi::Function::New(env, ReadDeviceErrors, "readDeviceErrors");
  exports["syncOpened"] = Napi::Function::New(env, SyncOpened, "syncOpened");
}

}  // namespace js
