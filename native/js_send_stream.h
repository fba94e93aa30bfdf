// Send streams for JavaScript: their summary, and the Error about damage.
#pragma once

#include <napi.h>

#include "send_stream.h"

namespace js {

Napi::Object ToSummary(Napi::Env env, const send_stream::Parser& parser);

/** With the offset of the damage. */
Napi::Error ToDamage(Napi::Env env, const send_stream::Failure& failure);

}  // namespace js
