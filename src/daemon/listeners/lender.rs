//! A server that supd has listening sockets from, and that goes on accepting there until it is ended.

use super::super::sources::{Source, Sources};
use super::Listeners;
use crate::model::Address;
use crate::os::pidfd::PidFd;
use mio::Token;
use std::os::fd::OwnedFd;

/// Sockets that were taken out of a server, for the next bind.
#[derive(Debug)]
pub struct Taken {
    /// Who it is, as `nginx (pid 7, nginx.service)`.
    pub shown: String,
    /// The same in short.
    pub name: String,
    /// What a person types to end it.
    pub remedy: String,
    /// Those of its processes that have the sockets.
    pub processes: Vec<PidFd>,
    /// Each with its address.
    pub sockets: Vec<(Address, OwnedFd)>,
}

/// Whom they were taken from, while it lives.
#[derive(Debug)]
pub(super) struct Lender {
    name: String,
    remedy: String,
    processes: Vec<(PidFd, Token)>,
}

impl Taken {
    /// The socket at this address; it is given once.
    pub(super) fn at(&mut self, address: &Address) -> Option<OwnedFd> {
        let at = self.sockets.iter().position(|(its, _)| its == address)?;
        Some(self.sockets.swap_remove(at).1)
    }
}

impl Listeners {
    /// The next bind takes these, as far as it binds their addresses.
    pub fn expect(&mut self, taken: Taken) {
        self.taken = Some(Box::new(taken));
    }

    /// What no bind has taken is let go.
    pub fn expect_nothing(&mut self) {
        self.taken = None;
    }

    /// Whether something waits for the next bind.
    #[must_use]
    pub fn expects(&self) -> bool {
        self.taken.is_some()
    }

    /// Who still accepts at listeners of the unit, and what a person types to end it.
    #[must_use]
    pub fn lender(&self) -> Option<(&str, &str)> {
        self.lender.as_ref().map(|lender| (lender.name.as_str(), lender.remedy.as_str()))
    }

    /// The addresses of which that is so.
    pub fn borrowed(&self) -> impl Iterator<Item = &Address> {
        self.all().filter(|listener| listener.is_borrowed()).map(|listener| listener.address())
    }

    /// Hears of the end of those who have what was taken.
    pub(super) fn borrow(&mut self, taken: Taken, sources: &mut Sources) -> Vec<String> {
        let Taken { name, remedy, processes, .. } = taken;
        let mut faults = Vec::new();
        // Of an earlier one, whose sockets are kept over a stop, the end is waited for as well.
        let mut watched = self.lender.take().map(|lender| lender.processes).unwrap_or_default();
        for process in processes {
            match sources.watch(&process, Source::Lender(self.unit.clone())) {
                Ok(token) => watched.push((process, token)),
                Err(error) => faults.push(format!("nobody will tell when {name} ends: {error}")),
            }
        }
        self.lender = Some(Box::new(Lender { name, remedy, processes: watched }));
        if self.lender.as_ref().is_some_and(|lender| lender.processes.is_empty()) {
            faults.extend(self.all_ours());
        }
        faults
    }

    /// A process of it may have ended. Gives its name if that was the last of them, and what is to be told.
    pub fn lender_ended(&mut self, sources: &mut Sources) -> (Option<String>, Vec<String>) {
        let Some(lender) = &mut self.lender else { return (None, Vec::new()) };
        lender.processes.retain(|(process, token)| {
            let over = process.is_over();
            if over {
                sources.unwatch(*token, process);
            }
            !over
        });
        let name = lender.processes.is_empty().then(|| lender.name.clone());
        // Many servers remove their path at their end.
        let mut notes = self.put_back();
        if name.is_some() {
            notes.extend(self.all_ours());
        }
        (name, notes)
    }

    /// Nobody else accepts there any more: what should be refused is.
    fn all_ours(&mut self) -> Vec<String> {
        self.lender = None;
        let faults = self.all_mut().filter_map(|listener| listener.is_ours().err());
        faults.map(|error| error.to_string()).collect()
    }

    /// Where nothing is left of what was taken, its end is nobody's business.
    pub(super) fn forget_lender(&mut self, sources: &mut Sources) {
        if self.borrowed().next().is_some() {
            return;
        }
        for (process, token) in self.lender.take().into_iter().flat_map(|lender| lender.processes) {
            sources.unwatch(token, &process);
        }
    }
}
