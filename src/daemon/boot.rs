//! From the command line to a loop that may run: places, locks, the ledger, what a dead supd left,
//! and every unit as the files and the ledger say.

use super::aftermath;
use super::cgroups::Cgroups;
use super::cli::Cli;
use super::clients::Clients;
use super::control::{Control, Limits};
use super::hands::Hands;
use super::history;
use super::keeping::Keeping;
use super::last_resort;
use super::launch::{Ground, prepare};
use super::leftovers;
use super::lock::Lock;
use super::metrics::Metrics;
use super::mirror::Mirror;
use super::one_unit::{self, Alone, OneUnit};
use super::parcels::Lots;
use super::pinning::Copy;
use super::reactor::Reactor;
use super::recorder::Recorder;
use super::reexec;
use super::requests::Carried;
use super::sources::{CONTROL_FIRST, Source, Sources};
use super::steer::Salts;
use super::survivors::Survivors;
use super::unfinished::Unfinished;
use super::units::{Units, Unreadable};
use crate::codec::json::HistoryEntry;
use crate::codec::ledger::Replay;
use crate::codec::request::Stamp;
use crate::codec::varlink::Method;
use crate::machine::{Input, Restored};
use crate::model::handover::Handover;
use crate::model::settings::Resource;
use crate::model::{ClientId, Durable, Generation, Settings, UnitName};
use crate::os::clock::{self, BootId};
use crate::os::original::{Original, set_raw};
use crate::os::places::{Caller, Places};
use crate::os::spawn::{Common, Launcher, Roots, environment};
use crate::os::{image, inherited, journal, process};
use crate::store::crashes::Crashes;
use crate::store::files::make_folder;
use crate::store::history::{Found, History};
use crate::store::ledger::Ledger;
use crate::store::pins::Pins;
use crate::store::releases::{Known, Releases};
use crate::store::requests;
use crate::store::runtime::Runtime;
use crate::store::units::UnitFolders;
use signal_hook_mio::v1_0::Signals;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long the writer of a supd that died may take to finish what it was given.
const WRITER_BOUND: Duration = Duration::from_secs(60);

/// So many numbers of the history are passed over after a boot of the machine.
const SKIPPED: u64 = 1_000;

/// Everything that must hold before the first unit is looked at. An error is a whole sentence.
///
/// # Errors
/// Why supd cannot begin, and what to do.
pub fn boot(cli: &Cli, handover: Option<&Handover>) -> Result<Reactor, String> {
    // Before anything of this process is changed: workers get what supd was given.
    let original = Original::read().map_err(|error| error.to_string())?;
    let places = Places::resolve(&cli.given, &Caller::this()).map_err(|unknown| unknown.to_string())?;
    let (runtime, locks) = folders(&places, handover)?;
    let (boot, crashes, holding) = marks(&places, cli)?;
    let (cgroups, roots, launcher) = launcher(&places, &original)?;
    let (replay, (last, booted)) = replay(&places.state, &boot)?;
    let pins = Pins::new(&places.state);
    let (keeping, lots) = Keeping::begin(&runtime, &boot, comes_again(cli), clock::now());
    let (passed, mirror, lots) = passed(handover, lots);
    let survivors = survivors(cli, (&runtime, &cgroups), &boot, lots, (&last, &booted), &pins).with(handover);
    let (sources, signals) = sources()?;
    let (control, reexecuted) = control(&places, &sources, handover)?;
    let (seq, began) = past(&places.state, &replay, &boot);
    let unfinished = Unfinished::of(&replay, &last, |unit| runtime.intent(unit));
    let clients = clients(&places.state, &replay, &unfinished, &boot, handover.is_some());
    let releases = releases(&places.state, &last, replay.damaged.is_empty());
    let carried = carried(replay, &last);
    let mut hands = Hands {
        inbox: VecDeque::new(),
        sources,
        control,
        clients,
        onlookers: Default::default(),
        gather: Default::default(),
        units: units(&places, cli),
        recorder: Recorder::new(places.state.clone(), boot.to_string(), seq, last),
        listeners: BTreeMap::new(),
        salts: Salts::begin(handover.and_then(|handover| handover.salts)),
        last_calls: Default::default(),
        inherited: passed,
        keeping,
        mirror,
        survivors,
        workers: Default::default(),
        cgroups,
        sweeper: Default::default(),
        jobs: Default::default(),
        chores: Default::default(),
        counter: Default::default(),
        metrics: Metrics::begin(handover.map_or(0, |handover| handover.reexecs.unwrap_or(0) + 1)),
        takings: Default::default(),
        trials: Default::default(),
        intercepts: Default::default(),
        installs: Default::default(),
        pinner: Default::default(),
        logs: Default::default(),
        notifiers: Default::default(),
        fdstore: super::fdstore::FdStore::of_process(),
        run_dirs: Default::default(),
        unlaunched: BTreeMap::new(),
        ground: ground(&places, (original, roots, launcher), releases),
        runtime,
        intended: BTreeMap::new(),
        pins,
        boot,
        unfinished,
        quit_by: None,
        leaving: None,
        reexec: None,
        reexecuted,
        one: None,
        crashes,
        holding,
        story: Default::default(),
    };
    hands.look_back(began, cli, (&booted, &carried));
    Ok(Reactor::new(hands, signals, locks))
}

/// Which boot it is, where a crash leaves its mark, and why supd holds by the marks that are there.
fn marks(places: &Places, cli: &Cli) -> Result<(BootId, Crashes, Option<Arc<str>>), String> {
    let boot = BootId::read().map_err(|error| error.to_string())?;
    let (crashes, held) = Crashes::arm(&places.runtime, &boot);
    // With one unit alone there may be nobody to say anything: it is started again from nothing.
    Ok((boot, crashes, held.filter(|_| comes_again(cli)).map(Into::into)))
}

/// What the ledger says, once whoever wrote it for the last supd has finished.
fn replay(state: &Path, boot: &BootId) -> Result<(Replay, LastWords), String> {
    Lock::wait_for_writer(state, WRITER_BOUND, |writer| log::warn!("{writer}; waiting for it"))
        .map_err(|locked| locked.to_string())?;
    let (_, replay) = Ledger::open(state).map_err(|error| error.to_string())?;
    tell_damage(state, &replay);
    let last = last_words(&replay, boot);
    Ok((replay, last))
}

/// Who has outlived the last supd. Everything else that it has left is ended, and its notify sockets go.
fn survivors(
    cli: &Cli,
    (runtime, cgroups): (&Runtime, &Cgroups),
    boot: &BootId,
    lots: Lots,
    known: (&BTreeMap<UnitName, Durable>, &BTreeMap<UnitName, bool>),
    pins: &Pins,
) -> Survivors {
    let recipe = |unit: &UnitName, generation| pins.load(unit, generation).ok().map(Arc::new);
    let lots = match comes_again(cli) {
        true => last_resort::complete(lots, (runtime, cgroups), boot, known.0, recipe),
        // It keeps nothing for the next one, which begins from nothing.
        false => lots,
    };
    let survivors = Survivors::find(runtime, boot, lots, known, recipe);
    leftovers::end((runtime, cgroups), boot, |path| survivors.has(path));
    cgroups.clear();
    runtime.clear_notify(&survivors.notify(|unit, generation| runtime.notify(unit, generation)));
    survivors
}

/// Whether another supd may come after this one: not in a container of its own, nor for one unit alone.
fn comes_again(cli: &Cli) -> bool {
    cli.unit.is_none() && std::process::id() != 1
}

fn units(places: &Places, cli: &Cli) -> Units {
    let folders = UnitFolders { folders: places.units.clone(), defaults: places.defaults.clone() };
    one_unit::units(folders, cli.unit.as_deref())
}

/// From so many descriptors on, about four for each unit, workers are forked by the launcher. Measured:
/// with a thousand units a launch through it takes three quarters of what a fork takes; with one, a
/// millisecond more.
const CROWD: i32 = 512;

/// Begun while supd is small: what is forked for each worker is a copy of it.
fn launcher(places: &Places, original: &Original) -> Result<(Cgroups, Roots, Launcher), String> {
    take_for_itself(original)?;
    // Whoever is forked from here on is where supd is.
    let cgroups = Cgroups::begin(&places.runtime);
    let roots = roots(places);
    let launcher = Launcher::begin(Common { original, roots: &roots, prepare }, CROWD);
    Ok((cgroups, roots, launcher))
}

/// What supd has otherwise than its workers.
fn take_for_itself(original: &Original) -> Result<(), String> {
    let (_, hard) = original.limit(Resource::Nofile);
    if let Err(errno) = set_raw(Resource::Nofile, hard, hard) {
        log::warn!("cannot raise the limit of open files to {hard}: {errno}");
    }
    process::adopt_orphans().map_err(|error| error.to_string())
}

/// The folders of supd, and the locks on them.
fn folders(places: &Places, handover: Option<&Handover>) -> Result<(Runtime, [Lock; 2]), String> {
    let lock = |at: usize, folder: &Path| {
        let held = handover.and_then(|handover| image::inherit(*handover.locks.get(at)?).ok());
        let lock = held.and_then(|held| Lock::go_on(held, folder));
        lock.map_or_else(|| Lock::take(folder).map_err(|locked| locked.to_string()), Ok)
    };
    let runtime = Runtime::make(&places.runtime).map_err(|error| error.to_string())?;
    let first = lock(0, &places.runtime)?;
    for folder in [&places.state, &places.logs] {
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| format!("cannot make the folder {}: {error}", parent.display()))?;
        }
    }
    // Workers go through to their pinned programs, and see nothing else.
    make_folder(&places.state, 0o711).map_err(|error| error.to_string())?;
    make_folder(&places.logs, 0o750).map_err(|error| error.to_string())?;
    let second = lock(1, &places.state)?;
    Ok((runtime, [first, second]))
}

/// What is waited for, the signals first.
fn sources() -> Result<(Sources, Signals), String> {
    let mut sources = Sources::new().map_err(|error| format!("cannot make a poller: {error}"))?;
    // SIGUSR1 would end supd: log rotation and the habits of other servers send it.
    let all = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
    let signals = Signals::new(all).and_then(|mut signals| {
        sources.watch_reading(&mut signals, Source::Signals)?;
        // The image before has blocked all, for who comes next.
        image::unblock();
        Ok(signals)
    });
    signals.map(|signals| (sources, signals)).map_err(|error| format!("cannot catch signals: {error}"))
}

/// Where clients connect; with who waits to be told that this is another image, and which it was before.
#[allow(clippy::type_complexity, reason = "what Hands has")]
fn control(
    places: &Places,
    sources: &Sources,
    handover: Option<&Handover>,
) -> Result<(Control, Option<(Vec<ClientId>, String)>), String> {
    let (path, limits) = (places.control(), Limits::of_process());
    let Some(handover) = handover else {
        let bound = Control::bind(&path, sources.registry(), CONTROL_FIRST, limits);
        return bound.map(|control| (control, None)).map_err(|error| error.to_string());
    };
    let at = (sources.registry(), CONTROL_FIRST);
    let (control, asked) =
        Control::go_on(handover, &path, at, limits, clock::now()).map_err(|error| error.to_string())?;
    Ok((control, Some((asked, handover.version.clone()))))
}

/// What all launches have in common.
fn ground(
    places: &Places,
    (original, roots, launcher): (Original, Roots, Launcher),
    releases: Releases,
) -> Ground {
    let environment = std::env::vars_os().filter(|(name, _)| name != reexec::VARIABLE).collect();
    let (lang, logs) = (environment::language(), places.logs.clone());
    let journal = journal::is_stream(std::io::stderr());
    Ground { original, roots, lang, environment, logs, journal, releases, launcher }
}

/// What whoever started supd has passed to it, and nobody has taken; what it stores for supd; and what the keeper has,
/// or else what was stored.
fn passed(handover: Option<&Handover>, kept: Lots) -> (Vec<OwnedFd>, Mirror, Lots) {
    if let Some(handover) = handover {
        // The variables that tell of it are still there, and their numbers are others' by now.
        let left = handover.inherited.iter().filter_map(|number| image::inherit(*number).ok()).collect();
        return (left, Mirror::go_on(&handover.mirrored), kept);
    }
    let mut all = inherited::take();
    let (mirror, lots) = Mirror::begin(&mut all);
    (all.into_iter().map(|(_, fd)| fd).collect(), mirror, kept.or(lots))
}

/// RuntimeDirectory and its sisters: of the system, or of the person whose supd this is.
fn roots(places: &Places) -> Roots {
    if nix::unistd::geteuid().is_root() {
        return Roots::system();
    }
    let variable =
        |name: &str| std::env::var_os(name).map(std::path::PathBuf::from).filter(|p| p.is_absolute());
    let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| places.runtime.clone());
    let home = variable("HOME").unwrap_or_else(|| places.state.clone());
    Roots::user(&runtime, &home, variable("XDG_STATE_HOME").as_deref(), variable("XDG_CACHE_HOME").as_deref())
}

/// The releases, without what an earlier supd left half done. The rest of that is removed with the
/// next one that goes.
fn releases(state: &Path, last: &BTreeMap<UnitName, Durable>, whole: bool) -> Releases {
    let releases = Releases::new(state);
    if !whole {
        // What a damaged line said of a release nobody knows.
        log::warn!("releases: what the ledger does not name stays, as the ledger is damaged");
        if let Err(why) = releases.prepare() {
            log::error!("releases: {why}");
        }
        return releases;
    }
    let known = last.iter().map(|(unit, durable)| {
        let labels = durable.releases.iter().map(|release| release.label.clone());
        (unit.clone(), Known::Only(labels.collect()))
    });
    match releases.set_aside(&known.collect()) {
        Ok(moved) => moved.iter().for_each(|path| log::info!("{}: no release, removed", path.display())),
        Err(why) => log::error!("releases: {why}"),
    }
    releases
}

fn tell_damage(state: &Path, replay: &Replay) {
    let state = state.display();
    if replay.is_rubbish() {
        log::error!(
            "{state}/ledger: no line of its {} bytes is one; they are cut off, and a copy is in ledger.damaged",
            replay.torn
        );
    } else if replay.torn > 0 {
        log::warn!("{state}/ledger: its last {} bytes were torn, and are cut off", replay.torn);
    }
    for damage in replay.damaged.iter().take(10) {
        log::error!("{state}/ledger: {damage}; it is passed over");
    }
    if !replay.damaged.is_empty() {
        log::error!("{state}/ledger: {} damaged lines; a copy is in ledger.damaged", replay.damaged.len());
    }
}

/// Opens the history once, so that it has what the ledger has. Gives the last number of both, and what is to be
/// told of this supd's beginning.
fn past(state: &Path, replay: &Replay, boot: &BootId) -> (u64, HistoryEntry) {
    let boot = boot.to_string();
    let last = replay.entries.last().map(|(entry, _)| entry);
    let (mut seq, mut booted) = (replay.last_seq(), last.is_some_and(|last| last.boot != boot));
    let mut found = Found::default();
    match History::open(state, replay.entries.iter().map(|(entry, _)| entry)) {
        Ok((history, there)) => {
            seq = seq.max(history.last_seq());
            found = there;
        }
        Err(error) => log::error!("history: {error}; it is not written until that is mended"),
    }
    let state = state.display();
    if found.torn > 0 {
        log::warn!("{state}/history: its last {} bytes were torn, and are cut off", found.torn);
    }
    for damage in found.damaged.iter().take(10) {
        log::warn!("{state}/history: {damage}; it is passed over");
    }
    booted |= found.last.as_ref().is_some_and(|last| last.boot != boot);
    // The last numbers before the power went may be on no disk, and somebody may have heard them.
    (seq + if booted { SKIPPED } else { 0 }, history::began(&found, &boot))
}

/// What earlier lives of supd answered, and what the ledger says of what they could not.
fn clients(
    state: &Path,
    replay: &Replay,
    unfinished: &Unfinished,
    boot: &BootId,
    reexecuted: bool,
) -> Clients {
    let (mut kept, faults) = requests::load(state);
    for fault in faults.iter().take(10) {
        log::warn!("{fault}; a repetition of its request will not be known");
    }
    if faults.len() > 10 {
        log::warn!("{} requests are lost in this way", faults.len());
    }
    for (_, request) in &mut kept {
        if request.outcome.is_none() {
            request.outcome = Some(match request.method {
                Method::Reexec if reexecuted => reexec::done(),
                _ => aftermath::outcome(request, replay, unfinished),
            });
        }
    }
    let now = Stamp { at: clock::wall_micros(), boot: boot.to_string(), tick: clock::now() };
    let mut clients = Clients::default();
    clients.restore(kept, &now);
    clients
}

/// The last state of each unit, and whether it was written in an earlier boot of the machine.
type LastWords = (BTreeMap<UnitName, Durable>, BTreeMap<UnitName, bool>);

fn last_words(replay: &Replay, boot: &BootId) -> LastWords {
    let boot = boot.to_string();
    let mut last = BTreeMap::new();
    let mut booted = BTreeMap::new();
    for (entry, _) in &replay.entries {
        last.insert(entry.record.unit.clone(), entry.record.durable.clone());
        booted.insert(entry.record.unit.clone(), entry.boot != boot);
    }
    (last, booted)
}

/// The settings that records carry, of the generations that count.
fn carried(replay: Replay, last: &BTreeMap<UnitName, Durable>) -> Carried {
    let mut carried = Carried::new();
    for (entry, _) in replay.entries {
        let unit = entry.record.unit;
        let Some(durable) = last.get(&unit) else { continue };
        let counts = |generation: Generation| durable.kept().any(|kept| kept.generation == generation);
        for (generation, text) in entry.settings.into_iter().filter(|(generation, _)| counts(*generation)) {
            carried.insert((unit.clone(), generation), text);
        }
    }
    carried
}

impl Hands {
    /// What is to be told of this supd's beginning, what the last one has left, and every unit.
    fn look_back(
        &mut self,
        began: HistoryEntry,
        cli: &Cli,
        (booted, carried): (&BTreeMap<UnitName, bool>, &Carried),
    ) {
        if let Some((file, alone)) = cli.unit.as_deref().and_then(|file| Some((file, Alone::of(file)?))) {
            let (unit, runtime) = (&alone.unit, self.runtime.root().display());
            log::info!("{}: supctl --runtime {runtime} status {unit}", file.display());
            self.one = Some(OneUnit::new(alone.unit));
        }
        self.recorder.tell(began);
        self.read_metrics(clock::now());
        if let Some(why) = &self.holding {
            log::error!("{why}: it goes on with what runs and begins nothing new until supctl daemon-reload");
        }
        self.tell_cut_installs();
        self.empty_old_trash();
        self.add_all(booted, carried);
    }

    /// Every unit that has a file, and every one that the ledger says should serve.
    fn add_all(&mut self, booted: &BTreeMap<UnitName, bool>, carried: &Carried) {
        let listing = self.units.list();
        for fault in &listing.faults {
            log::error!("{fault}");
        }
        let mut units = listing.units;
        let known: Vec<UnitName> = self.recorder.units().cloned().collect();
        units.extend(known.into_iter().filter(|unit| !units.contains(unit)).collect::<Vec<_>>());
        for unit in units {
            self.add_one(&unit, booted.get(&unit).copied(), carried);
        }
        self.forget_strangers();
    }

    fn add_one(&mut self, unit: &UnitName, machine_booted: Option<bool>, carried: &Carried) {
        let mut durable = self.recorder.durable(unit);
        let launches = self.launches(unit, &mut durable, carried);
        for kept in durable.kept_mut().filter(|kept| !kept.pinned) {
            kept.pinned = Copy::of(&self.pins, unit, kept.generation).counts();
        }
        let pinned = || -> Option<Arc<Settings>> {
            let active = durable.active.as_ref().filter(|_| durable.want != crate::model::Want::Down)?;
            launches.get(&active.generation).cloned()
        };
        let mut gone = false;
        let settings = match self.units.read(unit) {
            Ok(loaded) => {
                self.units.warn(unit, &loaded);
                Arc::new(loaded.settings)
            }
            Err(why) => {
                gone = !matches!(why, Unreadable::Faulty(_));
                if let Unreadable::Faulty(faults) = &why {
                    faults.iter().for_each(|fault| log::error!("{fault}"));
                }
                // A file that is faulty or gone changes nothing of what runs.
                let Some(settings) = pinned() else { return };
                log::warn!("{unit}: goes on with the settings that it ran with");
                settings
            }
        };
        self.units.set(settings.clone());
        let intent = self.runtime.intent(unit);
        let (bound, survived) = self.go_on(unit);
        let restored = Restored {
            settings,
            durable,
            launches,
            trees: self.trees(unit),
            intent,
            machine_booted: machine_booted.unwrap_or(true),
            supd_booting: true,
            bound,
            survived,
            holding: self.holding.clone(),
        };
        self.inbox.push_back(Input::Add(Box::new(restored)));
        if gone {
            self.units.orphan(unit);
            self.inbox.push_back(Input::Orphaned(unit.clone()));
        }
    }
}
