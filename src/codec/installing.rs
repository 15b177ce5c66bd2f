//! An install that is under way, as the text of a file in the runtime folder: should supd die, the next one
//! knows what came to nothing, and who asked for it.

use super::shape::{Shape, shape};
use crate::model::{Author, Label};
use serde_json::Value;

/// An install under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installing {
    /// What it is to become.
    pub label: Label,
    /// Who asked for it.
    pub by: Option<Author>,
}

shape!(Installing { label: "label", by: "by" });

/// As text.
#[must_use]
pub fn encode(installing: &Installing) -> String {
    installing.write().to_string()
}

/// From such a text; `None`: it is none.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Installing> {
    Installing::read(&serde_json::from_slice::<Value>(text).ok()?).ok()
}
