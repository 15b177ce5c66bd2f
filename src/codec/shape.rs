//! One shape of JSON for each type that supd keeps on disk, listed once for both directions.
//!
//! The model knows nothing of serde, so that a renamed field is a change of code and never one of
//! a file's format. Unknown members are passed over: a later supd of the same format may add some.

use crate::model::settings::Command;
use crate::model::{
    Address, Generation, Label, ListenerName, Share, Signal, SocketKind, SwapId, Tick, UnitName,
};
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a JSON value is not what was expected: where, and what should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    place: String,
    wanted: &'static str,
}

impl Misfit {
    pub(crate) fn new(wanted: &'static str) -> Self {
        Self { place: String::new(), wanted }
    }

    /// The same fault, seen from one level further out.
    fn inside(mut self, member: &str) -> Self {
        self.place = if self.place.is_empty() { member.into() } else { format!("{member}.{}", self.place) };
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() { "the whole" } else { &self.place };
        write!(f, "{place}: {} is expected", self.wanted)
    }
}

/// A type with one shape in JSON.
pub(crate) trait Shape: Sized {
    /// As JSON.
    fn write(&self) -> Value;

    /// From JSON.
    fn read(value: &Value) -> Result<Self, Misfit>;

    /// What a missing member means; `None`: it may not be missing.
    fn absent() -> Option<Self> {
        None
    }
}

/// An object of these members.
pub(crate) fn fields<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(members.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
}

/// The members of an object.
pub(crate) fn object(value: &Value) -> Result<&Map<String, Value>, Misfit> {
    value.as_object().ok_or(Misfit::new("an object"))
}

/// One member of an object.
pub(crate) fn member<T: Shape>(map: &Map<String, Value>, key: &str) -> Result<T, Misfit> {
    match map.get(key) {
        Some(value) => T::read(value).map_err(|misfit| misfit.inside(key)),
        None => T::absent().ok_or(Misfit::new("a value").inside(key)),
    }
}

/// The one member of an object such as `{"path": …}`, which tells variants apart.
pub(crate) fn variant(value: &Value) -> Result<(&str, &Value), Misfit> {
    let mut members = object(value)?.iter();
    match (members.next(), members.next()) {
        (Some((key, inner)), None) => Ok((key, inner)),
        (_, _) => Err(Misfit::new("an object with one member")),
    }
}

/// `{"key": value}`
pub(crate) fn tagged(key: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(key.to_string(), value)]))
}

/// A struct: each field with its key. The pattern and the literal name every field, so that one
/// that was forgotten does not compile.
macro_rules! shape {
    ($Type:ty { $($field:ident : $key:literal),+ $(,)? }) => {
        impl crate::codec::shape::Shape for $Type {
            fn write(&self) -> serde_json::Value {
                let Self { $($field),+ } = self;
                let mut map = serde_json::Map::new();
                $(map.insert($key.to_string(), crate::codec::shape::Shape::write($field));)+
                serde_json::Value::Object(map)
            }

            fn read(value: &serde_json::Value) -> Result<Self, crate::codec::shape::Misfit> {
                let map = crate::codec::shape::object(value)?;
                Ok(Self { $($field: crate::codec::shape::member(map, $key)?,)+ })
            }
        }
    };
}

/// An enum without data: each variant with its word; and what a file of a supd means that did not write it.
macro_rules! shape_words {
    ($Type:ident { $($Variant:ident = $word:literal),+ $(,)? $(; absent $Absent:ident)? }) => {
        impl crate::codec::shape::Shape for $Type {
            fn write(&self) -> serde_json::Value {
                match self { $(Self::$Variant => $word.into(),)+ }
            }

            fn read(value: &serde_json::Value) -> Result<Self, crate::codec::shape::Misfit> {
                match value.as_str() {
                    $(Some($word) => Ok(Self::$Variant),)+
                    Some(_) | None => {
                        Err(crate::codec::shape::Misfit::new(concat!("one of", $(" ", $word),+)))
                    }
                }
            }

            $(fn absent() -> Option<Self> {
                Some(Self::$Absent)
            })?
        }
    };
}

pub(crate) use {shape, shape_words};

/// What serde_json holds as it is, and how it is asked for.
macro_rules! shape_scalars {
    ($($Type:ty, $ask:ident, $wanted:literal;)+) => { $(
        impl Shape for $Type {
            fn write(&self) -> Value {
                Value::from(self.clone())
            }

            fn read(value: &Value) -> Result<Self, Misfit> {
                value.$ask().and_then(|v| Self::try_from(v).ok()).ok_or(Misfit::new($wanted))
            }
        }
    )+ };
}

shape_scalars! {
    bool, as_bool, "true or false";
    u16, as_u64, "a number to 65535";
    u32, as_u64, "a number to 4294967295";
    u64, as_u64, "a whole number";
    i32, as_i64, "a whole number of 32 bits";
    String, as_str, "a text";
}

impl<T: Shape> Shape for Option<T> {
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::write)
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        if value.is_null() { Ok(None) } else { T::read(value).map(Some) }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Shape> Shape for Arc<T> {
    fn write(&self) -> Value {
        T::write(self)
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        T::read(value).map(Self::new)
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn write(&self) -> Value {
        Value::Array(self.iter().map(T::write).collect())
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        let items = value.as_array().ok_or(Misfit::new("a list"))?;
        items
            .iter()
            .enumerate()
            .map(|(at, item)| T::read(item).map_err(|misfit| misfit.inside(&at.to_string())))
            .collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl Shape for (String, String) {
    fn write(&self) -> Value {
        Value::Array(vec![self.0.write(), self.1.write()])
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        match <[String; 2]>::try_from(Vec::<String>::read(value)?) {
            Ok([key, value]) => Ok((key, value)),
            Err(_) => Err(Misfit::new("a list of two texts")),
        }
    }
}

impl Shape for (u64, u64) {
    fn write(&self) -> Value {
        Value::Array(vec![self.0.into(), self.1.into()])
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        match <[u64; 2]>::try_from(Vec::<u64>::read(value)?) {
            Ok([one, other]) => Ok((one, other)),
            Err(_) => Err(Misfit::new("a list of two numbers")),
        }
    }
}

impl Shape for PathBuf {
    /// Paths come out of TOML, which is UTF-8 throughout.
    fn write(&self) -> Value {
        self.to_string_lossy().into_owned().into()
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        String::read(value).map(Self::from)
    }
}

impl Shape for Duration {
    /// Seconds and nanoseconds: a single number of either is too coarse or too short.
    fn write(&self) -> Value {
        Value::Array(vec![self.as_secs().into(), self.subsec_nanos().into()])
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        let wanted = Misfit::new("a list of seconds and nanoseconds");
        let [seconds, nanos] = value.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(wanted);
        };
        match (u64::read(seconds)?, u32::read(nanos)?) {
            (seconds, nanos) if nanos < 1_000_000_000 => Ok(Self::new(seconds, nanos)),
            (_, _) => Err(wanted),
        }
    }
}

/// Types that are one number or one text inside.
macro_rules! shape_inside {
    ($($Type:ident($Inner:ty), $write:expr, $read:expr, $wanted:literal;)+) => { $(
        impl Shape for $Type {
            fn write(&self) -> Value {
                let inner: $Inner = $write(self);
                inner.write()
            }

            fn read(value: &Value) -> Result<Self, Misfit> {
                $read(<$Inner>::read(value)?).ok_or(Misfit::new($wanted))
            }
        }
    )+ };
}

shape_inside! {
    Generation(u64), |g: &Generation| g.0, |n| Some(Generation(n)), "a number";
    Tick(u64), |t: &Tick| t.0, |n| Some(Tick(n)), "microseconds";
    Share(u32), |s: &Share| u32::from(s.parts()), |n| Share::of_parts(u16::try_from(n).ok()?), "parts of 10000";
    SwapId(u64), |s: &SwapId| s.0, |n| Some(SwapId(n)), "a number";
    Signal(i32), |s: &Signal| s.0, |n: i32| Signal::parse(&n.to_string()), "the number of a signal";
    UnitName(String), |n: &UnitName| n.to_string(), |n: String| UnitName::new(&n).ok(), "a unit's name";
    ListenerName(String), |n: &ListenerName| n.to_string(), |n: String| ListenerName::new(&n).ok(), "a name";
    Label(String), |l: &Label| l.to_string(), |l: String| Label::new(&l).ok(), "a label";
    IpAddr(String), |a: &IpAddr| a.to_string(), |a: String| a.parse().ok(), "an IP address";
}

shape_words!(SocketKind {
    Stream = "stream",
    Datagram = "datagram",
    SequentialPacket = "sequential-packet",
});

shape!(Command { ignore_failure: "ignore_failure", program: "program", arguments: "arguments" });

impl Shape for Address {
    fn write(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_string(), value);
        match self {
            Self::Ip { kind, host, port } => {
                put("kind", kind.write());
                put("host", host.write());
                put("port", port.write());
            }
            Self::Unix { kind, path } => {
                put("kind", kind.write());
                put("path", path.write());
            }
            Self::Abstract { kind, name } => {
                put("kind", kind.write());
                put("abstract", name.write());
            }
            Self::Fifo { path } => {
                put("fifo", path.write());
            }
        }
        Value::Object(map)
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        let map = object(value)?;
        if map.contains_key("fifo") {
            return Ok(Self::Fifo { path: member(map, "fifo")? });
        }
        let kind = member(map, "kind")?;
        if map.contains_key("path") {
            Ok(Self::Unix { kind, path: member(map, "path")? })
        } else if map.contains_key("abstract") {
            Ok(Self::Abstract { kind, name: member(map, "abstract")? })
        } else {
            Ok(Self::Ip { kind, host: member(map, "host")?, port: member(map, "port")? })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_says_where_it_is() {
        let value = serde_json::json!([{"program": "x", "ignore_failure": false, "arguments": ["a", 3]}]);
        let misfit = Vec::<Command>::read(&value).expect_err("3 is no text");
        assert_eq!(misfit.to_string(), "0.arguments.1: a text is expected");
    }

    #[test]
    fn spans_keep_their_last_nanosecond() {
        for span in [Duration::ZERO, Duration::MAX, Duration::new(1, 999_999_999)] {
            assert_eq!(Duration::read(&span.write()), Ok(span));
        }
        assert!(Duration::read(&serde_json::json!([1, 1_000_000_000])).is_err());
        assert!(Duration::read(&serde_json::json!([1])).is_err());
    }
}
