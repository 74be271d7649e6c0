//! Paths of JSON patches.

use super::{Context, Row, row, take};
use crate::value::{Outcome, Value};

pub(crate) const PATCHES: &[Row] =
    &[row("string_jsonpatch_escapeKey_string", "jsonpatch.escapeKey(string) -> string", escape_key)];

/// A key as a step of an RFC 6901 pointer.
fn escape_key<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(key)] => Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))))
}
