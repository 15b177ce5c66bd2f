//! A test, and what it needs besides a kernel.

use libtest_mimic::{Failed, Trial};
use std::path::{Path, PathBuf};

/// What a test needs besides a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Root,
    /// Root, and cgroups of version 2.
    Cgroups,
    /// A program, and the Debian package that brings it.
    Program(&'static str, &'static str),
    /// A shared library, and the Debian package that brings it.
    Library(&'static str, &'static str),
    /// A file, and what brings it.
    File(&'static str, &'static str),
}

impl Need {
    /// Why the test cannot run here.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root if nix::unistd::geteuid().is_root() => None,
            Self::Root => Some("needs root".into()),
            Self::Cgroups if !nix::unistd::geteuid().is_root() => Some("needs root".into()),
            Self::Cgroups => {
                let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
                let has = known.lines().any(|line| line.ends_with("\tcgroup2"));
                (!has).then(|| "needs a kernel with cgroups of version 2".to_owned())
            }
            Self::Program(name, package) => match find_program(name) {
                Some(_) => None,
                None => Some(format!("needs {name}: apt-get install {package}")),
            },
            Self::Library(name, package) => {
                let found =
                    ["/lib", "/usr/lib", "/usr/lib64", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"]
                        .iter()
                        .any(|folder| Path::new(folder).join(name).exists());
                (!found).then(|| format!("needs {name}: apt-get install {package}"))
            }
            Self::File(path, from) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
                (!path.exists()).then(|| format!("needs {}: {from}", path.display()))
            }
        }
    }
}

/// Where PATH has a program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps haproxy and lighttpd in sbin, which an ordinary user's PATH leaves out.
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// One test.
pub(crate) struct Test {
    name: &'static str,
    run: fn(),
    needs: &'static [Need],
}

/// A test that needs nothing but a kernel.
pub(crate) fn test(name: &'static str, run: fn()) -> Test {
    Test { name, run, needs: &[] }
}

/// A test with needs.
pub(crate) fn test_with(name: &'static str, needs: &'static [Need], run: fn()) -> Test {
    Test { name, run, needs }
}

impl Test {
    /// For root what is missing is a failure; for an ordinary user it is named, and the test skipped.
    pub(crate) fn trial(self) -> Trial {
        let missing: Vec<String> = self.needs.iter().filter_map(|need| need.missing()).collect();
        let run = self.run;
        if missing.is_empty() {
            return Trial::test(self.name, move || {
                run();
                Ok(())
            });
        }
        let why = missing.join(", ");
        if nix::unistd::geteuid().is_root() {
            return Trial::test(self.name, move || Err(Failed::from(why)));
        }
        Trial::test(self.name, || Ok(())).with_kind(why).with_ignored_flag(true)
    }
}
