//! Parts of timestamps and durations.

use jiff::tz::{Offset, TimeZone};

use super::{Context, Row, row};
use crate::error::EvalError;
use crate::text;
use crate::value::{Outcome, Timestamp, Value};

pub(crate) const ROWS: &[Row] = &[
    row("timestamp_to_year", ".getFullYear(timestamp) -> int", year),
    row("timestamp_to_year_with_tz", ".getFullYear(timestamp, string) -> int", year),
    row("timestamp_to_month", ".getMonth(timestamp) -> int", month),
    row("timestamp_to_month_with_tz", ".getMonth(timestamp, string) -> int", month),
    row("timestamp_to_day_of_year", ".getDayOfYear(timestamp) -> int", day_of_year),
    row("timestamp_to_day_of_year_with_tz", ".getDayOfYear(timestamp, string) -> int", day_of_year),
    row("timestamp_to_day_of_month", ".getDayOfMonth(timestamp) -> int", day_of_month),
    row("timestamp_to_day_of_month_with_tz", ".getDayOfMonth(timestamp, string) -> int", day_of_month),
    row("timestamp_to_day_of_month_1_based", ".getDate(timestamp) -> int", date),
    row("timestamp_to_day_of_month_1_based_with_tz", ".getDate(timestamp, string) -> int", date),
    row("timestamp_to_day_of_week", ".getDayOfWeek(timestamp) -> int", day_of_week),
    row("timestamp_to_day_of_week_with_tz", ".getDayOfWeek(timestamp, string) -> int", day_of_week),
    row("timestamp_to_hours", ".getHours(timestamp) -> int", hours),
    row("timestamp_to_hours_with_tz", ".getHours(timestamp, string) -> int", hours),
    row("duration_to_hours", ".getHours(duration) -> int", hours),
    row("timestamp_to_minutes", ".getMinutes(timestamp) -> int", minutes),
    row("timestamp_to_minutes_with_tz", ".getMinutes(timestamp, string) -> int", minutes),
    row("duration_to_minutes", ".getMinutes(duration) -> int", minutes),
    row("timestamp_to_seconds", ".getSeconds(timestamp) -> int", seconds),
    row("timestamp_to_seconds_tz", ".getSeconds(timestamp, string) -> int", seconds),
    row("duration_to_seconds", ".getSeconds(duration) -> int", seconds),
    row("timestamp_to_milliseconds", ".getMilliseconds(timestamp) -> int", milliseconds),
    row("timestamp_to_milliseconds_with_tz", ".getMilliseconds(timestamp, string) -> int", milliseconds),
    row("duration_to_milliseconds", ".getMilliseconds(duration) -> int", milliseconds),
];

/// The zone of a name, or of an offset such as `-08:00`.
fn zone(name: &str) -> Outcome<TimeZone> {
    let unknown = || EvalError::message(format!("unknown time zone {name}"));
    if let Some((hours, minutes)) = name.split_once(':') {
        let wrong = |part: &str| {
            EvalError::message(format!("strconv.Atoi: parsing {}: invalid syntax", text::quote(part)))
        };
        let hours: i32 = hours.parse().map_err(|_| wrong(hours))?;
        let minutes: i32 = minutes.parse().map_err(|_| wrong(minutes))?;
        let minutes = if name.starts_with('-') { -minutes } else { minutes };
        let seconds = hours.checked_mul(3_600).and_then(|hours| hours.checked_add(minutes.checked_mul(60)?));
        let offset = Offset::from_seconds(seconds.ok_or_else(unknown)?).map_err(|_| unknown())?;
        return Ok(TimeZone::fixed(offset));
    }
    match name {
        "" | "UTC" | "Local" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| unknown()),
    }
}

/// What a part is taken of.
enum Of {
    Civil(jiff::civil::DateTime),
    /// In nanoseconds.
    Duration(i64),
}

fn read(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<Of> {
    let (at, zone) = match args {
        [Value::Duration(nanos)] => return Ok(Of::Duration(*nanos)),
        [Value::Timestamp(at)] => (at, TimeZone::UTC),
        [Value::Timestamp(at), Value::String(name)] => (at, zone(name)?),
        args => return Err(super::mismatch(context.function, args)),
    };
    let Timestamp { seconds, nanos } = *at;
    match jiff::Timestamp::new(seconds, nanos as i32) {
        Ok(at) => Ok(Of::Civil(zone.to_datetime(at))),
        Err(_) => Err(EvalError::message("timestamp overflow")),
    }
}

/// A part of a timestamp, or of a duration where these have it: whole units.
fn part<'v>(
    context: &Context<'_>,
    args: &[Value<'v>],
    of_time: fn(jiff::civil::DateTime) -> i64,
    unit: i64,
) -> Outcome<Value<'v>> {
    Ok(Value::Int(match read(context, args)? {
        Of::Civil(time) => of_time(time),
        Of::Duration(nanos) => nanos / unit,
    }))
}

fn year<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| time.year().into(), 1)
}

fn month<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| i64::from(time.month()) - 1, 1)
}

fn day_of_year<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| i64::from(time.day_of_year()) - 1, 1)
}

fn day_of_month<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| i64::from(time.day()) - 1, 1)
}

fn date<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| time.day().into(), 1)
}

fn day_of_week<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| time.weekday().to_sunday_zero_offset().into(), 1)
}

fn hours<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| time.hour().into(), 3_600_000_000_000)
}

fn minutes<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| time.minute().into(), 60_000_000_000)
}

fn seconds<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| time.second().into(), 1_000_000_000)
}

fn milliseconds<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    part(context, args, |time| time.millisecond().into(), 1_000_000)
}
