//! Values of the command line that several verbs share.

use crate::codec::json::wait_for;
use crate::codec::varlink::method::{REASON_MAX, REQUEST_ID_MAX};
use crate::model::{
    Generation, InvalidLabel, Label, ListenerName, Share, ShareFault, Signal, Stops, UnitName, WaitFor,
};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use std::time::Duration;

/// Where a swap stops.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct StopsArg {
    /// Stop before it is on any port: what it binds waits for promote, or bind (Handoff = "intercept")
    #[arg(long)]
    unbound: bool,
    /// Stop when the new generation is ready, and let a person decide: promote or abort
    #[arg(long)]
    hold: bool,
    /// Stop at this share of the new connections, in the place of the unit's Canary steps
    #[arg(long, value_name = "PERCENT", value_parser = share, conflicts_with = "hold")]
    #[arg(allow_hyphen_values = true)]
    canary: Option<Share>,
}

impl From<StopsArg> for Stops {
    fn from(StopsArg { unbound, hold, canary }: StopsArg) -> Self {
        Self { unbound, hold, canary }
    }
}

/// `--wait=`
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct WaitArg {
    /// How far to wait: until the new generation is ready, receives the traffic, is there to stay
    /// (its probation is over), or what it replaced is gone.
    #[arg(
        long,
        value_name = "HOW-FAR",
        default_value = "committed",
        value_parser = PossibleValuesParser::new(["ready", "active", "committed", "drained"])
            .try_map(|word| wait_for(&word).ok_or("unknown"))
    )]
    pub(super) wait: WaitFor,
}

/// A unit's name.
pub(super) fn unit(text: &str) -> Result<UnitName, String> {
    UnitName::new(text).map_err(|rule| rule.to_string())
}

/// A generation's number.
pub(super) fn generation(text: &str) -> Result<Generation, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(Generation(number)),
        Ok(_) | Err(_) => Err("a generation is a number from 1; supctl status shows it under GEN".into()),
    }
}

/// A part of the new connections.
pub(super) fn share(text: &str) -> Result<Share, String> {
    // A minus is let through for the sake of -5, and what follows --canary is its value, whatever it is.
    if text.starts_with('-') && text.contains(|c: char| c.is_ascii_alphabetic()) {
        return Err(format!(
            "{text} is an option, and the share before it is missing: write a number, such as 5%"
        ));
    }
    text.parse().map_err(|fault: ShareFault| fault.to_string())
}

/// A signal's name or number.
pub(super) fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(&text.to_ascii_uppercase())
        .ok_or_else(|| "a signal is written as USR1, SIGUSR1, 10 or RTMIN+3".into())
}

/// A span of time: a number of seconds, or one with ms, s, min or h.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis = match &text[digits.len()..] {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
    let span = number.zip(millis).and_then(|(number, millis)| number.checked_mul(millis));
    span.map(Duration::from_millis).ok_or_else(|| "write a time as 500ms, 30s, 5min or 2h".into())
}

/// Why: one line, for a commit's message comes with several.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let line = text.trim().replace(|c: char| c.is_control(), " ");
    match line.len() {
        0 => Err("say why, or leave it out".into()),
        length if length > REASON_MAX => {
            Err(format!("it is {length} bytes long, at most {REASON_MAX} are kept"))
        }
        _ => Ok(line),
    }
}

/// The id of a request.
pub(super) fn request_id(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if length == 0 || length > REQUEST_ID_MAX || text.chars().any(char::is_control) {
        return Err(format!("an id has 1 to {REQUEST_ID_MAX} printable characters"));
    }
    Ok(text.to_owned())
}

/// A listener's name.
pub(super) fn listener(text: &str) -> Result<ListenerName, String> {
    ListenerName::new(text).map_err(|rule| rule.to_string())
}

/// The label of a release.
pub(super) fn label(text: &str) -> Result<Label, InvalidLabel> {
    Label::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in
            [("500ms", 500), ("30", 30_000), ("30s", 30_000), ("5min", 300_000), ("2h", 7_200_000)]
        {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5s", "5m", "1 s", "0", "99999999999999999999", "18446744073709551615h"]
        {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_supd_would_refuse_is_refused_here_with_the_rule() {
        assert_eq!(reason(" fix\nthe bug\n"), Ok("fix the bug".into()));
        assert!(reason(" \n").is_err() && reason(&"x".repeat(1025)).is_err());
        assert!(request_id("ci-17").is_ok() && request_id("").is_err());
        assert!(request_id(&"é".repeat(128)).is_ok() && request_id(&"é".repeat(129)).is_err());
        assert!(label("1.5.0+b7~x").is_ok() && label("..").is_err() && label("a/b").is_err());
        assert_eq!(signal("usr1"), Ok(Signal(10)));
        assert!(signal("nope").is_err());
        assert_eq!(generation("7"), Ok(Generation(7)));
        assert!(generation("0").is_err() && generation("x").is_err());
    }
}
