//! org.varlink.service: what this service is, and the description of its interfaces.

use super::error::Error;
use super::{DESCRIPTION, INTERFACE, SERVICE};
use serde_json::{Map, Value, json};

/// The description that varlink.org gives, word for word.
const SERVICE_DESCRIPTION: &str = "\
# The Varlink Service Interface is provided by every varlink service. It
# describes the service and the interfaces it implements.
interface org.varlink.service

# Get a list of all the interfaces a service provides and information
# about the implementation.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# Get the description of an interface that is implemented by this service.
method GetInterfaceDescription(interface: string) -> (description: string)

# The requested interface was not found.
error InterfaceNotFound (interface: string)

# The requested method was not found
error MethodNotFound (method: string)

# The interface defines the requested method, but the service does not
# implement it.
error MethodNotImplemented (method: string)

# One of the passed parameters is invalid.
error InvalidParameter (parameter: string)
";

/// Answers `method` of org.varlink.service.
///
/// # Errors
/// Those that the interface names.
pub(super) fn answer(method: &str, mut parameters: Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let result = match method {
        "GetInfo" => json!({
            "vendor": "supd",
            "product": "supd",
            "version": env!("CARGO_PKG_VERSION"),
            "url": env!("CARGO_PKG_REPOSITORY"),
            "interfaces": [SERVICE, INTERFACE],
        }),
        "GetInterfaceDescription" => {
            let asked = parameters.remove("interface");
            let description = match asked.as_ref().and_then(Value::as_str) {
                Some(SERVICE) => SERVICE_DESCRIPTION,
                Some(INTERFACE) => DESCRIPTION,
                Some(other) => return Err(Error::InterfaceNotFound { interface: other.to_owned() }),
                None => return Err(Error::InvalidParameter { parameter: "interface".into() }),
            };
            json!({ "description": description })
        }
        _ => return Err(Error::MethodNotFound { method: format!("{SERVICE}.{method}") }),
    };
    if let Some(parameter) = parameters.keys().next() {
        return Err(Error::InvalidParameter { parameter: parameter.clone() });
    }
    match result {
        Value::Object(map) => Ok(map),
        _ => unreachable!("both answers are written as objects above"),
    }
}
