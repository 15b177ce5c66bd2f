//! The files of a unit as texts: what a generation is pinned with.

use crate::model::UnitName;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// For people: nothing opens it again. What is not UTF-8 in it is replaced.
    #[serde(with = "path")]
    pub path: PathBuf,
    /// Everything in it.
    pub text: String,
}

impl Source {
    /// A source from its path and its text.
    #[must_use]
    pub fn new(path: impl AsRef<Path>, text: impl Into<String>) -> Self {
        Self { path: path.as_ref().to_owned(), text: text.into() }
    }
}

/// Everything that says what a unit is. Read once, it is kept with the generation that it
/// launched, and parsed again after a restart of supd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The unit's name, from the file's name.
    #[serde(with = "unit_name")]
    pub unit: UnitName,
    /// supd.toml, where there is one.
    pub defaults: Option<Source>,
    /// NAME.unit
    pub main: Source,
    /// NAME.unit.d/*.unit, in the order of their names.
    pub drop_ins: Vec<Source>,
}

mod path {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::path::{Path, PathBuf};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&path.to_string_lossy())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        String::deserialize(deserializer).map(PathBuf::from)
    }
}

mod unit_name {
    use crate::model::UnitName;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(name: &UnitName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnitName, D::Error> {
        let name = String::deserialize(deserializer)?;
        UnitName::new(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, Sources};
    use crate::model::UnitName;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn sources_survive_json() {
        let sources = Sources {
            unit: UnitName::new("web").unwrap(),
            defaults: None,
            main: Source::new("/etc/supd/units/web.unit", "[Service]\nExecStart = \"/bin/\\u0001é\"\n"),
            drop_ins: vec![Source::new("10-a.unit", "")],
        };
        let json = serde_json::to_string(&sources).unwrap();
        assert_eq!(serde_json::from_str::<Sources>(&json).unwrap(), sources);
        assert!(serde_json::from_str::<Sources>(&json.replace("\"web\"", "\"../web\"")).is_err());

        let odd = Source::new(OsStr::from_bytes(b"/tmp/\xff/web.unit"), "");
        let json = serde_json::to_string(&odd).unwrap();
        assert_eq!(
            serde_json::from_str::<Source>(&json).unwrap().path.to_str(),
            Some("/tmp/\u{fffd}/web.unit")
        );
    }
}
