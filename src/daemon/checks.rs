//! Checks of readiness over the network: asked of one generation, whoever serves.

use super::hands::Hands;
use super::listeners::Way;
use super::perform::note;
use super::probe;
use super::workers::Around;
use crate::codec::unitfile::{Authority, ready_asks};
use crate::machine::{Event, Launch, Level};
use crate::model::settings::Socket;
use crate::model::{Address, JobId, SocketKind, UnitName};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

impl Hands {
    /// Begins a GET.
    pub(super) fn check_http(
        &mut self,
        unit: &UnitName,
        job: JobId,
        url: &str,
        launch: &Launch,
    ) -> Result<(), String> {
        let url = url.to_owned();
        let Some((Authority::Listener(name), path)) = ready_asks(&url) else {
            return self.begin_check(unit, job, &[], move |_| probe::get(&url));
        };
        let path = path.to_owned();
        let ways = self.ways(unit, launch, |socket| socket.name == name)?;
        self.begin_check(unit, job, &ways, move |ways| match ways.first() {
            Some((_, way)) => probe::get_by(way, &path),
            None => Err(format!("the unit has no listener {name}")),
        })
    }

    /// Begins to connect to each stream listener.
    pub(super) fn check_tcp(&mut self, unit: &UnitName, job: JobId, launch: &Launch) -> Result<(), String> {
        let ways = self.ways(unit, launch, |socket| socket.address.kind() == Some(SocketKind::Stream))?;
        self.begin_check(unit, job, &ways, probe::accepts)
    }

    fn begin_check(
        &mut self,
        unit: &UnitName,
        job: JobId,
        ways: &[(Address, Way)],
        check: impl FnOnce(&[(Address, Way)]) -> Result<(), String>,
    ) -> Result<(), String> {
        let sources: Vec<SocketAddr> = ways.iter().filter_map(|(_, way)| way.source()).collect();
        let kept: Vec<BorrowedFd<'_>> = ways.iter().filter_map(|(_, way)| way.socket()).collect();
        let Hands { jobs, chores, sources: waits, inbox, runtime, boot, .. } = self;
        let mut around = Around { sources: waits, inbox, runtime, boot };
        let with = (kept.as_slice(), sources.clone());
        let begun = jobs.probe(job, unit, with, || check(ways), (chores, &mut around));
        if begun.is_err() {
            self.unprobe(unit, sources);
        }
        begun
    }

    /// Opens a way to this generation at each listener that is wanted; all of them, or none.
    fn ways(
        &mut self,
        unit: &UnitName,
        launch: &Launch,
        wanted: impl Fn(&Socket) -> bool,
    ) -> Result<Vec<(Address, Way)>, String> {
        let Some(listeners) = self.listeners.get_mut(unit) else { return Err("nothing is bound".into()) };
        let mut ways = Vec::new();
        for socket in launch.settings.sockets.iter().filter(|socket| wanted(socket)) {
            match listeners.way(launch.generation, &socket.address) {
                Ok(way) => ways.push((socket.address.clone(), way)),
                Err(why) => {
                    self.unprobe(unit, ways.iter().filter_map(|(_, way)| way.source()).collect());
                    return Err(why);
                }
            }
        }
        Ok(ways)
    }

    /// What comes from there is led as everybody is from here on.
    pub(super) fn unprobe(&mut self, unit: &UnitName, sources: Vec<SocketAddr>) {
        let Some(listeners) = self.listeners.get_mut(unit) else { return };
        for source in sources {
            if let Err(fault) = listeners.unprobe(source) {
                note(unit, Level::Warning, None, &fault);
            }
        }
    }

    /// A check is over.
    pub(super) fn checked(&mut self, job: JobId, result: Result<(), String>) {
        if let Some((unit, sources)) = self.jobs.probed(job) {
            self.unprobe(&unit, sources);
            self.say(&unit, Event::Finished { job, result });
        }
    }
}
