//! What comes over the control socket: messages that end with a zero byte, calls in them, and the
//! answers that supctl reads from the same kind of stream.
//!
//! However the bytes are cut, the same messages come out, with a bounded amount of memory. What is
//! read says the same after it is written again. Every refusal is one message that supctl
//! understands, in proportion to what was refused.

use super::dice::Dice;
use serde_json::Value;
use supd::codec::varlink::error::Plain;
use supd::codec::varlink::{
    self, Answer, Asked, CALL_MAX, Call, Error, Frames, Method, TooLong, ask, message, refusal, reply,
};

/// A limit that short inputs reach too.
const SHORT: usize = 40;

/// # Panics
/// One of the rules above does not hold.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    let mut dice = Dice::of(data);
    for limit in [SHORT, CALL_MAX] {
        let expected = messages(data, limit);
        assert_eq!(cut(data, limit, || data.len()), expected, "in one piece");
        assert_eq!(cut(data, limit, || 1), expected, "byte by byte");
        assert_eq!(cut(data, limit, || 1 + dice.below(200)), expected, "in pieces");
    }
    let (messages, _) = messages(data, CALL_MAX);
    messages.iter().fold(false, |any, message| call(message) | answer(message) | any)
}

/// What the stream holds, by the rule alone: the messages, and whether one was too long.
fn messages(mut rest: &[u8], limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut whole = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == 0);
        if end.unwrap_or(rest.len()) > limit {
            return (whole, true);
        }
        let Some(end) = end else { return (whole, false) };
        whole.push(rest[..end].to_vec());
        rest = &rest[end + 1..];
    }
}

fn cut(mut rest: &[u8], limit: usize, mut size: impl FnMut() -> usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Frames::new(limit);
    let (mut whole, mut longest) = (Vec::new(), 0);
    while !rest.is_empty() {
        let piece;
        (piece, rest) = rest.split_at(size().min(rest.len()));
        longest = longest.max(piece.len());
        frames.push(piece);
        loop {
            // A vector may have twice the room that it needs, and half of it may be taken already.
            assert!(frames.memory() <= 2 * (2 * limit + longest) + 64, "{}", frames.memory());
            match frames.take() {
                Ok(Some(message)) => whole.push(message.to_vec()),
                Ok(None) => break,
                Err(TooLong { limit: told }) => {
                    assert_eq!(told, limit);
                    return (whole, true);
                }
            }
        }
        assert!(frames.waiting() <= limit, "{}", frames.waiting());
    }
    (whole, false)
}

/// The side of supd; whether something would have been done.
fn call(message: &[u8]) -> bool {
    let call = match Call::parse(message) {
        Ok(call) => call,
        Err(fault) => {
            let reason = fault.to_string();
            refused(&Error::BadMessage(Plain { changed: false, reason }), message.len());
            return false;
        }
    };
    assert!(!(call.more && call.oneway));
    let again = Call::parse(one(&message::encode(&call))).expect("what was written is read");
    // serde_json reads a fraction to the last digit but one.
    if !call.parameters.values().any(has_fraction) {
        assert_eq!(again, call);
    }
    let more = call.more;
    match ask(call) {
        Ok(Asked::Answered(answer)) => {
            one(&reply(&answer, false));
        }
        Ok(Asked::Method(method, meta)) => {
            let sent = varlink::call(&method, &meta, more);
            let again = Call::parse(one(&sent)).expect("what was written is read");
            assert_eq!(again.more, more);
            let parameters = again.parameters.clone();
            assert_eq!(Method::recall(method.name(), parameters).as_ref(), Some(&method));
            assert_eq!(ask(again), Ok(Asked::Method(method, meta)));
        }
        Err(error) => {
            refused(&error, message.len());
            return false;
        }
    }
    true
}

fn refused(error: &Error, given: usize) {
    let bytes = refusal(error);
    // A character of three bytes may be shown as `\\u{200b}`.
    assert!(bytes.len() <= 400 + 8 * given, "{} for {given}", bytes.len());
    let answer: Answer = serde_json::from_slice(one(&bytes)).expect("supctl reads it");
    let name = answer.error.as_deref().expect("an error has a name");
    assert_eq!(Error::parse(name, answer.raw()).as_ref(), Some(error));
}

/// The side of supctl; whether it is an error of supd's.
fn answer(message: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Answer>(message) else { return false };
    let Some(error) = answer.error.as_deref().and_then(|name| Error::parse(name, answer.raw())) else {
        return false;
    };
    let bytes = refusal(&error);
    let again: Answer = serde_json::from_slice(one(&bytes)).expect("supctl reads it");
    assert_eq!(Error::parse(&error.name(), again.raw()), Some(error));
    true
}

/// The one message that these bytes are.
fn one(bytes: &[u8]) -> &[u8] {
    let (last, message) = bytes.split_last().expect("not empty");
    assert!(*last == 0 && !message.contains(&0), "{bytes:?}");
    message
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(map) => map.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}
