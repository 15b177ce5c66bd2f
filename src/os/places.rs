//! Where things live: unit files, the runtime folder, the state folder.
//!
//! A flag wins over the environment, the environment over the built-in place. As root the places
//! are those of the file hierarchy (hier(7)); for anyone else those of the XDG base directory
//! specification, which also says that a relative path in one of its variables is to be ignored.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// The name of the control socket within the runtime folder.
pub const CONTROL_SOCKET: &str = "control";

/// Places that were given on a command line. (supctl's reads SUPD_RUNTIME for its flag too: given
/// twice, the flag wins.)
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// `--units DIR`
    pub units: Option<PathBuf>,
    /// `--runtime DIR`
    pub runtime: Option<PathBuf>,
    /// `--state DIR`
    pub state: Option<PathBuf>,
}

/// Where supd finds and keeps things; every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Folders of unit files; an earlier one wins.
    pub units: Vec<PathBuf>,
    /// Defaults for all units: supd.toml, beside the first folder of unit files.
    pub defaults: PathBuf,
    /// Sockets, the intent and the lock; it outlives supd, but not the boot.
    pub runtime: PathBuf,
    /// The ledger, pinned programs and later releases.
    pub state: PathBuf,
    /// UNIT/GENERATION.log
    pub logs: PathBuf,
}

/// A place that nobody gave and that cannot be guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Which folder, for people.
    what: &'static str,
    /// The variable that would have named it.
    variable: &'static str,
    /// The flag that names it.
    flag: &'static str,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, variable, flag } = self;
        write!(f, "no place for the {what}: {variable} is not set to an absolute path; give {flag} DIR")
    }
}

impl std::error::Error for Unknown {}

/// The environment and the caller, as far as places go.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Whether the effective user is root.
    pub root: bool,
    /// Looks up one environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Caller<'static> {
    /// This process.
    #[must_use]
    pub fn this() -> Self {
        Self { root: nix::unistd::geteuid().is_root(), variable: &|name| std::env::var_os(name) }
    }
}

impl Caller<'_> {
    /// A variable that names a folder; an empty one counts as unset.
    fn folder(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// A folder of the XDG specification, `below` HOME where the variable is unset.
    fn xdg(&self, name: &str, below: Option<&str>) -> Option<PathBuf> {
        let set = self.folder(name).filter(|path| path.is_absolute());
        let home = || Some(self.folder("HOME").filter(|path| path.is_absolute())?.join(below?));
        set.or_else(home)
    }
}

impl Places {
    /// The places for these flags and this caller.
    ///
    /// # Errors
    /// [`Unknown`] for an ordinary user without HOME or XDG_RUNTIME_DIR who gave no flag either.
    pub fn resolve(given: &Given, caller: &Caller<'_>) -> Result<Self, Unknown> {
        let units = match given.units.clone().or_else(|| caller.folder("SUPD_UNITS")) {
            Some(folder) => vec![absolute(&folder)],
            None if caller.root => vec!["/etc/supd/units".into(), "/usr/lib/supd/units".into()],
            None => vec![
                caller.xdg("XDG_CONFIG_HOME", Some(".config")).map(|path| path.join("supd/units")).ok_or(
                    Unknown { what: "unit files", variable: "XDG_CONFIG_HOME or HOME", flag: "--units" },
                )?,
            ],
        };
        let runtime = match runtime_given(given.runtime.as_deref(), caller) {
            Some(folder) => folder,
            None if caller.root => "/run/supd".into(),
            None => caller.xdg("XDG_RUNTIME_DIR", None).map(|path| path.join("supd")).ok_or(Unknown {
                what: "runtime folder",
                variable: "XDG_RUNTIME_DIR",
                flag: "--runtime",
            })?,
        };
        let state_given = given.state.clone().or_else(|| caller.folder("SUPD_STATE"));
        let (state, logs) = match state_given.map(|folder| absolute(&folder)) {
            Some(folder) => (folder.clone(), folder.join("logs")),
            None if caller.root => ("/var/lib/supd".into(), "/var/log/supd".into()),
            None => {
                let unknown = Unknown { what: "state", variable: "XDG_STATE_HOME or HOME", flag: "--state" };
                let folder = caller.xdg("XDG_STATE_HOME", Some(".local/state")).ok_or(unknown)?.join("supd");
                (folder.clone(), folder.join("logs"))
            }
        };
        let defaults = units[0].parent().unwrap_or(Path::new("/")).join("supd.toml");
        Ok(Self { units, defaults, runtime, state, logs })
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.runtime.join(CONTROL_SOCKET)
    }
}

/// The control socket that supctl asks, given `--runtime`.
///
/// An ordinary user reaches the supd of the machine too (a member of a ControlGroup has no other
/// way), so where no supd of one's own has a socket, that of root is meant.
#[must_use]
pub fn control_socket(runtime: Option<&Path>, caller: &Caller<'_>) -> PathBuf {
    let system = Path::new("/run/supd").join(CONTROL_SOCKET);
    if let Some(folder) = runtime_given(runtime, caller) {
        return folder.join(CONTROL_SOCKET);
    }
    if caller.root {
        return system;
    }
    match caller.xdg("XDG_RUNTIME_DIR", None).map(|path| path.join("supd").join(CONTROL_SOCKET)) {
        Some(own) if own.exists() || !system.exists() => own,
        Some(_) | None => system,
    }
}

/// `--runtime`, else SUPD_RUNTIME.
fn runtime_given(flag: Option<&Path>, caller: &Caller<'_>) -> Option<PathBuf> {
    let folder = flag.map(Path::to_path_buf).or_else(|| caller.folder("SUPD_RUNTIME"))?;
    Some(absolute(&folder))
}

/// The path from the root: supd changes its working directory, and workers get some of these.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_with<'a>(root: bool, variable: &'a dyn Fn(&str) -> Option<OsString>) -> Caller<'a> {
        Caller { root, variable }
    }

    #[test]
    fn root_has_the_places_of_the_machine() {
        let places = Places::resolve(&Given::default(), &caller_with(true, &|_| None)).unwrap();
        assert_eq!(places.units, [PathBuf::from("/etc/supd/units"), PathBuf::from("/usr/lib/supd/units")]);
        assert_eq!(places.defaults, Path::new("/etc/supd/supd.toml"));
        assert_eq!(places.control(), Path::new("/run/supd/control"));
        assert_eq!(places.state, Path::new("/var/lib/supd"));
        assert_eq!(places.logs, Path::new("/var/log/supd"));
    }

    #[test]
    fn others_have_the_places_of_xdg() {
        let set = |name: &str| match name {
            "HOME" => Some("/home/ann".into()),
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            "XDG_STATE_HOME" => Some("not/absolute".into()),
            _ => None,
        };
        let places = Places::resolve(&Given::default(), &caller_with(false, &set)).unwrap();
        assert_eq!(places.units, [PathBuf::from("/home/ann/.config/supd/units")]);
        assert_eq!(places.runtime, Path::new("/run/user/7/supd"));
        assert_eq!(places.state, Path::new("/home/ann/.local/state/supd"));
        assert_eq!(places.logs, Path::new("/home/ann/.local/state/supd/logs"));
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_both_over_the_default() {
        let set = |name: &str| match name {
            "SUPD_UNITS" => Some("/u".into()),
            "SUPD_RUNTIME" => Some("/r".into()),
            "SUPD_STATE" => Some("".into()),
            _ => None,
        };
        let given = Given { runtime: Some("/flag".into()), ..Given::default() };
        let places = Places::resolve(&given, &caller_with(true, &set)).unwrap();
        assert_eq!(places.units, [PathBuf::from("/u")]);
        assert_eq!(places.defaults, Path::new("/supd.toml"));
        assert_eq!(places.runtime, Path::new("/flag"));
        assert_eq!(places.state, Path::new("/var/lib/supd"), "an empty variable counts as unset");
        let given = Given { state: Some("s".into()), ..Given::default() };
        let places = Places::resolve(&given, &caller_with(true, &set)).unwrap();
        assert!(places.state.is_absolute() && places.logs == places.state.join("logs"));
    }

    #[test]
    fn what_cannot_be_guessed_names_the_flag() {
        let fault = Places::resolve(&Given::default(), &caller_with(false, &|_| None)).unwrap_err();
        assert!(fault.to_string().ends_with("give --units DIR"), "{fault}");
        let home = |name: &str| (name == "HOME").then(|| "/home/ann".into());
        let fault = Places::resolve(&Given::default(), &caller_with(false, &home)).unwrap_err();
        assert!(fault.to_string().contains("XDG_RUNTIME_DIR"), "{fault}");
    }

    #[test]
    fn an_ordinary_user_reaches_a_supd_of_their_own_first() {
        let own = tempfile::tempdir().unwrap();
        let path = own.path().to_path_buf();
        let set = move |name: &str| (name == "XDG_RUNTIME_DIR").then(|| path.clone().into());
        let caller = caller_with(false, &set);
        std::fs::create_dir(own.path().join("supd")).unwrap();
        std::fs::write(own.path().join("supd/control"), "").unwrap();
        assert_eq!(control_socket(None, &caller), own.path().join("supd/control"));
        assert_eq!(control_socket(Some(Path::new("/x")), &caller), Path::new("/x/control"));
        assert_eq!(control_socket(None, &caller_with(false, &|_| None)), Path::new("/run/supd/control"));
        assert_eq!(control_socket(None, &caller_with(true, &set)), Path::new("/run/supd/control"));
    }
}
