//! Answers: one for each request, and true.

use super::books::{Book, SwapBook};
use super::{Checked, Rule, must};
use crate::step::Ask;
use crate::world::{Client, Door, Proc, Unit, World, number};
use supd::model::status::SwapResult;
use supd::model::{ClientId, ExitStatus, Reply, SwapKind, WaitFor, Want};

/// An answer that is nobody's business but the asker's.
fn is_due<'a>(world: &'a World, client: ClientId, reply: &Reply) -> Result<&'a Client, super::Violation> {
    let Some(known) = world.client(client) else {
        return Err(super::Violation::new(
            Rule::Replies,
            format!("answers client {client}, who never asked"),
        ));
    };
    must(Rule::Replies, known.reply.is_none(), || {
        format!("answers client {client} twice: {:?} after {:?}", reply.text, known.reply)
    })?;
    must(Rule::Replies, !known.gone, || format!("answers client {client}, who hung up"))?;
    must(Rule::Replies, !reply.text.is_empty(), || format!("answers client {client} nothing"))?;
    let refused = reply.status == ExitStatus::Refused;
    // A deploy may have installed what it may not swap to.
    let deploys = matches!(known.asked, Some((_, Ask::Install { deploy: true, .. } | Ask::Wait(_))));
    must(Rule::Replies, deploys || !(refused && reply.changed), || {
        format!("refused and changed: {}", reply.text)
    })?;
    let known_status = match reply.status {
        ExitStatus::Done
        | ExitStatus::Failed
        | ExitStatus::Refused
        | ExitStatus::RolledBack
        | ExitStatus::Timeout
        | ExitStatus::Down => true,
        ExitStatus::Usage | ExitStatus::NoSupd | ExitStatus::NotAllowed | ExitStatus::BadUnitFile => false,
    };
    must(Rule::Replies, known_status, || format!("answers with {:?}", reply.status))?;
    Ok(known)
}

/// An answer to a request that was about no unit: shutdown.
pub(super) fn to_nobodys(world: &World, client: ClientId, reply: &Reply) -> Checked {
    is_due(world, client, reply).map(|_| ())
}

impl Book {
    pub(super) fn replies(&mut self, world: &World, unit: &Unit, client: ClientId, reply: &Reply) -> Checked {
        let known = is_due(world, client, reply)?;
        let Some((place, ask)) = known.asked else { return Ok(()) };
        must(Rule::Sound, place == unit.place, || {
            format!("answers a client of another unit: {}", reply.text)
        })?;
        self.answers_held(ask, client, reply)?;
        if self.rollback && reply.status == ExitStatus::Refused {
            must(Rule::Retained, reply.next.is_some() || self.sent.active.is_none(), || {
                format!("a refused rollback names no way on: {}", reply.text)
            })?;
        }
        let about = self.about(client, reply).cloned();
        if let Some(swap) = &about {
            let complete = unit.complete(swap.to, world.now);
            let id = swap.id;
            self.swap_mut(id).into_iter().for_each(|swap| swap.was_ready |= complete);
        }
        if matches!(reply.status, ExitStatus::Refused | ExitStatus::Failed) {
            self.deploying.remove(&client);
        }
        match reply.status {
            ExitStatus::Refused => {
                self.unasked(client);
                let copied = number(unit.ledger_soon().retained.as_ref());
                let pending = copied.is_some_and(|copied| unit.is_copied(copied));
                must(Rule::Pinned, !pending || !reply.text.contains("is not pinned"), || {
                    format!("a copy is being made, yet: {}", reply.text)
                })
            }
            ExitStatus::Done => self.done(world, unit, known, ask, reply),
            ExitStatus::Failed => {
                let switched = about.as_ref().is_some_and(|swap| swap.switched_saved && swap.ended.is_some());
                let serves = unit.live().any(Proc::is_ready);
                let before = serves || about.as_ref().is_none_or(|swap| swap.from.is_some());
                must(Rule::Replies, !switched, || {
                    format!("failed before the switch, and it switched: {reply:?}")
                })?;
                must(Rule::Replies, before, || {
                    format!("the old was not touched, and there is none: {reply:?}")
                })
            }
            ExitStatus::RolledBack => {
                let back = about.as_ref().is_some_and(|swap| {
                    swap.ended == Some(SwapResult::RolledBack)
                        || self.undoes(unit, swap)
                        // By the ledger and the intent that are on the disk: every supd to come says the same.
                        || swap.ended_sent == Some(SwapResult::RolledBack)
                            && reply.text.contains("supervisor-restarted")
                });
                must(Rule::Durable, back, || format!("says rolled back, and the ledger does not: {reply:?}"))
            }
            ExitStatus::Down => {
                // One that has yet to settle counts for nobody.
                let serves = unit.live().find(|proc| {
                    proc.is_ready() && proc.has_settled(world.now) && self.served.contains(&proc.generation())
                });
                // A first start that failed has failed, even if a later attempt of supd's went well.
                let first = about
                    .as_ref()
                    .is_some_and(|swap| swap.from.is_none() && (swap.ended_sent.is_some() || swap.dropped));
                must(Rule::Replies, serves.is_none() || self.halted || first, || {
                    format!("says nothing serves, and {:?} does", serves.map(Proc::generation))
                })?;
                // Whoever asks how things are hears that of what is over, too.
                let asks = !matches!(ask, Ask::Wait { .. });
                let cut = |swap: &&SwapBook| swap.ended_sent.is_none_or(|end| end == SwapResult::Stopped);
                let open = about
                    .as_ref()
                    .filter(|swap| asks && self.halted && swap.began_saved && swap.ended.is_none())
                    .filter(cut);
                must(Rule::Durable, open.is_none(), || {
                    format!("says that it was cut short, and the ledger has no end of {open:?}")
                })
            }
            ExitStatus::Timeout => {
                let open = about.as_ref().is_some_and(|swap| swap.switched_saved && swap.ended.is_none());
                // The disk did not take the end of what a stop cut short.
                let failed = about.as_ref().is_some_and(|swap| swap.end_failed);
                let serves =
                    unit.live().any(|proc| proc.is_ready() && self.served.contains(&proc.generation()));
                must(Rule::Replies, open && serves || world.shutdown || self.halted && failed, || {
                    format!("says that a way back takes too long, and none is under way: {reply:?}")
                })
            }
            ExitStatus::Usage | ExitStatus::NoSupd | ExitStatus::NotAllowed | ExitStatus::BadUnitFile => {
                Ok(())
            }
        }
    }

    /// The swap that an answer is about.
    fn about(&self, client: ClientId, reply: &Reply) -> Option<&SwapBook> {
        let named = reply.swap_id.and_then(|id| self.swap(id));
        let own = || self.swaps.iter().rev().find(|swap| swap.client == Some(client));
        let made = || reply.generation.and_then(|generation| self.maker(generation));
        named.or_else(own).or_else(made)
    }

    fn done(&self, world: &World, unit: &Unit, client: &Client, ask: Ask, reply: &Reply) -> Checked {
        match ask {
            Ask::Start(wait) => self.started(world, unit, client, wait, reply),
            Ask::Swap { .. } if !reply.changed && reply.swap_id.is_none() => {
                // The newest release is active already.
                must(Rule::Replies, unit.file().1.service.releases || unit.files.len() > 1, || {
                    format!("swapped and nothing changed: {}", reply.text)
                })
            }
            Ask::Swap { unbound: true, .. } if self.is_unbound(unit, client.id, reply) => Ok(()),
            Ask::Swap { wait, unbound, hold, canary, .. } => {
                let stops = unbound || hold || canary.is_some_and(|parts| parts < 10_000);
                let wait = if stops { WaitFor::Ready } else { wait };
                must(Rule::Replies, reply.changed, || {
                    format!("swapped and nothing changed: {}", reply.text)
                })?;
                self.reached(world, unit, client, wait, reply)
            }
            Ask::Rollback { .. } if !self.swaps.iter().any(|swap| swap.client == Some(client.id)) => {
                // Before commit a rollback is an abort.
                self.aborted(unit, client, reply)
            }
            Ask::SwapTo { .. } if !reply.changed => Ok(()),
            Ask::Install { label, deploy: false, .. } => {
                self.stored(unit, &crate::sim::label(label), true, reply)
            }
            Ask::Install { label, .. } if reply.swap_id.is_none() => {
                self.stored(unit, &crate::sim::label(label), true, reply)
            }
            Ask::Undeploy(label) => self.stored(unit, &crate::sim::label(label), false, reply),
            Ask::RollbackTo { .. } if !self.swaps.iter().any(|swap| swap.client == Some(client.id)) => {
                self.aborted(unit, client, reply)
            }
            Ask::SwapTo { wait, .. } | Ask::Install { wait, .. } | Ask::RollbackTo { wait, .. } => {
                self.reached(world, unit, client, wait, reply)
            }
            Ask::Restart(wait) | Ask::Rollback { wait, .. } => {
                must(Rule::Replies, reply.changed, || format!("done and nothing changed: {}", reply.text))?;
                self.reached(world, unit, client, wait, reply)
            }
            // From there it goes on to where it was to stop next.
            Ask::Promote(_) if self.about(client.id, reply).is_some_and(|it| it.unbound && it.was_ready) => {
                Ok(())
            }
            Ask::Promote(wait) => self.reached(world, unit, client, wait, reply),
            // It joined an install.
            Ask::Wait(_) if reply.swap_id.is_none() && reply.generation.is_none() => Ok(()),
            // Nothing was under way, or what was is over.
            Ask::Wait(_) if !reply.changed || self.halted => Ok(()),
            Ask::Wait(_) if self.is_unbound(unit, client.id, reply) => Ok(()),
            // Who joins a swap that is to be held ends with those who asked for it.
            Ask::Wait(_)
                if self
                    .about(client.id, reply)
                    .is_some_and(|it| it.was_ready && it.ended.is_none() && it.hold) =>
            {
                Ok(())
            }
            // Of a swap that was undone, the end of what it had launched.
            Ask::Wait(WaitFor::Drained)
                if self.about(client.id, reply).is_some_and(|it| it.ended.is_some() || it.dropped) =>
            {
                Ok(())
            }
            Ask::Wait(wait) => self.reached(world, unit, client, wait, reply),
            Ask::Stop { keep_listening, .. } => self.stopped(unit, client, keep_listening, reply),
            Ask::Abort => self.aborted(unit, client, reply),
            Ask::Share(parts, wait) => {
                let wait = if parts < 10_000 { WaitFor::Ready } else { wait };
                self.reached(world, unit, client, wait, reply)
            }
            Ask::Drain(number) => {
                let of = |proc: &&Proc| proc.generation().0 == number && !proc.is_over();
                let left = unit.procs.iter().find(of).map(|proc| proc.id);
                must(Rule::Replies, left.is_none(), || format!("says drained, and {left:?} is left"))
            }
            Ask::Reload | Ask::Kill(_) | Ask::Refresh => Ok(()),
        }
    }

    /// It waits in its binds, as it was asked for.
    fn is_unbound(&self, unit: &Unit, client: ClientId, reply: &Reply) -> bool {
        let to =
            self.about(client, reply).filter(|swap| swap.hold && swap.ended.is_none()).map(|swap| swap.to);
        let waits = |proc: &Proc| Some(proc.generation()) == to && proc.waits;
        to.is_some_and(|to| unit.held.contains(&to)) && unit.procs.iter().any(waits)
    }

    /// One that ended while its commit was on its way to the disk is gone back from by another: this one.
    /// Or, where only one may run, one that was undone, by another launch of who served before.
    fn undoes(&self, unit: &Unit, back: &SwapBook) -> bool {
        let last = self.swaps.iter().rev().find(|swap| swap.id < back.id);
        let stays = back.ended == Some(SwapResult::Committed);
        let undone = |last: &SwapBook| {
            let before = matches!(last.ended_sent, Some(SwapResult::Failed | SwapResult::Aborted));
            last.from.is_some() && (before || last.dropped) && back.kind == SwapKind::Start
        };
        let fell = |last: &SwapBook| {
            last.from == Some(back.to) && last.ended == back.ended && unit.traffic == Some(back.to)
        };
        stays && last.is_some_and(|last| fell(last) || undone(last))
    }

    fn aborted(&self, unit: &Unit, client: &Client, reply: &Reply) -> Checked {
        let back = self.about(client.id, reply).is_none_or(|swap| {
            matches!(swap.ended, Some(SwapResult::Aborted | SwapResult::RolledBack | SwapResult::Failed))
                || !swap.began_saved
                || self.undoes(unit, swap)
                // A disk that is full cannot say it; a crash would make it so all the same.
                || self.unsaved && (swap.ended_sent.is_some() || swap.dropped)
        });
        must(Rule::Durable, back, || format!("says aborted, and the ledger does not: {}", reply.text))
    }

    fn started(&self, world: &World, unit: &Unit, client: &Client, wait: WaitFor, reply: &Reply) -> Checked {
        if reply.generation.is_none() {
            let told = self.told.iter().map(|told| &unit.files[*told].1);
            return must(
                Rule::Replies,
                told.into_iter().any(|file| unit.doors_are(file, Door::Listening)),
                || format!("says it waits, and does not listen: {}", reply.text),
            );
        }
        if !reply.changed {
            let runs = self.active_soon().is_some() || !self.served.is_empty();
            return must(Rule::Replies, runs, || {
                format!("nothing to do, and nothing is active: {}", reply.text)
            });
        }
        self.reached(world, unit, client, wait, reply)
    }

    /// Whether what a client waited for is true, and on disk.
    fn reached(&self, world: &World, unit: &Unit, client: &Client, wait: WaitFor, reply: &Reply) -> Checked {
        let Some(swap) = self.about(client.id, reply) else {
            return must(Rule::Replies, false, || format!("says done about no swap: {reply:?}"));
        };
        let committed = swap.ended == Some(SwapResult::Committed);
        let missing = match wait {
            WaitFor::Ready if swap.was_ready || unit.complete(swap.to, world.now) => None,
            WaitFor::Ready if swap.switched_saved => None,
            WaitFor::Ready => Some("is not ready"),
            WaitFor::Active if swap.switched_saved => None,
            WaitFor::Active => Some("has not switched, by the ledger"),
            WaitFor::Committed if committed => None,
            WaitFor::Committed => Some("is not committed, by the ledger"),
            WaitFor::Drained if !committed => Some("is not committed, by the ledger"),
            WaitFor::Drained => {
                let left =
                    unit.procs.iter().any(|proc| Some(proc.generation()) == swap.from && !proc.is_over());
                let stands_by = swap.from.is_some_and(|from| self.standbys.contains_key(&from));
                (left && !stands_by).then_some("has left something of its predecessor")
            }
        };
        must(Rule::Durable, missing.is_none(), || {
            format!("says {:?}, but generation {} {}", reply.text, swap.to, missing.unwrap_or_default())
        })
    }

    fn stopped(&self, unit: &Unit, client: &Client, keep_listening: bool, reply: &Reply) -> Checked {
        // What a boot of the machine did not start needs no record to stay so.
        let never_up = unit.booted && !reply.changed;
        must(Rule::Durable, unit.ledger.want == Want::Down || never_up, || {
            "says stopped, and the ledger wants it up".to_owned()
        })?;
        let left = unit.procs.iter().find(|proc| proc.doomed && !proc.is_over());
        must(Rule::Replies, left.is_none(), || {
            format!("says stopped, and {:?} is left", left.map(|proc| proc.id))
        })?;
        let listens = unit.listeners.iter().any(|listener| listener.door == Door::Listening);
        must(Rule::Replies, !listens || keep_listening || !self.halted, || {
            "stopped, and still listens".to_owned()
        })?;
        let had = client.before.as_ref().is_some_and(|before| before.want != Want::Down);
        must(Rule::Replies, reply.changed || !had || never_up, || {
            format!("stopped what wanted to be up, and changed nothing: {}", reply.text)
        })
    }
}
