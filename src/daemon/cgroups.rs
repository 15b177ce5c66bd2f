//! A cgroup for each generation, where supd may make any: nobody escapes a stop, and status says what it uses.
//!
//! Without them everything else is as it is. Below its generation's group each worker has one of its own, named by
//! its INVOCATION_ID: what is in it is what this worker has started, whoever else of its generation lives. It goes
//! there by itself, between fork and execve; supd only says where, and remembers what could not be done. Commands
//! beside the workers stay with supd.

use super::hands::Hands;
use super::perform::note;
use crate::codec::json::GenerationView;
use crate::machine::{Launch, Level};
use crate::model::settings::Service;
use crate::model::{Generation, Settings, Tick, UnitName, WorkerId};
use crate::os::cgroup::{self, Hierarchy, Joining, Limit, OWN, Usage};
use crate::store::files;
use crate::store::runtime::WorkerRecord;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file of the runtime folder that says where the groups are: a supd that is executed anew is in `supd` there.
const RECORD: &str = "cgroup";

/// cpu.max counts in this many microseconds.
const PERIOD: u64 = 100_000;

/// After a group could not be removed; twice as long each time.
const AGAIN: Duration = Duration::from_millis(50);

/// How often that is tried. What is left then (KillMode=process) goes when another supd comes.
const TRIES: u32 = 8;

/// No group is read for a status of more units at once: each is a few files.
pub(super) const READ_MAX: usize = 128;

/// The groups.
#[derive(Debug)]
pub struct Cgroups {
    /// Where they are, or why there are none.
    base: Result<Base, String>,
    /// What could not be done, of each generation of which that is so: a sentence each.
    faults: BTreeMap<UnitName, BTreeMap<Generation, Vec<String>>>,
    /// Those that could not be removed yet.
    leaving: Vec<Leaving>,
}

#[derive(Debug)]
struct Base {
    /// In the hierarchy.
    path: String,
    folder: PathBuf,
    _lock: File,
}

#[derive(Debug)]
struct Leaving {
    folder: PathBuf,
    tries: u32,
    at: Tick,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self { base: Err("not looked for".to_owned()), faults: BTreeMap::new(), leaving: Vec::new() }
    }
}

/// Who is in groups of generations of the supd that had this runtime folder last, with the groups' names.
pub(super) fn members(runtime: &Path) -> Vec<(String, i32)> {
    let folder = |path: String| Hierarchy::find().ok()?.folder(&path);
    let Some(folder) = fs::read_to_string(runtime.join(RECORD)).ok().and_then(folder) else {
        return Vec::new();
    };
    let names = cgroup::names(&folder).into_iter().filter(|name| is_of_generation(name));
    let inside = |name: &String| cgroup::processes(&folder.join(name));
    names.flat_map(|name| inside(&name).into_iter().map(move |pid| (name.clone(), pid))).collect()
}

impl Cgroups {
    /// Looks for a place, and moves this process into its own group there: before it has children.
    #[must_use]
    pub fn begin(runtime: &Path) -> Self {
        let base = Base::find(&runtime.join(RECORD));
        match &base {
            Ok(base) => log::info!("each generation has a cgroup of its own in {}", base.folder.display()),
            Err(why) => log::info!("generations have no cgroups of their own: {why}"),
        }
        Self { base, ..Self::default() }
    }

    /// Removes the groups that a supd before has left and in which nobody is.
    pub fn clear(&self) {
        let Ok(base) = &self.base else { return };
        let all = cgroup::names(&base.folder).into_iter().filter(|name| is_of_generation(name));
        for folder in all.map(|name| base.folder.join(name)) {
            // Whoever is in one has survived, or was left on purpose.
            let _ = cgroup::remove(&folder);
        }
    }

    /// The group of a generation, whether it is there or not.
    fn group(&self, unit: &UnitName, generation: Generation) -> Option<PathBuf> {
        self.base.as_ref().ok().map(|base| base.folder.join(name(unit, generation)))
    }

    /// That of a worker of a supd that is dead.
    #[must_use]
    pub fn of_record(&self, record: &WorkerRecord) -> Option<PathBuf> {
        let unit = UnitName::new(&record.unit).ok()?;
        let is_ours =
            !record.invocation.is_empty() && record.invocation.bytes().all(|b| b.is_ascii_hexdigit());
        let group = self.group(&unit, Generation(record.generation)).filter(|_| is_ours)?;
        Some(group.join(&record.invocation))
    }

    /// How a worker that is launched comes into its group.
    pub fn place(&mut self, launch: &Launch, invocation: &str) -> Option<Joining> {
        match self.joining(launch, invocation) {
            Ok(joining) => Some(joining),
            Err(why) => {
                let fault = not_in_force(&limits(&launch.settings.service), &why);
                self.lacks(&launch.settings.unit, launch.generation, fault.into_iter().collect());
                None
            }
        }
    }

    fn joining(&self, launch: &Launch, invocation: &str) -> Result<Joining, String> {
        let Settings { unit, service, .. } = &*launch.settings;
        let (base, own) = (self.base.as_ref()?.folder.clone(), invocation.to_owned());
        Ok(Joining { base, name: name(unit, launch.generation), own, limits: limits(service) })
    }

    /// The group of a worker that has outlived the supd that launched it. Its limits are set once more: somebody
    /// may have taken the controllers away meanwhile, so that systemd could start this one.
    fn adopted(&mut self, launch: &Launch, invocation: &str, pid: i32) -> Option<PathBuf> {
        let joining = self.place(launch, invocation)?;
        let own = self.path(&joining.name).map(|path| format!("{path}/{invocation}"));
        // One that runs as root may have made a group below it for itself.
        let is_own = |group: String| {
            own.as_deref()
                .and_then(|own| group.strip_prefix(own))
                .is_some_and(|it| it.is_empty() || it.starts_with('/'))
        };
        if cgroup::of(pid).is_some_and(is_own) {
            self.lacks(&launch.settings.unit, launch.generation, joining.limit());
            return Some(joining.folder());
        }
        let without = "it was launched without a cgroup of its own";
        let lost = not_in_force(&joining.limits, without);
        let faults = std::iter::once(without.to_owned()).chain(lost).collect();
        self.lacks(&launch.settings.unit, launch.generation, faults);
        None
    }

    /// Where a generation is in the hierarchy, or would be.
    #[must_use]
    pub fn of_generation(&self, unit: &UnitName, generation: Generation) -> Option<String> {
        self.path(&name(unit, generation))
    }

    /// A group in the hierarchy.
    fn path(&self, name: &str) -> Option<String> {
        self.base.as_ref().ok().map(|base| format!("{}/{name}", base.path.trim_end_matches('/')))
    }

    /// What could not be done for a generation: it is logged once, and in its status as long as it lives.
    fn lacks(&mut self, unit: &UnitName, generation: Generation, faults: Vec<String>) {
        for fault in faults {
            let known = self.faults.entry(unit.clone()).or_default().entry(generation).or_default();
            if !known.contains(&fault) {
                note(unit, Level::Warning, Some(generation), &fault);
                known.push(fault);
            }
        }
    }

    /// Nobody of it is left.
    pub fn retire(&mut self, unit: &UnitName, generation: Generation, now: Tick) {
        if let Some(faults) = self.faults.get_mut(unit) {
            faults.remove(&generation);
            if faults.is_empty() {
                self.faults.remove(unit);
            }
        }
        if let Some(folder) = self.group(unit, generation) {
            self.leaving.push(Leaving { folder, tries: 0, at: now });
            self.tend(now);
        }
    }

    /// Removes what could not be removed before: the kernel takes a moment after the last process.
    pub fn tend(&mut self, now: Tick) {
        self.leaving.retain_mut(|one| {
            if now < one.at {
                return true;
            }
            one.at = now.after(AGAIN * (1 << one.tries));
            one.tries += 1;
            cgroup::remove(&one.folder) == Err(Errno::EBUSY) && one.tries < TRIES
        });
    }

    /// When [`Cgroups::tend`] is due although nothing happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.leaving.iter().map(|one| one.at).min()
    }

    /// Why no generation has one.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.base.as_ref().err().map(String::as_str)
    }

    /// What these generations lack, a sentence each.
    #[must_use]
    pub fn notes(&self, unit: &UnitName) -> Vec<String> {
        let each = self.faults.get(unit).into_iter().flatten();
        let said = |(generation, faults): (&Generation, &Vec<String>)| {
            faults.iter().map(|fault| format!("generation {generation}: {fault}")).collect::<Vec<_>>()
        };
        each.flat_map(said).collect()
    }

    /// Fills in what a generation uses, if it has a group.
    pub fn show(&self, unit: &UnitName, generation: Generation, view: &mut GenerationView) {
        let Some(folder) = self.group(unit, generation).filter(|folder| folder.exists()) else { return };
        let Usage { memory, cpu_usec, tasks } = Usage::read(&folder);
        view.cgroup = self.path(&name(unit, generation));
        (view.memory_bytes, view.cpu_us, view.tasks) = (memory, cpu_usec, tasks);
    }
}

impl Base {
    fn find(record: &Path) -> Result<Self, String> {
        let hierarchy = Hierarchy::find()?;
        let recorded = fs::read_to_string(record).ok();
        let delegated =
            |path: &str| hierarchy.folder(path).is_some_and(|folder| cgroup::is_delegated(&folder));
        let path = choose(&hierarchy.own, recorded.as_deref(), delegated)?;
        let folder = hierarchy.folder(&path);
        let folder = folder.ok_or_else(|| format!("supd's own, {path}, is under no mount of cgroup2"))?;
        if cgroup::is_root(&folder) {
            return Err(
                "supd is in the root cgroup, which is the machine's (its service needs Delegate=yes)".into(),
            );
        }
        let shown = folder.display();
        let lock = cgroup::take(&folder).map_err(|errno| match errno {
            Errno::EAGAIN => format!("another supd has them in {shown}"),
            errno => format!("supd may not move processes in {shown}: {}", errno.desc()),
        })?;
        let own = folder.join(OWN);
        cgroup::make(&own).map_err(|errno| format!("cannot make {}: {}", own.display(), errno.desc()))?;
        cgroup::enter(&own).map_err(|errno| format!("cannot join {}: {}", own.display(), errno.desc()))?;
        if let Err(error) = files::put(record, path.as_bytes(), 0o600) {
            log::warn!("{error}");
        }
        Ok(Self { path, folder, _lock: lock })
    }
}

/// The group in which supd makes its own. `recorded`: where an earlier supd of this runtime folder had it.
/// `delegated`: whether systemd says so of a group.
fn choose(own: &str, recorded: Option<&str>, delegated: impl Fn(&str) -> bool) -> Result<String, String> {
    let above = own.strip_suffix(OWN).and_then(|above| above.strip_suffix('/')).filter(|it| !it.is_empty());
    let base = match above {
        Some(above) if recorded == Some(above) || delegated(above) => above,
        Some(_) | None => own,
    };
    // What systemd manages is systemd's, whoever owns the folder.
    match systemd_unit(base) {
        Some(unit) if !delegated(unit) => {
            Err(format!("systemd has not delegated {unit} (its unit needs Delegate=yes)"))
        }
        Some(_) | None => Ok(base.to_owned()),
    }
}

/// The nearest group at or above this one that is a unit of systemd's.
fn systemd_unit(path: &str) -> Option<&str> {
    let up = std::iter::successors(Some(path), |path| path.rsplit_once('/').map(|(above, _)| above));
    let kinds = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
    up.into_iter().find(|path| kinds.iter().any(|kind| path.ends_with(kind)))
}

/// Names of units have no slash, and none of them is `supd` with this at its end.
fn name(unit: &UnitName, generation: Generation) -> String {
    format!("{unit}.g{generation}")
}

fn is_of_generation(name: &str) -> bool {
    name.rsplit_once(".g").is_some_and(|(unit, number)| {
        UnitName::new(unit).is_ok() && number.parse::<u64>().is_ok_and(|it| it.to_string() == number)
    })
}

/// What a unit asks for, in the kernel's words. memory.oom.group stays off: of several workers the others go on
/// serving, and the one that is killed is launched again.
fn limits(service: &Service) -> Vec<Limit> {
    let limit = |key: &str, controller: &str, file: &str, value: String| Limit {
        key: key.to_owned(),
        controller: controller.to_owned(),
        file: file.to_owned(),
        value,
    };
    let memory =
        service.memory_max.map(|bytes| limit("MemoryMax", "memory", "memory.max", bytes.to_string()));
    let tasks = service.tasks_max.map(|tasks| limit("TasksMax", "pids", "pids.max", tasks.to_string()));
    let cpu = service.cpu_quota_percent.map(|percent| {
        limit("CPUQuota", "cpu", "cpu.max", format!("{} {PERIOD}", u64::from(percent) * PERIOD / 100))
    });
    [memory, tasks, cpu].into_iter().flatten().collect()
}

fn not_in_force(limits: &[Limit], why: &str) -> Option<String> {
    let keys: Vec<&str> = limits.iter().map(|limit| &*limit.key).collect();
    let verb = if keys.len() == 1 { "is" } else { "are" };
    (!keys.is_empty()).then(|| format!("{} {verb} not in force without a cgroup: {why}", keys.join(", ")))
}

impl Hands {
    /// What a worker said of its group on its way to its program.
    pub(super) fn hear_of_group(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let notes = std::mem::take(&mut worker.notes);
        if !notes.is_empty() {
            let launch = worker.launch.clone();
            self.cgroups.lacks(&launch.settings.unit, launch.generation, notes);
        }
    }

    /// A worker that has outlived its supd is in the group that it was launched into.
    pub(super) fn go_on_in_group(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(id) else { return };
        let Some(pid) = worker.main().map(crate::os::pidfd::PidFd::pid) else { return };
        worker.group = self.cgroups.adopted(&worker.launch, &worker.invocation, pid);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testbed::{recipe, settings};
    use super::*;

    #[test]
    fn limits_are_in_the_kernels_words() {
        assert_eq!(limits(&settings("ExecStart = [\"/bin/x\"]").service), []);
        let text = "MemoryMax = \"16M\"\nTasksMax = 100\nCPUQuota = \"150%\"\nExecStart = [\"/bin/x\"]";
        let limits = limits(&settings(text).service);
        let written: Vec<_> = limits.iter().map(|it| (&*it.controller, &*it.file, &*it.value)).collect();
        let expected = [
            ("memory", "memory.max", "16777216"),
            ("pids", "pids.max", "100"),
            ("cpu", "cpu.max", "150000 100000"),
        ];
        assert_eq!(written, expected);
        let said = not_in_force(&limits, "no mount").unwrap();
        assert_eq!(said, "MemoryMax, TasksMax, CPUQuota are not in force without a cgroup: no mount");
    }

    #[test]
    fn the_place_is_supds_own_or_the_one_above() {
        let none = |_: &str| false;
        let service = "/system.slice/supd.service";
        let delegated = |path: &str| path == service;
        assert_eq!(choose(service, None, delegated).unwrap(), service);
        // DelegateSubgroup=supd.
        assert_eq!(choose("/system.slice/supd.service/supd", None, delegated).unwrap(), service);
        // Without systemd a group that happens to have this name is no reason to go up, but what is recorded is.
        assert_eq!(choose("/lxc/supd", None, none).unwrap(), "/lxc/supd");
        assert_eq!(choose("/box/supd", Some("/box"), none).unwrap(), "/box");
        assert_eq!(choose("/box", Some("/box"), none).unwrap(), "/box");
        assert_eq!(choose("/other", Some("/box"), none).unwrap(), "/other");
        assert_eq!(choose("/supd", Some(""), none).unwrap(), "/supd");
        assert_eq!(choose("/", None, none).unwrap(), "/");
        // What is systemd's and not delegated stays alone, and what is below it too.
        let session = "/user.slice/user-0.slice/session-3.scope";
        for own in [session, &format!("{session}/x")] {
            let why = choose(own, None, none).unwrap_err();
            assert_eq!(why, format!("systemd has not delegated {session} (its unit needs Delegate=yes)"));
        }
    }

    #[test]
    fn a_group_is_named_after_its_generation() {
        for (unit, generation) in [("web", 1), ("a.g1", 20), ("memory", 3)] {
            assert!(is_of_generation(&name(&UnitName::new(unit).unwrap(), Generation(generation))), "{unit}");
        }
        for name in ["supd", "web", "web.g", "web.g01", "web.gx", ".g1", "init.scope", "web.g-1"] {
            assert!(!is_of_generation(name), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_said_as_long_as_the_generation_lives() {
        let mut cgroups = Cgroups::default();
        let (with, unit) =
            (recipe(2, "TasksMax = 9\nExecStart = [\"/bin/x\"]"), UnitName::new("web").unwrap());
        assert_eq!(cgroups.place(&recipe(1, "ExecStart = [\"/bin/x\"]"), "0a"), None);
        assert!(cgroups.notes(&unit).is_empty());
        for _ in 0..2 {
            assert_eq!(cgroups.place(&with, "0a"), None);
        }
        let said = "generation 2: TasksMax is not in force without a cgroup: not looked for";
        assert_eq!(cgroups.notes(&unit), [said]);
        cgroups.retire(&unit, Generation(2), Tick(0));
        assert!(cgroups.notes(&unit).is_empty() && cgroups.faults.is_empty() && cgroups.deadline().is_none());
    }
}
