#include "js_send_stream.h"

#include <algorithm>
#include <optional>

#include "js_exports.h"
#include "js_values.h"

namespace js {
namespace {

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

}  // namespace

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

void ExportSendStreams(Napi::Env env, Napi::Object exports) {
  exports["SendStreamChecker"] = SendStreamChecker::Define(env);
  exports["peekIdentity"] = Napi::Function::New(env, PeekIdentity, "peekIdentity");
}

}  // namespace js
