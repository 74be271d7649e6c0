//! When a cron expression is due: five fields, names for months and days, `@hourly` and the like, `@every 1h30m`, and a zone
//! before it (`TZ=`).

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    zone: TimeZone,
    due: Due,
}

#[derive(Clone, Debug)]
enum Due {
    Every(SignedDuration),
    At(Box<Fields>),
}

#[derive(Clone, Debug)]
struct Fields {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    bits: u64,
    /// It says nothing: the other one of the two that name days decides alone.
    star: bool,
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits >> value & 1 == 1)
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Years that are searched for a day that may not come, such as the 30th of February.
const YEARS: i16 = 5;

impl Schedule {
    /// `zone` is of an expression that names none.
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Schedule, String> {
        let prefixed = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        let (zone, text) = match prefixed {
            Some(rest) => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                let zone = TimeZone::get(name);
                let zone =
                    zone.map_err(|_| format!("provided bad location {name}: unknown time zone {name}"))?;
                (zone, text)
            }
            None => (zone, text),
        };
        let text = text.trim();
        if let Some(descriptor) = text.strip_prefix('@') {
            return Ok(Schedule { zone, due: described(descriptor)? });
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        };
        let fields = Fields {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            weekdays: field(weekdays, 0, 6, &WEEKDAYS)?,
        };
        Ok(Schedule { zone, due: Due::At(Box::new(fields)) })
    }

    /// The first time after this one; None where there is none for years.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let whole = Timestamp::from_second(after.as_second()).ok()?;
        let fields = match &self.due {
            Due::Every(delay) => return whole.checked_add(*delay).ok(),
            Due::At(fields) => fields,
        };
        let mut time = whole.checked_add(SignedDuration::from_secs(1)).ok()?.to_zoned(self.zone.clone());
        let last = time.year().saturating_add(YEARS);
        while time.year() <= last {
            let second = i64::from(time.second());
            let past_hour = i64::from(time.minute()) * 60 + second;
            time = if !fields.months.has(time.month()) {
                self.begin(time.date().first_of_month().checked_add(1.month()).ok()?)?
            } else if !fields.is_on(time.date()) {
                self.begin(time.date().tomorrow().ok()?)?
            } else if !fields.hours.has(time.hour()) {
                later(&time, 3600 - past_hour)?
            } else if !fields.minutes.has(time.minute()) || second != 0 {
                later(&time, 60 - second)?
            } else {
                return Some(time.timestamp());
            };
        }
        None
    }

    fn begin(&self, date: Date) -> Option<Zoned> {
        date.to_zoned(self.zone.clone()).ok()
    }
}

/// By the clock that does not jump, so that an hour that comes twice is due twice, and one that is left out is not.
fn later(time: &Zoned, seconds: i64) -> Option<Zoned> {
    time.checked_add(SignedDuration::from_secs(seconds)).ok()
}

impl Fields {
    fn is_on(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        if self.days.star || self.weekdays.star { day && weekday } else { day || weekday }
    }
}

fn described(descriptor: &str) -> Result<Due, String> {
    let fields = match descriptor {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        other => {
            let Some(text) = other.strip_prefix("every ") else {
                return Err(format!("unrecognized descriptor: @{descriptor}"));
            };
            let delay: daemon::flags::Duration =
                text.parse().map_err(|error| format!("failed to parse duration @{descriptor}: {error}"))?;
            let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX).max(1);
            return Ok(Due::Every(SignedDuration::from_secs(seconds)));
        }
    };
    Schedule::parse(fields, TimeZone::UTC).map(|schedule| schedule.due)
}

fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Result<Field, String> {
    let mut field = Field { bits: 0, star: false };
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step, &[], 0)?)),
            None => (part, None),
        };
        let (low, high) = if matches!(range, "*" | "?") {
            field.star |= step.is_none_or(|step| step <= 1);
            (least, most)
        } else {
            match range.split_once('-') {
                Some((low, high)) => (number(low, names, least)?, number(high, names, least)?),
                None => {
                    let low = number(range, names, least)?;
                    (low, if step.is_some() { most } else { low })
                }
            }
        };
        let step = step.unwrap_or(1);
        if low < least {
            return Err(format!("beginning of range ({low}) below minimum ({least}): {part}"));
        }
        if high > most {
            return Err(format!("end of range ({high}) above maximum ({most}): {part}"));
        }
        if low > high {
            return Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        (low..=high).step_by(step as usize).for_each(|value| field.bits |= 1 << value);
    }
    Ok(field)
}

fn number(text: &str, names: &[&str], least: u32) -> Result<u32, String> {
    let name = names.iter().zip(least..).find(|(name, _)| name.eq_ignore_ascii_case(text));
    match name {
        Some((_, number)) => Ok(number),
        None => text.parse().map_err(|_| {
            format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, after: &str, expect: &str) {
        let schedule = Schedule::parse(text, TimeZone::UTC).unwrap();
        let next = schedule.next(after.parse().unwrap()).map(|next| next.to_string()).unwrap_or_default();
        assert_eq!(next, expect, "{text} after {after}");
    }

    #[test]
    fn times() {
        check("*/15 * * * *", "2026-07-09T14:45:00Z", "2026-07-09T15:00:00Z");
        check("*/15 * * * *", "2026-07-09T14:59:59.5Z", "2026-07-09T15:00:00Z");
        check("20-35/15 * * * *", "2026-07-09T14:45:00Z", "2026-07-09T15:20:00Z");
        check("0 0 * Feb Mon", "2026-07-09T14:45:00Z", "2027-02-01T00:00:00Z");
        check("0 0 1 * mon", "2026-07-09T14:45:00Z", "2026-07-13T00:00:00Z");
        check("0 0 */1 * mon", "2026-07-07T14:45:00Z", "2026-07-13T00:00:00Z");
        check("5/20 1 ? * *", "2026-07-09T01:05:00Z", "2026-07-09T01:25:00Z");
        check("@hourly", "2026-07-09T14:45:10Z", "2026-07-09T15:00:00Z");
        check("@weekly", "2026-07-09T14:45:10Z", "2026-07-12T00:00:00Z");
        check("@every 1h30m", "2026-07-09T14:45:10.25Z", "2026-07-09T16:15:10Z");
        check("0 0 30 2 *", "2026-07-09T14:45:00Z", "");
        check("0 0 31 12 *", "2026-12-31T00:00:00Z", "2027-12-31T00:00:00Z");
    }

    #[test]
    fn zones_and_their_summers() {
        check("TZ=Asia/Tokyo 0 9 * * *", "2026-07-09T01:00:00Z", "2026-07-10T00:00:00Z");
        // Clocks go from 2 to 3: half past two is left out.
        check("TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z");
        // Clocks go from 3 to 2: half past two comes twice.
        check("TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z");
        check("TZ=Europe/Berlin 30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule() {
        let wrong =
            ["* * * *", "60 * * * *", "* * 0 * *", "5-1 * * * *", "*/0 * * * *", "* * * * 7", "x * * * *"];
        for text in wrong.into_iter().chain(["@often", "@every x", "TZ=Nowhere/None * * * * *"]) {
            assert!(Schedule::parse(text, TimeZone::UTC).is_err(), "{text}");
        }
    }
}
