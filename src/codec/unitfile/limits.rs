//! LimitNOFILE and its sisters (setrlimit(2), systemd.exec(5)).

use super::document::{Node, Value};
use super::report::{Reading, bad};
use super::section::Section;
use crate::codec::fault::quoted;
use crate::codec::{size, timespan};
use crate::model::settings::{Limit, Resource, Service};

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Things,
    Bytes,
    Seconds,
    Microseconds,
    /// 20 less the nice value: `+5` and `-5` are nice values, 15 is the raw limit.
    Niceness,
}

const LIMITS: [(&str, Resource, Counts); 16] = [
    ("LimitCPU", Resource::Cpu, Counts::Seconds),
    ("LimitFSIZE", Resource::Fsize, Counts::Bytes),
    ("LimitDATA", Resource::Data, Counts::Bytes),
    ("LimitSTACK", Resource::Stack, Counts::Bytes),
    ("LimitCORE", Resource::Core, Counts::Bytes),
    ("LimitRSS", Resource::Rss, Counts::Bytes),
    ("LimitNOFILE", Resource::Nofile, Counts::Things),
    ("LimitAS", Resource::As, Counts::Bytes),
    ("LimitNPROC", Resource::Nproc, Counts::Things),
    ("LimitMEMLOCK", Resource::Memlock, Counts::Bytes),
    ("LimitLOCKS", Resource::Locks, Counts::Things),
    ("LimitSIGPENDING", Resource::Sigpending, Counts::Things),
    ("LimitMSGQUEUE", Resource::Msgqueue, Counts::Bytes),
    ("LimitNICE", Resource::Nice, Counts::Niceness),
    ("LimitRTPRIO", Resource::Rtprio, Counts::Things),
    ("LimitRTTIME", Resource::Rttime, Counts::Microseconds),
];

/// The key of a resource.
pub(super) fn key_of(resource: Resource) -> &'static str {
    LIMITS.iter().find(|(_, known, _)| *known == resource).map_or("", |(key, _, _)| *key)
}

pub(super) fn read(section: &mut Section<'_, '_>, service: &mut Service) {
    for (key, resource, counts) in LIMITS {
        if let Some((soft, hard)) = section.get(key, |node| limit(node, counts)) {
            service.limits.push(Limit { resource, soft, hard });
        }
    }
}

/// `1024`, `"1024:infinity"` (soft and hard), or `"infinity"`.
fn limit(node: &Node, counts: Counts) -> Reading<(Option<u64>, Option<u64>)> {
    const REMEDY: &str = "write one limit, or \"soft:hard\", as in \"1024:524288\" or \"infinity\"";
    let text = match &node.value {
        Value::Integer(text) | Value::Text(text) => text,
        other => return bad(format!("{} where a limit is wanted", other.kind()), REMEDY),
    };
    let (soft_text, hard_text) = text.split_once(':').unwrap_or((text, text));
    let one = |text: &str| -> Reading<Option<u64>> {
        amount(text.trim(), counts).or_else(|reason| bad(reason, REMEDY))
    };
    let (soft, hard) = (one(soft_text)?, one(hard_text)?);
    if hard.is_some_and(|hard| soft.is_none_or(|soft| soft > hard)) {
        return bad("the soft limit is above the hard one", "write the smaller one first");
    }
    Ok((soft, hard))
}

fn amount(text: &str, counts: Counts) -> Result<Option<u64>, String> {
    if text == "infinity" {
        return Ok(None);
    }
    let plain = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u64>().ok() } else { None };
    // The kernel's own number for infinity must not be written by accident.
    let plain = plain.filter(|number| *number < u64::MAX);
    match (counts, plain) {
        (Counts::Niceness, _) => niceness(text, plain).map(Some),
        (_, Some(number)) => Ok(Some(number)),
        (Counts::Bytes, None) => size::parse(text).map_err(|fault| fault.to_string()),
        (Counts::Seconds, None) => {
            let span = timespan::parse(text).map_err(|fault| fault.to_string())?;
            // Rounded up, as systemd does: half a second must not become none at all.
            Ok(span.map(|span| span.as_secs() + u64::from(span.subsec_nanos() > 0)))
        }
        (Counts::Microseconds, None) => {
            let span = timespan::parse(text).map_err(|fault| fault.to_string())?;
            Ok(span.map(|span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX - 1)))
        }
        (Counts::Things, None) => Err(format!("{} is no limit", quoted(text))),
    }
}

fn niceness(text: &str, plain: Option<u64>) -> Result<u64, String> {
    let limit = match plain {
        Some(number) => Some(number.max(1)),
        None if text.starts_with(['+', '-']) => {
            let nice = text.parse::<i64>().ok().filter(|nice| (-20..=19).contains(nice));
            nice.and_then(|nice| u64::try_from(20 - nice).ok())
        }
        None => None,
    };
    limit
        .filter(|limit| (1..=40).contains(limit))
        .ok_or_else(|| format!("{} is neither a nice value with its sign nor 1 to 40", quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::{Counts, amount};

    #[test]
    fn limits_count_what_they_count() {
        assert_eq!(amount("1024", Counts::Things), Ok(Some(1024)));
        assert_eq!(amount("infinity", Counts::Things), Ok(None));
        assert_eq!(amount("8M", Counts::Bytes), Ok(Some(8 << 20)));
        assert_eq!(amount("1min", Counts::Seconds), Ok(Some(60)));
        assert_eq!(amount("100ms", Counts::Seconds), Ok(Some(1)));
        assert_eq!(amount("200", Counts::Microseconds), Ok(Some(200)));
        assert_eq!(amount("1ms", Counts::Microseconds), Ok(Some(1000)));
        assert_eq!(amount("+5", Counts::Niceness), Ok(Some(15)));
        assert_eq!(amount("-20", Counts::Niceness), Ok(Some(40)));
        assert_eq!(amount("0", Counts::Niceness), Ok(Some(1)));
        for (text, counts) in [
            ("8M", Counts::Things),
            ("-1", Counts::Things),
            ("18446744073709551615", Counts::Things),
            ("41", Counts::Niceness),
            ("-21", Counts::Niceness),
            ("five", Counts::Seconds),
            ("", Counts::Bytes),
        ] {
            assert!(amount(text, counts).is_err(), "{text}");
        }
    }
}
