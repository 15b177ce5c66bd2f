//! A point in time, as people write it.

use crate::codec::timespan;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// What may be written.
const RULE: &str =
    "write a time as 2h, 30min, 3d, today, yesterday, 2026-11-25, '2026-11-25 03:00', 03:00 or @1764039600";

/// Microseconds since 1970.
pub(super) fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<u64, String> {
    let text = text.trim();
    let here = now.to_zoned(zone.clone());
    let at =
        word(text, &here).or_else(|| seconds(text)).or_else(|| span(text, now)).or_else(|| date(text, &here));
    let at = at.ok_or(RULE)?;
    // What is before 1970 is before everything.
    Ok(u64::try_from(at.as_microsecond()).unwrap_or(0))
}

fn word(text: &str, here: &Zoned) -> Option<Timestamp> {
    let day = match text {
        "now" => return Some(here.timestamp()),
        "today" => here.clone(),
        "yesterday" => here.checked_sub(1.day()).ok()?,
        _ => return None,
    };
    Some(day.start_of_day().ok()?.timestamp())
}

/// `@1764039600`
fn seconds(text: &str) -> Option<Timestamp> {
    Timestamp::from_second(text.strip_prefix('@')?.parse().ok()?).ok()
}

/// So long ago; a bare number could be anything.
fn span(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.strip_suffix("ago").unwrap_or(text).trim_end();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let span = timespan::parse(text).ok()??;
    now.checked_sub(span).ok()
}

/// A day, a day and a time, or a time of today; in this zone unless it says another.
fn date(text: &str, here: &Zoned) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let at = match text.parse::<DateTime>() {
        Ok(at) => at,
        // Four digits would be a time too.
        Err(_) if !text.contains(':') => return None,
        Err(_) => here.date().to_datetime(text.parse::<Time>().ok()?),
    };
    // A time that a clock put forward leaves out, or put back has twice, is the usual one.
    Some(here.time_zone().to_ambiguous_zoned(at).compatible().ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noon of 25 November 2026 in a zone that is two hours ahead.
    fn parsed(text: &str) -> Result<String, String> {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let at = parse(text, now, &zone)?;
        Ok(Timestamp::from_microsecond(i64::try_from(at).unwrap()).unwrap().to_string())
    }

    #[test]
    fn people_write_times_in_many_ways() {
        for (text, at) in [
            ("now", "2026-11-25T10:00:00Z"),
            ("2h", "2026-11-25T08:00:00Z"),
            ("30min", "2026-11-25T09:30:00Z"),
            ("1h 30min", "2026-11-25T08:30:00Z"),
            ("2h ago", "2026-11-25T08:00:00Z"),
            ("3d", "2026-11-22T10:00:00Z"),
            ("today", "2026-11-24T22:00:00Z"),
            ("yesterday", "2026-11-23T22:00:00Z"),
            ("2026-11-20", "2026-11-19T22:00:00Z"),
            ("2026-11-25 03:00", "2026-11-25T01:00:00Z"),
            ("2026-11-25T03:00:30", "2026-11-25T01:00:30Z"),
            ("2026-11-25T03:00:00Z", "2026-11-25T03:00:00Z"),
            ("2026-11-25T03:00:00+05:00", "2026-11-24T22:00:00Z"),
            ("03:00", "2026-11-25T01:00:00Z"),
            ("@1764039600", "2025-11-25T03:00:00Z"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(at), "{text}");
        }
        assert_eq!(parse("1950-01-01", Timestamp::UNIX_EPOCH, &TimeZone::UTC), Ok(0));
    }

    #[test]
    fn what_is_no_time_is_told_how_to_write_one() {
        for text in
            ["", "7", "2026", "soon", "2026-13-01", "2026-11-25 25:00", "@x", "-2h", "infinity", "ago"]
        {
            assert_eq!(parsed(text), Err(RULE.to_owned()), "{text}");
        }
    }
}
