// The JavaScript side of the addon: exports, records → objects, failures → Error. It converts and decides nothing.

#include <napi.h>
#include <pthread.h>

#include <cctype>
#include <cstring>
#include <memory>
#include <utility>
#include <variant>

#include "lock.h"
#include "md5.h"
#include "pipe.h"
#include "send_stream.h"
#include "subvolume.h"
#include "worker.h"

namespace {

using Bytes16 = std::array<uint8_t, 16>;

// ---- values

/** Lower-case 8-4-4-4-12, or null for the all-zero one, by which btrfs says "none". */
Napi::Value ToUuid(Napi::Env env, const uint8_t* bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  char text[36];
  size_t at = 0;
  bool zero = true;
  for (size_t i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text[at++] = '-';
    text[at++] = kDigits[bytes[i] >> 4];
    text[at++] = kDigits[bytes[i] & 15];
    zero = zero && bytes[i] == 0;
  }
  return zero ? env.Null() : Napi::Value(Napi::String::New(env, text, sizeof text));
}

std::optional<Bytes16> ParseUuid(const std::string& text) {
  Bytes16 bytes{};
  size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const int value = lower >= '0' && lower <= '9' ? lower - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    if (value < 0 || digits == 32) return std::nullopt;
    bytes[digits / 2] = static_cast<uint8_t>(bytes[digits / 2] << 4 | value);
    digits++;
  }
  return digits == 32 ? std::optional(bytes) : std::nullopt;
}

/** Ids are below 2^48 (the kernel refuses others) and transaction ids cannot get near 2^53: exact as doubles. */
Napi::Number ToNumber(Napi::Env env, uint64_t value) { return Napi::Number::New(env, static_cast<double>(value)); }

/** Nanoseconds since the epoch. */
Napi::BigInt ToNanoseconds(Napi::Env env, const struct timespec& time) {
  const uint64_t seconds = static_cast<uint64_t>(time.tv_sec);
  return Napi::BigInt::New(env, static_cast<int64_t>(seconds * 1000000000 + static_cast<uint64_t>(time.tv_nsec)));
}

bool IsZero(const struct timespec& time) { return time.tv_sec == 0 && time.tv_nsec == 0; }

/** True when JavaScript's string, which puts U+FFFD for what it cannot read, says exactly these bytes. */
bool IsUtf8(const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const auto first = static_cast<uint8_t>(text[at++]);
    if (first < 0x80) continue;
    const size_t more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4 || text.size() - at < more) return false;
    uint32_t point = first & (0x3F >> more);
    for (size_t i = 0; i < more; i++, at++) {
      const auto next = static_cast<uint8_t>(text[at]);
      if ((next & 0xC0) != 0x80) return false;
      point = point << 6 | (next & 0x3F);
    }
    const bool overlong = (more == 2 && point < 0x800) || (more == 3 && point < 0x10000);
    if (overlong || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF)) return false;
  }
  return true;
}

// ---- subvolumes

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

Napi::Value Refuse(Napi::Env env, const char* sentence) {
  Napi::TypeError::New(env, sentence).ThrowAsJavaScriptException();
  return env.Undefined();
}

/** The first argument; nothing (and a pending TypeError) unless it can be a path. */
std::optional<std::string> ReadPathArgument(const Napi::CallbackInfo& call) {
  std::string path = call[0].IsString() ? call[0].As<Napi::String>().Utf8Value() : std::string();
  const bool usable = !path.empty() && path.find('\0') == std::string::npos;
  if (usable) return path;
  Refuse(call.Env(), "path must be a string that is not empty and has no NUL");
  return std::nullopt;
}

/** An id, or `absent` where the argument is left out; nothing (and a pending TypeError) for anything else. */
std::optional<uint64_t> ReadId(Napi::Env env, const Napi::Value& value, uint64_t absent) {
  if (value.IsUndefined()) return absent;
  const double id = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (id >= 0 && id < 281474976710656.0 && id == static_cast<double>(static_cast<uint64_t>(id))) {
    return static_cast<uint64_t>(id);
  }
  Refuse(env, "a subvolume id must be a whole number below 2^48");
  return std::nullopt;
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

// ---- send stream

Napi::Value ToIdentity(Napi::Env env, uint32_t version, const std::optional<send_stream::Identity>& identity) {
  if (!identity) return env.Null();
  Napi::Object object = Napi::Object::New(env);
  object["version"] = ToNumber(env, version);
  object["kind"] = Napi::String::New(env, identity->clone_uuid ? "incremental" : "full");
  object["path"] = Napi::Buffer<char>::Copy(env, identity->path.data(), identity->path.size());
  object["uuid"] = ToUuid(env, identity->uuid.data());
  object["ctransid"] = ToNumber(env, identity->ctransid);
  object["cloneUuid"] = identity->clone_uuid ? ToUuid(env, identity->clone_uuid->data()) : env.Null();
  object["cloneCtransid"] = identity->clone_uuid ? Napi::Value(ToNumber(env, identity->clone_ctransid)) : env.Null();
  return object;
}

Napi::Object ToCommands(Napi::Env env, const send_stream::Parser& parser) {
  Napi::Object commands = Napi::Object::New(env);
  for (size_t command = 0; command < send_stream::kCommands; command++) {
    const send_stream::Tally& tally = parser.tallies()[command];
    if (tally.count == 0) continue;
    Napi::Object object = Napi::Object::New(env);
    object["count"] = ToNumber(env, tally.count);
    object["bytes"] = ToNumber(env, tally.bytes);
    commands[send_stream::CommandName(command)] = object;
  }
  return commands;
}

Napi::Object ToSummary(Napi::Env env, const send_stream::Parser& parser) {
  Napi::Object summary = Napi::Object::New(env);
  summary["identity"] = ToIdentity(env, parser.version(), parser.identity());
  summary["bytes"] = ToNumber(env, parser.bytes());
  summary["estimatedBytes"] = ToNumber(env, parser.estimated_bytes());
  summary["commands"] = ToCommands(env, parser);
  return summary;
}

Napi::Error ToDamage(Napi::Env env, const send_stream::Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.sentence);
  error.Set("offset", ToNumber(env, failure.offset));
  return error;
}

class SendStreamChecker final : public Napi::ObjectWrap<SendStreamChecker> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "SendStreamChecker",
        {InstanceMethod<&SendStreamChecker::Push>("push"), InstanceMethod<&SendStreamChecker::Finish>("finish"),
         InstanceMethod<&SendStreamChecker::Summary>("summary")});
  }

  explicit SendStreamChecker(const Napi::CallbackInfo& call) : Napi::ObjectWrap<SendStreamChecker>(call) {}

 private:
  Napi::Value Push(const Napi::CallbackInfo& call) {
    if (!call[0].IsBuffer()) return Refuse(call.Env(), "push takes a Buffer");
    const auto bytes = call[0].As<Napi::Buffer<uint8_t>>();
    parser_.Feed(bytes.Data(), bytes.Length());
    return Answer(call.Env());
  }

  Napi::Value Finish(const Napi::CallbackInfo& call) {
    parser_.Finish();
    return Answer(call.Env());
  }

  Napi::Value Summary(const Napi::CallbackInfo& call) { return ToSummary(call.Env(), parser_); }

  Napi::Value Answer(Napi::Env env) const {
    if (!parser_.failure()) return env.Undefined();
    ToDamage(env, *parser_.failure()).ThrowAsJavaScriptException();
    return env.Undefined();
  }

  send_stream::Parser parser_;
};

/** The identity, as soon as the first command is complete and its checksum right, whatever comes after it. */
Napi::Value PeekIdentity(const Napi::CallbackInfo& call) {
  if (!call[0].IsBuffer()) return Refuse(call.Env(), "peekIdentity takes a Buffer");
  const auto bytes = call[0].As<Napi::Buffer<uint8_t>>();
  send_stream::Parser parser;
  parser.Feed(bytes.Data(), std::min<size_t>(bytes.Length(), 4096));
  return ToIdentity(call.Env(), parser.version(), parser.identity());
}

// ---- locks

/** The descriptor of the locked file, or null when another process holds the lock. */
Napi::Value LockFile(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  const auto path = ReadPathArgument(call);
  if (!path) return env.Undefined();
  int descriptor = -1;
  if (const auto failure = lock::Take(*path, descriptor)) {
    const char* name = subvolume::ErrnoName(failure->number);
    Napi::Error error = Napi::Error::New(env, std::string(failure->call) + " of " + *path + " failed: " + name);
    error.Set("code", Napi::String::New(env, name));
    error.ThrowAsJavaScriptException();
    return env.Undefined();
  }
  return descriptor < 0 ? env.Null() : Napi::Value(Napi::Number::New(env, descriptor));
}

// ---- pipes

Napi::Value ThrowErrno(Napi::Env env, const char* call, int number) {
  Napi::Error error = Napi::Error::New(env, std::string(call) + ": " + std::strerror(number));
  error.Set("errno", Napi::Number::New(env, -number));
  error.ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value OpenPipe(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  if (!call[0].IsNumber()) return Refuse(env, "openPipe takes a size");
  const auto pipe = pipes::Open(call[0].As<Napi::Number>().Int32Value());
  if (!pipe) return ThrowErrno(env, "pipe2", errno);
  Napi::Object ends = Napi::Object::New(env);
  ends["readEnd"] = Napi::Number::New(env, pipe->read_end);
  ends["writeEnd"] = Napi::Number::New(env, pipe->write_end);
  return ends;
}

Napi::Value CountUnread(const Napi::CallbackInfo& call) {
  if (!call[0].IsNumber()) return Refuse(call.Env(), "countUnread takes a file descriptor");
  const int bytes = pipes::CountUnread(call[0].As<Napi::Number>().Int32Value());
  return bytes < 0 ? ThrowErrno(call.Env(), "FIONREAD", errno) : Napi::Number::New(call.Env(), bytes);
}

/** The failure, damage before all else, or null; and a summary of the stream. */
template <typename Machine>
void TellEnd(Napi::Env env, Napi::Function on_end, const Machine& machine) {
  Napi::Value failure = env.Null();
  const send_stream::Parser& parser = machine.source().parser();
  if (parser.failure())
    failure = ToDamage(env, *parser.failure()).Value();
  else if (machine.error() != 0)
    failure = Napi::Error::New(env, std::strerror(machine.error())).Value();
  on_end.Call({failure, ToSummary(env, parser)});
}

/** Work on a thread of its own, and the function that it calls. */
template <typename Machine>
struct Working {
  std::shared_ptr<Machine> machine;
  Napi::ThreadSafeFunction heard;
};

/**
 * A thread of its own, not one of libuv's few, which it would keep for hours. It delays nothing in the process but the
 * callers that wait for it, and dies with the process. By pthread and without make_shared: std::thread and
 * std::make_shared without RTTI ask for a newer libstdc++ than Node does. False (and a pending error) when there is no
 * thread.
 */
template <typename Machine>
bool StartThread(Napi::Env env, Working<Machine> working, void* (*run)(void*)) {
  auto given = std::make_unique<Working<Machine>>(working);
  pthread_t thread;
  const int refused = pthread_create(&thread, nullptr, run, given.get());
  if (refused != 0) {
    working.heard.Release();
    Refuse(env, std::strerror(refused));
    return false;
  }
  given.release();
  pthread_detach(thread);
  return true;
}

void* Move(void* given) {
  const std::unique_ptr<Working<pipes::StreamTee>> working(static_cast<Working<pipes::StreamTee>*>(given));
  const auto mover = working->machine;
  mover->Run();
  working->heard.BlockingCall([mover](Napi::Env at, Napi::Function on_end) { TellEnd(at, on_end, *mover); });
  working->heard.Release();
  return nullptr;
}

Napi::Value MoveSendStream(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  if (!call[0].IsNumber() || !call[1].IsNumber() || !call[2].IsFunction()) {
    return Refuse(env, "moveSendStream takes two ends of pipes and a function");
  }
  const std::shared_ptr<pipes::StreamTee> mover = std::make_unique<pipes::StreamTee>(
      call[0].As<Napi::Number>().Int32Value(), call[1].As<Napi::Number>().Int32Value());
  auto end = Napi::ThreadSafeFunction::New(env, call[2].As<Napi::Function>(), "moveSendStream", 0, 1);
  if (!StartThread<pipes::StreamTee>(env, {mover, end}, Move)) return env.Undefined();
  // The function that cancels it must not keep it: it is freed with its thread, not when garbage is collected.
  return Napi::Function::New(env, [running = std::weak_ptr<pipes::StreamTee>(mover)](const Napi::CallbackInfo&) {
    if (const auto found = running.lock()) found->Cancel();
  });
}

void* Serve(void* given) {
  const std::unique_ptr<Working<pipes::BufferReader>> working(static_cast<Working<pipes::BufferReader>*>(given));
  const auto filler = working->machine;
  filler->Serve([&](size_t size) {
    working->heard.BlockingCall([filler, size](Napi::Env at, Napi::Function on_filled) {
      if (size > 0)
        on_filled.Call({ToNumber(at, size)});
      else
        TellEnd(at, on_filled, *filler);
    });
  });
  working->heard.Release();
  return nullptr;
}

/** Reads a pipe into memory that JavaScript gives. */
class PipeReader final : public Napi::ObjectWrap<PipeReader> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "PipeReader",
                       {InstanceMethod<&PipeReader::Fill>("fill"), InstanceMethod<&PipeReader::Cancel>("cancel")});
  }

  explicit PipeReader(const Napi::CallbackInfo& call) : Napi::ObjectWrap<PipeReader>(call) {
    const Napi::Env env = call.Env();
    if (!call[0].IsNumber() || !call[1].IsBoolean() || !call[2].IsFunction()) {
      Refuse(env, "PipeReader takes the end of a pipe, whether it is checked, and a function");
      return;
    }
    const std::shared_ptr<pipes::BufferReader> filler = std::make_unique<pipes::BufferReader>(
        call[0].As<Napi::Number>().Int32Value(), call[1].As<Napi::Boolean>().Value());
    auto heard = Napi::ThreadSafeFunction::New(env, call[2].As<Napi::Function>(), "PipeReader", 0, 1);
    if (StartThread<pipes::BufferReader>(env, {filler, heard}, ::Serve)) filler_ = filler;
  }

 private:
  /** The caller keeps the memory until the answer. */
  Napi::Value Fill(const Napi::CallbackInfo& call) {
    if (!call[0].IsBuffer() || !call[1].IsBoolean())
      return Refuse(call.Env(), "fill takes a Buffer and whether to fill it");
    const auto memory = call[0].As<Napi::Buffer<uint8_t>>();
    const bool until_full = call[1].As<Napi::Boolean>().Value();
    if (const auto filler = filler_.lock()) filler->Ask({memory.Data(), memory.Length(), until_full});
    return call.Env().Undefined();
  }

  Napi::Value Cancel(const Napi::CallbackInfo& call) {
    if (const auto filler = filler_.lock()) filler->Cancel();
    return call.Env().Undefined();
  }

  /** Freed with its thread. */
  std::weak_ptr<pipes::BufferReader> filler_;
};

// ---- digests

using Digests = std::vector<md5::Digest>;

Napi::Value ToBuffers(Napi::Env env, const Digests& digests) {
  Napi::Array array = Napi::Array::New(env, digests.size());
  for (size_t i = 0; i < digests.size(); i++) {
    array[static_cast<uint32_t>(i)] = Napi::Buffer<uint8_t>::Copy(env, digests[i].data(), digests[i].size());
  }
  return array;
}

struct Hashing {
  std::vector<md5::Message> messages;
  /** A copy of the caller's array, which may change meanwhile: its elements must not be collected. */
  Napi::Reference<Napi::Array> views;
};

Napi::Value Md5s(const Napi::CallbackInfo& call) {
  const Napi::Env env = call.Env();
  constexpr const char* kTakes = "md5s takes an array of Uint8Arrays";
  if (!call[0].IsArray()) return Refuse(env, kTakes);
  const auto given = call[0].As<Napi::Array>();
  Napi::Array views = Napi::Array::New(env);
  const std::shared_ptr<Hashing> hashing = std::make_unique<Hashing>();
  for (uint32_t i = 0; i < given.Length(); i++) {
    const Napi::Value view = given[i];
    if (view.IsEmpty()) return env.Undefined();  // a getter has thrown
    const bool usable = view.IsTypedArray() && view.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
    if (!usable) return Refuse(env, kTakes);
    const auto bytes = view.As<Napi::Uint8Array>();
    hashing->messages.push_back({bytes.Data(), bytes.ByteLength()});
    views[i] = view;
  }
  hashing->views = Napi::Persistent(views);
  auto compute = [hashing](Digests& digests) {
    digests.resize(hashing->messages.size());
    md5::HashTogether(hashing->messages.data(), digests.size(), digests.data());
    return std::optional<std::monostate>();
  };
  return Worker<Digests, std::monostate>::Run(env, {std::move(compute), ToBuffers, nullptr});
}

// ---- exports

#define TEXT(token) #token
#define EXPANDED_TEXT(token) TEXT(token)
#define VERSION_TEXT(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

Napi::Object ToVersions(Napi::Env env) {
  Napi::Object versions = Napi::Object::New(env);
  versions["libbtrfsutil"] = Napi::String::New(
      env, VERSION_TEXT(BTRFS_UTIL_VERSION_MAJOR, BTRFS_UTIL_VERSION_MINOR, BTRFS_UTIL_VERSION_PATCH));
  versions["napi"] = ToNumber(env, NAPI_VERSION);
  versions["sources"] = Napi::String::New(env, EXPANDED_TEXT(ADDON_SOURCES));
  return versions;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
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
  exports["SendStreamChecker"] = SendStreamChecker::Define(env);
  exports["peekIdentity"] = Napi::Function::New(env, PeekIdentity, "peekIdentity");
  exports["lockFile"] = Napi::Function::New(env, LockFile, "lockFile");
  exports["openPipe"] = Napi::Function::New(env, OpenPipe, "openPipe");
  exports["countUnread"] = Napi::Function::New(env, CountUnread, "countUnread");
  exports["moveSendStream"] = Napi::Function::New(env, MoveSendStream, "moveSendStream");
  exports["PipeReader"] = PipeReader::Define(env);
  exports["md5s"] = Napi::Function::New(env, Md5s, "md5s");
  exports["versions"] = ToVersions(env);
  return exports;
}

}  // namespace

NODE_API_MODULE(btrfs, Init)
