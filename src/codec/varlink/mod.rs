//! The control protocol: Varlink (varlink.org) with the interface `dev.supd.Manager`.
//!
//! [`frames`] cuts the stream into messages, [`message`] has the two shapes that travel,
//! [`method`] and [`error`] what they mean. `dev.supd.Manager.varlink` beside this file describes
//! all of it to other programs; a test holds the two together.
//!
//! **What is absent:** `upgrade` (there is nothing to upgrade to), and deadlines: the daemon bounds
//! how much a client may hold, not how long.

pub mod error;
pub mod frames;
#[cfg(test)]
mod idl;
pub mod message;
pub mod method;
pub mod outcome;
mod params;
mod service;

pub use error::Error;
pub use frames::{Frames, TooLong};
pub use message::{Answer, Call, Reply};
pub use method::{Meta, Method, Scope};
pub use outcome::Outcome;

use serde::Serialize;
use serde_json::{Map, Value};

/// The name of supd's interface.
pub const INTERFACE: &str = "dev.supd.Manager";
/// The name of the interface that every Varlink service has.
pub const SERVICE: &str = "org.varlink.service";
/// The description of supd's interface.
pub const DESCRIPTION: &str = include_str!("dev.supd.Manager.varlink");
/// The longest call that supd takes, in bytes. What is big comes as a descriptor.
pub const CALL_MAX: usize = 64 << 10;
/// The longest reply that supctl takes, in bytes: the status of some 100,000 units.
pub const REPLY_MAX: usize = 64 << 20;

/// What a call comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Introspection: here is the answer.
    Answered(Map<String, Value>),
    /// A method of [`INTERFACE`].
    Method(Method, Meta),
}

/// Finds out what a call asks for.
///
/// # Errors
/// Those of org.varlink.service.
pub fn ask(call: Call) -> Result<Asked, Error> {
    let Call { method: full, parameters, upgrade, .. } = call;
    let Some((interface, name)) = full.rsplit_once('.') else {
        return Err(Error::InvalidParameter { parameter: "method".into() });
    };
    if upgrade {
        return Err(Error::MethodNotImplemented { method: full });
    }
    match interface {
        SERVICE => service::answer(name, parameters).map(Asked::Answered),
        INTERFACE => match Method::read(name, parameters) {
            Ok((method, meta)) => Ok(Asked::Method(method, meta)),
            Err(Some(invalid)) => Err(Error::InvalidParameter { parameter: invalid.0 }),
            Err(None) => Err(Error::MethodNotFound { method: full }),
        },
        _ => Err(Error::InterfaceNotFound { interface: interface.to_owned() }),
    }
}

/// A call of [`INTERFACE`], ready to be sent.
#[must_use]
pub fn call(method: &Method, meta: &Meta, more: bool) -> Vec<u8> {
    let method_name = format!("{INTERFACE}.{}", method.name());
    let parameters = method.parameters(meta);
    message::encode(&Call { method: method_name, parameters, more, oneway: false, upgrade: false })
}

/// A reply, ready to be sent.
#[must_use]
pub fn reply(parameters: &impl Serialize, continues: bool) -> Vec<u8> {
    message::encode(&Reply { error: None, parameters, continues })
}

/// An error, ready to be sent.
#[must_use]
pub fn refusal(error: &Error) -> Vec<u8> {
    message::encode(&Reply { error: Some(error.name()), parameters: error, continues: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(method: &str, parameters: &Value) -> Result<Asked, Error> {
        let text = json!({"method": method, "parameters": parameters}).to_string();
        ask(Call::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_service_describes_itself() {
        let Ok(Asked::Answered(info)) = asked("org.varlink.service.GetInfo", &json!({})) else {
            panic!("no info");
        };
        assert_eq!(info["product"], "supd");
        assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
        for interface in info["interfaces"].as_array().unwrap() {
            let parameters = json!({ "interface": interface });
            let Ok(Asked::Answered(told)) = asked("org.varlink.service.GetInterfaceDescription", &parameters)
            else {
                panic!("no description of {interface}");
            };
            let first = format!("\ninterface {}\n", interface.as_str().unwrap());
            assert!(told["description"].as_str().unwrap().contains(&first));
        }
    }

    #[test]
    fn each_wrong_call_gets_the_error_that_varlink_has_for_it() {
        let described = "org.varlink.service.GetInterfaceDescription";
        let cases = [
            ("Swap", json!({}), "InvalidParameter", json!({"parameter": "method"})),
            ("a.b.C", json!({}), "InterfaceNotFound", json!({"interface": "a.b"})),
            ("dev.supd.Manager.Fly", json!({}), "MethodNotFound", json!({"method": "dev.supd.Manager.Fly"})),
            ("dev.supd.Manager.Swap", json!({}), "InvalidParameter", json!({"parameter": "unit"})),
            (
                "org.varlink.service.X",
                json!({}),
                "MethodNotFound",
                json!({"method": "org.varlink.service.X"}),
            ),
            ("org.varlink.service.GetInfo", json!({"x": 1}), "InvalidParameter", json!({"parameter": "x"})),
            (described, json!({}), "InvalidParameter", json!({"parameter": "interface"})),
            (described, json!({"interface": "a.b"}), "InterfaceNotFound", json!({"interface": "a.b"})),
        ];
        for (method, parameters, name, carried) in cases {
            let error = asked(method, &parameters).unwrap_err();
            assert_eq!(error.name(), format!("{SERVICE}.{name}"), "{method}");
            assert_eq!(serde_json::to_value(&error).unwrap(), carried, "{method}");
        }
        let upgrade = Call::parse(br#"{"method":"dev.supd.Manager.Status","upgrade":true}"#).unwrap();
        assert!(matches!(ask(upgrade), Err(Error::MethodNotImplemented { .. })));
    }
}
