//! Parameters of a call, taken one by one; what is left over at the end was not asked for.

use crate::codec::json::wait_for;
use crate::model::id::LABEL_MAX;
use crate::model::{Generation, Label, ListenerName, Share, Signal, Stops, UnitName, WaitFor};
use serde_json::{Map, Value};

/// org.varlink.service.InvalidParameter: the name of the parameter that is missing, unknown or
/// wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid(pub(super) String);

/// Not yet taken parameters. A null counts as absent, as in Varlink.
#[derive(Debug)]
pub(super) struct Parameters(pub(super) Map<String, Value>);

impl Parameters {
    /// A parameter that may be absent; `read` gives `None` for a value that it does not accept.
    fn optional<T>(&mut self, name: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, Invalid> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(&value).map(Some).ok_or_else(|| Invalid(name.to_owned())),
        }
    }

    /// Text that is not empty, of at most `bytes_max` bytes and without control characters: it
    /// will stand in logs and on terminals.
    pub(super) fn text(&mut self, name: &str, bytes_max: usize) -> Result<Option<String>, Invalid> {
        let fits =
            |text: &&str| !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control);
        self.optional(name, |value| value.as_str().filter(fits).map(str::to_owned))
    }

    /// A flag; absent is false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Invalid> {
        Ok(self.optional(name, Value::as_bool)?.unwrap_or(false))
    }

    /// `unit`, where it may be absent.
    pub(super) fn unit_if_any(&mut self) -> Result<Option<UnitName>, Invalid> {
        self.optional("unit", |value| UnitName::new(value.as_str()?).ok())
    }

    /// `unit`
    pub(super) fn unit(&mut self) -> Result<UnitName, Invalid> {
        self.unit_if_any()?.ok_or_else(|| Invalid("unit".into()))
    }

    /// `signal`
    pub(super) fn signal(&mut self) -> Result<Signal, Invalid> {
        let signal = self.optional("signal", |value| Signal::parse(value.as_str()?))?;
        signal.ok_or_else(|| Invalid("signal".into()))
    }

    /// `wait`; absent is committed.
    pub(super) fn wait(&mut self) -> Result<WaitFor, Invalid> {
        let wait = self.optional("wait", |value| wait_for(value.as_str()?))?;
        Ok(wait.unwrap_or(WaitFor::Committed))
    }

    /// `from`: a generation, counted from 1.
    pub(super) fn generation(&mut self, name: &str) -> Result<Option<Generation>, Invalid> {
        let read = |value: &Value| value.as_u64().filter(|number| *number > 0).map(Generation);
        self.optional(name, read)
    }

    /// `listener`, where it may be absent.
    pub(super) fn listener(&mut self) -> Result<Option<ListenerName>, Invalid> {
        self.optional("listener", |value| ListenerName::new(value.as_str()?).ok())
    }

    /// A part of the new connections, in percent.
    pub(super) fn share(&mut self, name: &str) -> Result<Option<Share>, Invalid> {
        self.optional(name, |value| Share::of_percent(value.as_f64()?))
    }

    /// Where a swap is to stop.
    pub(super) fn stops(&mut self) -> Result<Stops, Invalid> {
        let (unbound, hold) = (self.flag("unbound")?, self.flag("hold")?);
        Ok(Stops { unbound, hold, canary: self.share("canary")? })
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Invalid> {
        self.optional(name, Value::as_u64)
    }

    /// The number of a process.
    pub(super) fn pid(&mut self, name: &str) -> Result<Option<i32>, Invalid> {
        let read = |value: &Value| value.as_u64().and_then(|number| i32::try_from(number).ok());
        self.optional(name, |value| read(value).filter(|number| *number > 0))
    }

    /// `label`
    pub(super) fn label(&mut self) -> Result<Option<Label>, Invalid> {
        let label = self.text("label", LABEL_MAX)?;
        label.map(|text| Label::new(&text).map_err(|_| Invalid("label".into()))).transpose()
    }

    /// `label`, where there must be one.
    pub(super) fn given_label(&mut self) -> Result<Label, Invalid> {
        self.label()?.ok_or_else(|| Invalid("label".into()))
    }

    /// `source`: which of the descriptors that came with the call; there is one.
    pub(super) fn source(&mut self) -> Result<(), Invalid> {
        let index = self.optional("source", Value::as_u64)?;
        if index == Some(0) { Ok(()) } else { Err(Invalid("source".into())) }
    }

    /// Everything is taken.
    pub(super) fn end(self) -> Result<(), Invalid> {
        self.0.into_iter().next().map_or(Ok(()), |(name, _)| Err(Invalid(name)))
    }
}
