//! The final answer to a call, as it travels, and as it is kept for whoever asks again.

use super::error::Error;
use super::{refusal, reply};
use crate::codec::json::{FORMAT, OutcomeView};
use crate::model::Reply;
use serde_json::Value;
use serde_json::value::RawValue;

/// A kept outcome is never longer, in bytes: 1,000 of them have a bound, in memory and on the disk.
pub const KEPT_MAX: usize = 4096;

/// How many characters of its sentence a kept outcome has left, where that is what makes it long.
const SENTENCE_MAX: usize = 256;

/// One message, whole but for its NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    message: Box<str>,
}

impl Outcome {
    /// What the machine answered; `log` and `log_file` are the last lines and the whole of what a
    /// failed generation wrote.
    #[must_use]
    pub fn of_reply(answer: &Reply, log: Vec<String>, log_file: Option<String>) -> Self {
        if let Some(error) = Error::from_reply(answer, log, log_file) {
            return Self::of_error(&error);
        }
        let view = OutcomeView {
            format: FORMAT,
            changed: Some(answer.changed),
            text: answer.text.clone(),
            next: answer.next.clone(),
            generation: answer.generation.map(|generation| generation.0),
            swap_id: answer.swap_id.map(|swap| swap.0),
            progress: None,
        };
        Self::of_bytes(reply(&view, false))
    }

    /// An error of the protocol.
    #[must_use]
    pub fn of_error(error: &Error) -> Self {
        Self::of_bytes(refusal(error))
    }

    fn of_bytes(mut bytes: Vec<u8>) -> Self {
        bytes.pop();
        Self { message: String::from_utf8(bytes).expect("JSON is UTF-8").into() }
    }

    /// What it says to people.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let message: Value = serde_json::from_str(&self.message).ok()?;
        let found = ["text", "reason"].iter().find_map(|name| message.get("parameters")?.get(name)?.as_str());
        found.or_else(|| message.get("error")?.as_str()).map(str::to_owned)
    }

    /// As it goes over the socket.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        [self.message.as_bytes(), &[0]].concat()
    }

    /// As it is kept: of one that is long only the last lines of the log and the first faults, as
    /// many as there is room for.
    #[must_use]
    pub fn kept(&self) -> Self {
        if self.message.len() <= KEPT_MAX {
            return self.clone();
        }
        let mut message: Value = serde_json::from_str(&self.message).unwrap_or_default();
        let mut take = |name: &str| {
            let list = message.pointer_mut(&format!("/parameters/{name}")).map(Value::take);
            list.and_then(|list| list.as_array().cloned()).unwrap_or_default()
        };
        let (mut log, mut faults) = (take("log"), take("faults"));
        shorten(&mut message);
        let mut room = KEPT_MAX.saturating_sub(message.to_string().len());
        log.reverse();
        for list in [&mut log, &mut faults] {
            list.retain(|one| {
                room = room.saturating_sub(one.to_string().len() + 1);
                room > 0
            });
        }
        log.reverse();
        for (name, list) in [("log", log), ("faults", faults)] {
            if let Some(place) = message.pointer_mut(&format!("/parameters/{name}")) {
                *place = Value::Array(list);
            }
        }
        Self { message: message.to_string().into() }
    }

    /// As a part of a file.
    ///
    /// # Panics
    /// Never: a message is JSON.
    #[must_use]
    pub(in crate::codec) fn raw(&self) -> Box<RawValue> {
        RawValue::from_string(self.message.to_string()).expect("a message is JSON")
    }

    /// Takes back what [`Outcome::raw`] gave; `None`: it is no message that supd keeps.
    #[must_use]
    pub(in crate::codec) fn of_raw(raw: &RawValue) -> Option<Self> {
        let value: Value = serde_json::from_str(raw.get()).ok()?;
        value.get("parameters").filter(|parameters| parameters.is_object())?;
        (raw.get().len() <= KEPT_MAX).then(|| Self { message: raw.get().into() })
    }
}

/// Brings what is not a list to its bound.
fn shorten(message: &mut Value) {
    if message.to_string().len() <= KEPT_MAX / 2 {
        return;
    }
    let Some(Value::Object(parameters)) = message.get_mut("parameters") else { return };
    for (name, value) in parameters {
        match (name.as_str(), value.as_str()) {
            ("text" | "reason", Some(text)) => {
                *value = text.chars().take(SENTENCE_MAX).collect::<String>().into();
            }
            // A part of a path or of a command is none.
            ("log_file" | "next", Some(text)) if text.len() > SENTENCE_MAX => *value = Value::Null,
            (_, _) => {}
        }
    }
}

#[cfg(test)]
pub(in crate::codec) mod tests {
    use super::*;
    use crate::codec::fault::Fault;
    use crate::codec::varlink::error::{BadUnitFile, tests::every_error};
    use crate::model::{Ended, ExitStatus, Generation};
    use std::time::Duration;

    fn failed(lines: Vec<String>, reason: &str) -> Outcome {
        let ended = Ended { generation: Generation(2), exit: None, lived: Duration::ZERO };
        let reply = Reply { ended: Some(ended), ..Reply::new(ExitStatus::Failed, true, reason) };
        Outcome::of_reply(&reply, lines, Some("/l/2.log".into()))
    }

    #[test]
    fn every_outcome_comes_back_byte_for_byte() {
        let done = Outcome::of_reply(&Reply::done(true, "é\u{0}\n"), Vec::new(), None);
        let errors = every_error();
        for outcome in errors.iter().map(Outcome::of_error).chain([done]) {
            assert_eq!(outcome.kept(), outcome);
            let back = Outcome::of_raw(&outcome.raw()).unwrap();
            assert_eq!(back, outcome);
            let bytes = back.bytes();
            assert_eq!(bytes.iter().position(|byte| *byte == 0), Some(bytes.len() - 1));
        }
    }

    #[test]
    fn a_long_one_keeps_its_last_lines() {
        let lines: Vec<String> = (0..20).map(|line| format!("{line} {}", "\"é".repeat(200))).collect();
        let whole = failed(lines.clone(), "it died");
        let kept = whole.kept();
        assert!(kept.message.len() <= KEPT_MAX && kept.message.len() > KEPT_MAX / 2);
        let Some(Error::Failed(failure)) = parse(&kept) else { panic!("another error") };
        assert_eq!((failure.reason.as_str(), failure.log_file.as_deref()), ("it died", Some("/l/2.log")));
        assert!(!failure.log.is_empty() && lines.ends_with(&failure.log));
    }

    #[test]
    fn nothing_makes_a_kept_one_longer_than_its_bound() {
        let line = || vec!["\u{1}".repeat(5000); 20];
        let fault =
            Fault::of_file(std::path::Path::new("/u/web.unit"), "\u{1}".repeat(3000), "\u{7f}".repeat(3000));
        let faults = vec![(&fault).into(); 3000];
        let long = "\u{1}".repeat(1 << 20);
        let reply = Reply { next: Some(long.clone()), ..Reply::refused(long.as_str(), None) };
        for outcome in [
            failed(line(), &long),
            failed(vec!["x".into(); 100_000], ""),
            Outcome::of_error(&Error::BadUnitFile(BadUnitFile { changed: true, faults })),
            Outcome::of_reply(&reply, Vec::new(), None),
        ] {
            let kept = outcome.kept();
            assert!(kept.message.len() <= KEPT_MAX, "{}", kept.message.len());
            assert_eq!(Outcome::of_raw(&kept.raw()), Some(kept.clone()));
            assert!(parse(&kept).is_some());
        }
    }

    fn parse(outcome: &Outcome) -> Option<Error> {
        let value: Value = serde_json::from_str(&outcome.message).unwrap();
        Error::parse(value["error"].as_str()?, &value["parameters"].to_string())
    }

    #[test]
    fn what_is_no_message_is_not_taken_for_one() {
        for text in ["null", "{}", "[]", r#"{"parameters":7}"#, r#"{"error":"x"}"#] {
            assert_eq!(Outcome::of_raw(&RawValue::from_string(text.into()).unwrap()), None);
        }
    }
}
