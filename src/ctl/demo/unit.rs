//! The demo's unit file: between the acts only the version in it changes.

use super::version::Version;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

/// The unit's name.
pub(super) const NAME: &str = "web";

/// Everything that the file says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit<'a> {
    /// The demo's folder.
    pub(super) home: &'a Path,
    /// This program.
    pub(super) program: &'a str,
    /// Where it listens.
    pub(super) address: SocketAddr,
}

impl Unit<'_> {
    /// Puts the file in place, with this version.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub(super) fn write(&self, version: Version) -> io::Result<()> {
        let folder = self.home.join("units");
        fs::create_dir_all(&folder)?;
        // supd may read at any moment: it sees the old one or the new one, whole.
        let new = folder.join(format!(".{NAME}.new"));
        fs::write(&new, self.text(version))?;
        fs::rename(&new, folder.join(format!("{NAME}.unit")))
    }

    fn text(&self, version: Version) -> String {
        let home = self.home.to_string_lossy();
        // In an argument "$" begins a variable, and "$$" is the sign itself. The outer brackets let a
        // space be part of the program's path.
        let (program, home) = (quoted(self.program), quoted(&home.replace('$', "$$")));
        format!(
            "# The unit of supctl demo.\n\
             [Unit]\n\
             Description = \"supctl demo\"\n\
             \n\
             [[Socket]]\n\
             Name = \"http\"\n\
             ListenStream = \"{}\"\n\
             \n\
             [Service]\n\
             ExecStart = [[{program}, \"demo\", \"server\", \"{version}\", {home}]]\n\
             ReadySettleSec = \"300ms\"\n\
             TimeoutStopSec = \"10s\"\n\
             \n\
             [Swap]\n\
             Retain = \"warm\"\n\
             ProbationSec = \"1500ms\"\n",
            self.address
        )
    }
}

/// A basic string of TOML: JSON's escapes are among its own. (DEL is refused in a program anyway.)
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::unitfile::{Runner, Source, Sources, parse_for};
    use crate::model::UnitName;

    #[test]
    fn any_path_comes_back_out_of_the_file() {
        let home = tempfile::tempdir().unwrap();
        let program = "/opt/a \"b\" \\c é/supctl";
        let unit = Unit { home: home.path(), program, address: "127.0.0.1:8080".parse().unwrap() };
        unit.write(Version::New).unwrap();
        let path = home.path().join("units/web.unit");
        let main = Source::new(&path, fs::read_to_string(&path).unwrap());
        let unit = UnitName::new(NAME).unwrap();
        let sources = Sources { unit, defaults: None, main, drop_ins: Vec::new() };
        let loaded = parse_for(&sources, Runner::Ordinary).unwrap();
        assert_eq!(loaded.warnings, []);
        assert_eq!(loaded.settings.sockets[0].address.to_string(), "127.0.0.1:8080");
        let command = loaded.settings.service.exec_start;
        assert_eq!(command.program, program);
        assert_eq!(command.arguments[..3], ["demo", "server", "2.0"]);
        assert_eq!(Some(command.arguments[3].as_str()), home.path().to_str());
    }
}
