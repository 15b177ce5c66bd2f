//! From ProtectSystem, ProtectHome, PrivateTmp and ReadWritePaths to what is mounted for a process of the unit,
//! in which order. The meanings are those of systemd.exec(5).

use super::settings::{ProtectHome, ProtectSystem, Service};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// More of ReadWritePaths are refused: each is a mount, made at every launch.
pub const PATHS_MAX: usize = 256;

/// What is to be at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// What is there, and what is mounted below, as they are outside.
    Kept,
    /// The same, and nobody can write.
    ReadOnly,
    /// What is there, exempted from what is read-only above.
    Writable,
    /// An empty folder of the process's own, for everybody.
    Temporary,
    /// An empty folder that nobody can write.
    Empty,
    /// The same, and nobody can look in.
    Hidden,
}

impl View {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kept, Self::ReadOnly, Self::Writable, Self::Temporary, Self::Empty, Self::Hidden];

    /// Whether what is there cannot be seen any more.
    #[must_use]
    pub fn covers(self) -> bool {
        matches!(self, Self::Temporary | Self::Empty | Self::Hidden)
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where: absolute.
    pub at: PathBuf,
    /// What.
    pub view: View,
    /// It has to be there; what has not may be missing.
    pub required: bool,
    /// The key that asks for it, for people.
    pub key: String,
}

/// What a unit asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// ProtectSystem
    pub system: ProtectSystem,
    /// ProtectHome
    pub home: ProtectHome,
    /// PrivateTmp
    pub private_tmp: bool,
    /// ReadWritePaths
    pub writable: &'a [PathBuf],
}

impl<'a> Asked<'a> {
    /// By its settings.
    #[must_use]
    pub fn by(service: &'a Service) -> Self {
        Self {
            system: service.protect_system,
            home: service.protect_home,
            private_tmp: service.private_tmp,
            writable: &service.read_write_paths,
        }
    }

    /// Whether a process of the unit sees other mounts than supd. ReadWritePaths alone exempts from nothing.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.system != ProtectSystem::No || self.home != ProtectHome::No || self.private_tmp
    }

    /// The first of ReadWritePaths that nobody could reach, as far as names tell: links are followed at the launch
    /// ([`arrange`]).
    #[must_use]
    pub fn hidden(&self) -> Option<&'a Path> {
        let nothing = Needs { reached: &[], written: &[] };
        let hidden = arrange(mounts(*self, nothing)).err()?;
        self.writable.iter().map(PathBuf::as_path).find(|path| *path == hidden.at)
    }

    /// Whether this place is hidden from the processes of the unit, or empty for them, and by which key.
    #[must_use]
    pub fn hides(&self, path: &Path) -> Option<&'static str> {
        let below = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        let exempt = self.writable.iter().any(|exempt| path.starts_with(exempt));
        let home = matches!(self.home, ProtectHome::Yes | ProtectHome::Tmpfs) && below(&HOMES);
        let tmp = self.private_tmp && below(&TEMPORARY);
        let key = if home { "ProtectHome" } else { "PrivateTmp" };
        ((home || tmp) && !exempt).then_some(key)
    }
}

/// What is to stay as it is whatever is hidden above it.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// What a process of the unit has to reach.
    pub reached: &'a [&'a Path],
    /// What it has to write: RuntimeDirectory and its sisters, and a release that is being installed.
    pub written: &'a [&'a Path],
}

const READ_ONLY: [&str; 3] = ["/usr", "/boot", "/efi"];
const KERNELS: [&str; 3] = ["/dev", "/proc", "/sys"];
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
const WRITABLE: &str = "ReadWritePaths";
/// The key of what no key asks for.
const NEEDED: &str = "what supd needs";
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// What is wanted, by names that may be links: for [`arrange`]. None where nothing is asked for: then ReadWritePaths
/// has no effect, as nothing is read-only.
#[must_use]
pub fn mounts(asked: Asked<'_>, needs: Needs<'_>) -> Vec<Mount> {
    if !asked.is_any() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let mut add = |at: &Path, view: View, required: bool, key: &str| {
        all.push(Mount { at: at.components().collect(), view, required, key: key.to_owned() });
    };
    for path in system(asked.system) {
        add(Path::new(path), View::ReadOnly, *path == "/", "ProtectSystem");
    }
    if asked.system == ProtectSystem::Strict {
        KERNELS.iter().for_each(|path| add(Path::new(path), View::Writable, false, "ProtectSystem"));
    }
    let home = match asked.home {
        ProtectHome::No => None,
        ProtectHome::ReadOnly => Some(View::ReadOnly),
        ProtectHome::Tmpfs => Some(View::Empty),
        ProtectHome::Yes => Some(View::Hidden),
    };
    if let Some(view) = home {
        HOMES.iter().for_each(|path| add(Path::new(path), view, false, "ProtectHome"));
    }
    if asked.private_tmp {
        TEMPORARY.iter().for_each(|path| add(Path::new(path), View::Temporary, false, "PrivateTmp"));
    }
    // After what a person has asked for: the first is named where none can be had.
    asked.writable.iter().for_each(|path| add(path, View::Writable, true, WRITABLE));
    needs.written.iter().for_each(|path| add(path, View::Writable, true, NEEDED));
    let reached = if asked.system == ProtectSystem::Strict { View::ReadOnly } else { View::Kept };
    needs.reached.iter().for_each(|path| add(path, reached, false, NEEDED));
    all
}

/// What is to be mounted of it, once no name is a link any more: outer folders before inner ones, and one for each
/// place. Of two the one that hides more counts, and what is exempted over what is read-only.
///
/// # Errors
/// The first of ReadWritePaths that nobody could reach.
pub fn arrange(all: Vec<Mount>) -> Result<Vec<Mount>, Mount> {
    let hides = |outer: &Mount, inner: &Mount| match outer.view {
        View::Hidden => inner.at.starts_with(&outer.at),
        View::Empty | View::Temporary => inner.at == outer.at,
        View::Kept | View::ReadOnly | View::Writable => false,
    };
    let hidden = |mount: &&Mount| mount.key == WRITABLE && all.iter().any(|outer| hides(outer, mount));
    if let Some(mount) = all.iter().find(hidden) {
        return Err(mount.clone());
    }
    let covers: Vec<PathBuf> =
        all.iter().filter(|mount| mount.view.covers()).map(|mount| mount.at.clone()).collect();
    // Where nothing hides it, it is there anyway, and as protected as what it is in.
    let is_there = |mount: &Mount| {
        let is_kept = mount.key == NEEDED && mount.view != View::Writable;
        is_kept && !covers.iter().any(|cover| mount.at.starts_with(cover))
    };
    // Paths are compared part by part, so a folder comes before all that is in it.
    let mut places: BTreeMap<PathBuf, Mount> = BTreeMap::new();
    for mount in all.into_iter().filter(|mount| !is_there(mount)) {
        let counts = places.get(&mount.at).is_none_or(|known| known.view < mount.view);
        if counts {
            places.insert(mount.at.clone(), mount);
        }
    }
    Ok(places.into_values().collect())
}

fn system(protect: ProtectSystem) -> &'static [&'static str] {
    match protect {
        ProtectSystem::No => &[],
        ProtectSystem::Yes => &READ_ONLY,
        ProtectSystem::Full => &["/usr", "/boot", "/efi", "/etc"],
        ProtectSystem::Strict => &["/"],
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Mount, Needs, View, arrange, mounts};
    use crate::model::settings::{ProtectHome, ProtectSystem};
    use std::path::{Path, PathBuf};

    const NOTHING: Asked<'_> =
        Asked { system: ProtectSystem::No, home: ProtectHome::No, private_tmp: false, writable: &[] };

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    fn shown(asked: Asked<'_>, reached: &[&str], written: &[&str]) -> String {
        let reached: Vec<&Path> = reached.iter().map(Path::new).collect();
        let written: Vec<&Path> = written.iter().map(Path::new).collect();
        let mounts = arrange(mounts(asked, Needs { reached: &reached, written: &written }));
        let mounts = mounts.unwrap_or_else(|hidden| panic!("{hidden:?}"));
        let one = |mount: &Mount| format!("{} {:?}", mount.at.display(), mount.view);
        mounts.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn nothing_is_mounted_where_nothing_is_asked_for() {
        let writable = paths(&["/srv"]);
        let asked = Asked { writable: &writable, ..NOTHING };
        assert!(!asked.is_any());
        assert_eq!(shown(asked, &["/tmp/a"], &["/run/web"]), "");
    }

    #[test]
    fn each_word_as_in_systemd() {
        let writable = paths(&["/srv/a"]);
        let of = |system| shown(Asked { system, writable: &writable, ..NOTHING }, &["/srv"], &[]);
        let seen = "/boot ReadOnly, /efi ReadOnly, /srv/a Writable, /usr ReadOnly";
        assert_eq!(of(ProtectSystem::Yes), seen);
        assert_eq!(of(ProtectSystem::Full), seen.replace("/srv", "/etc ReadOnly, /srv"));
        let strict = "/ ReadOnly, /dev Writable, /proc Writable, /srv/a Writable, /sys Writable";
        assert_eq!(of(ProtectSystem::Strict), strict);
        let seen = "/home Hidden, /root Hidden, /run/user Hidden";
        for (home, word) in
            [(ProtectHome::Yes, "Hidden"), (ProtectHome::Tmpfs, "Empty"), (ProtectHome::ReadOnly, "ReadOnly")]
        {
            assert_eq!(shown(Asked { home, ..NOTHING }, &[], &[]), seen.replace("Hidden", word));
        }
        let asked = Asked { private_tmp: true, ..NOTHING };
        assert_eq!(shown(asked, &[], &[]), "/tmp Temporary, /var/tmp Temporary");
    }

    #[test]
    fn what_is_needed_stays_where_it_would_be_hidden() {
        let asked = Asked { private_tmp: true, ..NOTHING };
        let reached = ["/tmp/run", "/run/supd", "/tmpfiles", "/tmp"];
        let seen = "/run/web Writable, /tmp Temporary, /tmp/run Kept, /var/tmp Temporary";
        assert_eq!(shown(asked, &reached, &["/run/web"]), seen);
        // What nobody may write is not to be written there either.
        let strict = shown(Asked { system: ProtectSystem::Strict, ..asked }, &reached, &[]);
        assert!(strict.contains("/tmp Temporary, /tmp/run ReadOnly, "), "{strict}");
        assert!(!strict.contains("/run/supd"), "{strict}");
    }

    #[test]
    fn an_outer_folder_uncovers_nothing() {
        let writable = paths(&["/var", "/usr/", "/var"]);
        let asked = Asked { system: ProtectSystem::Yes, private_tmp: true, writable: &writable, ..NOTHING };
        let seen = "/boot ReadOnly, /efi ReadOnly, /tmp Temporary, /usr Writable, /var Writable, \
                    /var/tmp Temporary";
        assert_eq!(shown(asked, &["/tmp", "/usr"], &[]), seen);
        let root = paths(&["/", "/"]);
        let all = Asked { system: ProtectSystem::Strict, writable: &root, ..NOTHING };
        assert!(shown(all, &[], &[]).starts_with("/ Writable, "));
    }

    #[test]
    fn a_path_that_nobody_could_reach() {
        let writable = paths(&["/srv", "/homes", "/home/web"]);
        let asked = |home| Asked { home, writable: &writable, ..NOTHING };
        assert_eq!(asked(ProtectHome::Yes).hidden(), Some(Path::new("/home/web")));
        assert_eq!(asked(ProtectHome::Tmpfs).hidden(), None);
        let all = paths(&["/home", "/srv"]);
        let of = |home| Asked { home, writable: &all, ..NOTHING }.hidden();
        assert_eq!((of(ProtectHome::Tmpfs), of(ProtectHome::ReadOnly)), (Some(Path::new("/home")), None));
        let tmp = paths(&["/var/tmp"]);
        assert!(Asked { private_tmp: true, writable: &tmp, ..NOTHING }.hidden().is_some());
    }

    #[test]
    fn what_a_process_cannot_begin_with() {
        let writable = paths(&["/home/web"]);
        let asked = Asked { home: ProtectHome::Tmpfs, private_tmp: true, writable: &writable, ..NOTHING };
        for (path, key) in [
            ("/home/shop/bin", Some("ProtectHome")),
            ("/home/web/bin", None),
            ("/homes/x", None),
            ("/tmp/server", Some("PrivateTmp")),
        ] {
            assert_eq!(asked.hides(Path::new(path)), key, "{path}");
        }
        assert_eq!(Asked { home: ProtectHome::ReadOnly, ..NOTHING }.hides(Path::new("/home/x")), None);
    }

    /// By where links lead, an exemption may come before what covers it.
    #[test]
    fn the_order_is_that_of_the_places() {
        let mount =
            |at: &str, view, key: &str| Mount { at: at.into(), view, required: true, key: key.into() };
        let led = vec![
            mount("/usr/local/y", View::Writable, "ReadWritePaths"),
            mount("/usr", View::ReadOnly, "ProtectSystem"),
        ];
        let order: Vec<_> = arrange(led).unwrap().into_iter().map(|mount| mount.at).collect();
        assert_eq!(order, paths(&["/usr", "/usr/local/y"]));
        let led = vec![
            mount("/home/x", View::Writable, "ReadWritePaths"),
            mount("/home", View::Hidden, "ProtectHome"),
        ];
        assert_eq!(arrange(led).unwrap_err().at, Path::new("/home/x"));
    }
}
