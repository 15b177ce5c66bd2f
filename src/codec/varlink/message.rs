//! The two shapes that travel: a call and a reply (varlink.org, "Method Call" and "Reply").

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Interface and method, as `dev.supd.Manager.Swap`.
    pub method: String,
    /// Its parameters, by name.
    #[serde(default, deserialize_with = "null_is_default")]
    pub parameters: Map<String, Value>,
    /// Several replies are welcome.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub more: bool,
    /// No reply is wanted, not even an error.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub oneway: bool,
    /// The connection shall change to another protocol after the reply.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub upgrade: bool,
}

/// Bytes that are no call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCall(String);

impl fmt::Display for NoCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message is no Varlink call: {}", self.0)
    }
}

impl std::error::Error for NoCall {}

impl Call {
    /// Reads one message.
    ///
    /// # Errors
    /// [`NoCall`] when it is not JSON, not an object, has no method, or wants both many replies
    /// and none.
    pub fn parse(message: &[u8]) -> Result<Self, NoCall> {
        // serde would read an array as a struct too, field by field.
        if message.trim_ascii_start().first() != Some(&b'{') {
            return Err(NoCall("it does not begin with {".into()));
        }
        let call: Self = serde_json::from_slice(message).map_err(|error| NoCall(error.to_string()))?;
        if call.more && call.oneway {
            return Err(NoCall("\"more\" and \"oneway\" contradict each other".into()));
        }
        Ok(call)
    }
}

/// What supd sends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reply<P> {
    /// The name of an error, or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the method or the error carries.
    pub parameters: P,
    /// More replies follow.
    #[serde(skip_serializing_if = "is_false")]
    pub continues: bool,
}

/// What a client receives; the parameters stay as they came.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    /// The name of an error, or absent.
    #[serde(default)]
    pub error: Option<String>,
    /// What the method or the error carries, as text.
    #[serde(default)]
    pub parameters: Option<Box<RawValue>>,
    /// More replies follow.
    #[serde(default, deserialize_with = "null_is_default")]
    pub continues: bool,
}

impl Answer {
    /// The parameters as they came; an empty object if there were none.
    #[must_use]
    pub fn raw(&self) -> &str {
        self.parameters.as_ref().map_or("{}", |raw| raw.get())
    }
}

/// A message as it goes over the socket, with its NUL.
///
/// JSON has no raw NUL in it: serde_json writes one in a string as `\u0000`.
#[must_use]
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(message).expect("structs of plain values, with text for keys, are always JSON");
    bytes.push(0);
    bytes
}

/// A null where a value has a default means the default: the Python client writes nulls.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_may_leave_out_or_null_what_it_does_not_need() {
        for text in [
            r#"{"method":"a.B"}"#,
            r#"{"method":"a.B","parameters":null,"more":null,"oneway":false,"upgrade":null}"#,
            r#" {"method":"a.B","parameters":{},"some_day":1} "#,
        ] {
            let call = Call::parse(text.as_bytes()).unwrap();
            assert_eq!((call.method.as_str(), call.more, call.oneway), ("a.B", false, false), "{text}");
            assert!(call.parameters.is_empty());
        }
        let call = Call::parse(br#"{"method":"a.B","parameters":{"x":[1]},"more":true}"#).unwrap();
        assert!(call.more);
        assert_eq!(encode(&call), b"{\"method\":\"a.B\",\"parameters\":{\"x\":[1]},\"more\":true}\0");
    }

    #[test]
    fn what_is_no_call_says_why() {
        for text in [
            &b""[..],
            b"garbage",
            b"[]",
            b"[\"a.B\"]",
            b"{}",
            b"{\"method\":1}",
            b"{\"method\":\"a.B\",\"parameters\":[]}",
            b"{\"method\":\"a.B\"} {}",
            b"{\"method\":\"a.B\",\"more\":true,\"oneway\":true}",
            b"\xff\xfe",
            format!("{{\"method\":\"a.B\",\"parameters\":{{\"x\":{}", "[".repeat(60_000)).as_bytes(),
        ] {
            let fault = Call::parse(text).unwrap_err().to_string();
            assert!(fault.starts_with("the message is no Varlink call: "), "{fault}");
        }
    }

    #[test]
    fn a_reply_carries_only_what_it_needs_and_stays_as_it_came() {
        let reply = Reply { error: None, parameters: json!({}), continues: false };
        assert_eq!(encode(&reply), b"{\"parameters\":{}}\0");
        let answer: Answer =
            serde_json::from_str(r#"{"parameters":{"z": 1,  "a":2},"continues":true}"#).unwrap();
        assert_eq!((answer.raw(), answer.continues), (r#"{"z": 1,  "a":2}"#, true));
        let answer: Answer = serde_json::from_str(r#"{"error":"a.b.C"}"#).unwrap();
        assert_eq!((answer.raw(), answer.error.as_deref()), ("{}", Some("a.b.C")));
    }
}
