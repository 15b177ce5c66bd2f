//! Times for people.

use std::time::Duration;

/// An age or a remaining time in one unit, as a table shows it: `40s`, `2min`, `58min`, `3h`, `12d`.
#[must_use]
pub fn coarse(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A measured time: `90us`, `2.31ms`, `140ms`, `1.42s`, `80s`, from two minutes on coarse.
#[must_use]
pub fn fine(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..1_000 => format!("{micros}us"),
        1_000..10_000 => format!("{}.{:02}ms", micros / 1_000, micros % 1_000 / 10),
        10_000..1_000_000 => format!("{}ms", micros / 1_000),
        1_000_000..60_000_000 => {
            let text = format!("{}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000);
            format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => coarse(span),
    }
}

/// Microseconds for JSON: a started one counts, so that only what took no time is 0.
#[must_use]
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// Whole milliseconds for JSON.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{coarse, fine};
    use std::time::Duration;

    #[test]
    fn ages_have_one_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2min"),
            (7_199, "119min"),
            (7_200, "2h"),
            (172_800, "2d"),
            (1_036_800, "12d"),
        ] {
            assert_eq!(coarse(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn measured_times_keep_what_matters() {
        for (micros, text) in [
            (0, "0us"),
            (90, "90us"),
            (2_315, "2.31ms"),
            (140_900, "140ms"),
            (1_000_000, "1s"),
            (1_420_000, "1.42s"),
            (59_999_999, "59.99s"),
            (80_000_000, "80s"),
            (300_000_000, "5min"),
        ] {
            assert_eq!(fine(Duration::from_micros(micros)), text);
        }
    }
}
