//! `reload`: the workers read their configuration again.

use super::super::effect::Level;
use super::super::turn::Turn;
use super::super::worker::{Cue, table::Kind};
use super::Unit;
use crate::model::{ClientId, ExitStatus, Generation, Reply, WorkerId};
use std::collections::BTreeSet;

/// A reload under way.
#[derive(Debug, Clone)]
pub(super) struct Reloading {
    pub(super) client: Option<ClientId>,
    pub(super) waiting: BTreeSet<WorkerId>,
    pub(super) remarks: BTreeSet<String>,
    pub(super) failures: BTreeSet<String>,
}

impl Unit {
    pub(super) fn ask_reload(&mut self, client: ClientId, turn: &mut Turn<'_>) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let Some(group) =
            active.and_then(|active| self.groups.get(&active)).filter(|group| group.serves_at_all())
        else {
            return self.refuse(client, "no generation is active", self.command("start"), turn);
        };
        let service = &group.launch.settings.service;
        if service.reload_signal.is_none() && service.exec_reload.is_empty() {
            let text = "has neither ReloadSignal nor ExecReload";
            return self.refuse(client, text, self.command("restart"), turn);
        }
        if self.reloading.is_some() {
            return self.refuse(client, "is reloading already", self.command("status"), turn);
        }
        let kind = |kind: Kind| group.workers.iter().filter(move |worker| worker.phase.kind() == kind);
        let ready: Vec<usize> = kind(Kind::Serving).map(|worker| worker.index as usize).collect();
        let waiting: BTreeSet<WorkerId> =
            kind(Kind::Serving).chain(kind(Kind::Reloading)).map(|worker| worker.id).collect();
        let generation = group.generation();
        let (remarks, failures) = (BTreeSet::new(), BTreeSet::new());
        let client = Some(client);
        self.reloading = Some(Box::new(Reloading { client, waiting, remarks, failures }));
        for index in ready {
            self.group_cue(generation, index, &Cue::Reload, turn);
        }
    }

    pub(super) fn heard_reloaded(
        &mut self,
        generation: Generation,
        index: usize,
        outcome: Result<String, String>,
        turn: &mut Turn<'_>,
    ) {
        let run =
            self.groups.get(&generation).and_then(|group| group.workers.get(index)).map(|worker| worker.id);
        if let Err(why) = &outcome {
            // Also where nobody asked, and so nobody is answered.
            let text = format!("worker {index} did not reload: {why}");
            turn.note(Level::Warning, Some(generation), text);
        }
        if let Some(run) = run {
            self.reload_done(run, outcome, turn);
        }
        // Some wake up by it.
        self.rest(generation, turn);
    }

    /// One worker is done with its reload, well or badly.
    pub(super) fn reload_done(
        &mut self,
        run: WorkerId,
        outcome: Result<String, String>,
        turn: &mut Turn<'_>,
    ) {
        let Some(reloading) = &mut self.reloading else { return };
        if !reloading.waiting.remove(&run) {
            return;
        }
        match outcome {
            Ok(remark) if remark.is_empty() => {}
            Ok(remark) => drop(reloading.remarks.insert(remark)),
            Err(failure) => drop(reloading.failures.insert(failure)),
        }
        if !reloading.waiting.is_empty() {
            return;
        }
        let Some(done) = self.reloading.take() else { return };
        let list = |texts: &BTreeSet<String>| texts.iter().cloned().collect::<Vec<_>>().join("; ");
        let reply = if !done.failures.is_empty() {
            Reply::new(ExitStatus::Failed, true, format!("reload failed: {}", list(&done.failures)))
        } else if done.remarks.is_empty() {
            Reply::done(true, "has reloaded")
        } else {
            Reply::done(true, list(&done.remarks))
        };
        turn.note(Level::Info, None, reply.text.clone());
        if let Some(client) = done.client {
            self.reply(client, reply, turn);
        }
    }

    /// A reload ends for workers that are no longer there.
    pub(super) fn end_reload(&mut self, turn: &mut Turn<'_>) {
        let Some(reloading) = &self.reloading else { return };
        let lost: Vec<_> = reloading
            .waiting
            .iter()
            .copied()
            .filter(|run| {
                let found = self.find(*run);
                let group = found.and_then(|(generation, _)| self.groups.get(&generation));
                let worker = found.and_then(|(_, index)| group?.workers.get(index));
                !worker.is_some_and(|worker| worker.phase.serves())
            })
            .collect();
        for run in lost {
            self.reload_done(run, Err("the worker ended meanwhile".to_owned()), turn);
        }
    }
}
