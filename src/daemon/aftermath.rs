//! What came of a request that was under way when supd died, as far as the ledger says. Where it does
//! not, that is said: an outcome is never made up, and the request is never carried out once more.

use super::unfinished::Unfinished;
use crate::codec::ledger::{Entry, Replay};
use crate::codec::request::RequestRecord;
use crate::codec::varlink::{Method, Outcome};
use crate::machine::RESTARTED;
use crate::model::status::SwapResult;
use crate::model::{ExitStatus, Generation, Happening, Reply, SwapId, UnitName};

/// The answer for whoever asks again.
#[must_use]
pub fn outcome(request: &RequestRecord, replay: &Replay, unfinished: &Unfinished) -> Outcome {
    Outcome::of_reply(&reply(request, replay, unfinished), Vec::new(), None)
}

fn reply(request: &RequestRecord, replay: &Replay, unfinished: &Unfinished) -> Reply {
    let ours = |entry: &&Entry| {
        let by = entry.record.unit == *request.method.unit()? && entry.seq > request.seq;
        let by = entry.by.as_ref().filter(|_| by)?;
        (by.uid == request.uid && by.request_id.as_ref() == Some(&request.id)).then_some(())
    };
    let entries = || replay.entries.iter().map(|(entry, _)| entry);
    let (mut swap, mut installed) = (None, false);
    for entry in entries().filter(|entry| ours(entry).is_some()) {
        match (&entry.record.happening, &request.method) {
            (Happening::Stopped, Method::Stop { .. }) => return done("stopped"),
            (Happening::Waiting, Method::Start { .. }) => return done("waits for the first connection"),
            (Happening::Installed { label }, Method::Install { .. }) => {
                return done(&format!("release {label} is installed"));
            }
            (Happening::Installed { .. }, Method::Deploy { .. }) => installed = true,
            (Happening::Undeployed { label }, Method::Undeploy { .. }) => {
                return done(&format!("release {label} is taken away"));
            }
            (Happening::Began { swap_id, from, to, .. }, _) => swap = Some((*swap_id, *from, Some(*to))),
            (Happening::Ended { swap_id, .. }, _) => swap = swap.or(Some((*swap_id, None, None))),
            (
                Happening::Stopped
                | Happening::Waiting
                | Happening::Switched { .. }
                | Happening::Installed { .. }
                | Happening::Undeployed { .. }
                | Happening::Pinned { .. },
                _,
            ) => {}
        }
    }
    let Some((swap_id, from, to)) = swap else { return unbegun(request, installed, replay) };
    let end = entries().filter(|entry| Some(&entry.record.unit) == request.method.unit()).find_map(|entry| {
        match &entry.record.happening {
            Happening::Ended { swap_id: of, result, cause } if *of == swap_id => Some((*result, cause)),
            _ => None,
        }
    });
    let unsaid = request.method.unit().and_then(|unit| unfinished.end(unit, swap_id));
    match end.or_else(|| unsaid.map(|swap| (swap.result, &swap.cause))) {
        Some((SwapResult::Aborted, Some(cause))) if cause == RESTARTED => given_up(request, swap_id),
        Some((SwapResult::Committed, Some(cause))) if cause == RESTARTED => stays(to),
        Some((result, cause)) => {
            ended(result, cause.as_deref(), from, to).unwrap_or_else(|| unknown(request, Some(swap_id)))
        }
        None => unknown(request, Some(swap_id)),
    }
    .about(Some(swap_id), to)
}

/// As the machine would have said it, had supd lived.
fn ended(
    result: SwapResult,
    cause: Option<&str>,
    from: Option<Generation>,
    to: Option<Generation>,
) -> Option<Reply> {
    let cause = cause.unwrap_or("the ledger does not say why");
    let name = |generation: Option<Generation>| {
        generation.map_or("the generation".to_owned(), |generation| format!("generation {generation}"))
    };
    match result {
        SwapResult::Committed => Some(done(&format!("{} is committed", name(to)))),
        SwapResult::Failed | SwapResult::Aborted => {
            let status = if from.is_none() && to.is_some() { ExitStatus::Down } else { ExitStatus::Failed };
            Some(told(Reply::new(status, false, cause)))
        }
        SwapResult::RolledBack => {
            let text = format!("{cause}; rolled back to {}", name(from));
            Some(told(Reply::new(ExitStatus::RolledBack, true, text)))
        }
        SwapResult::Stopped => Some(told(Reply::new(ExitStatus::Down, true, cause))),
        SwapResult::Running => None,
    }
}

fn done(text: &str) -> Reply {
    told(Reply::done(true, text))
}

fn told(reply: Reply) -> Reply {
    let text = format!("{} (from the ledger: supd was restarted before it could answer)", reply.text);
    Reply { text, ..reply }
}

/// supd died before its commit: with nothing left to go back to there is no probation, so it stays.
fn stays(to: Option<Generation>) -> Reply {
    let who = to.map_or("what it brought".to_owned(), |to| format!("generation {to}"));
    told(Reply::done(true, format!("{who} is committed: its probation was cut short, and it stays")))
}

/// supd died before it took over. (Where nobody served before, what was to be launched comes up by itself, but
/// by another swap: this one is over all the same.)
fn given_up(request: &RequestRecord, swap: SwapId) -> Reply {
    let text = format!(
        "swap {swap} was under way when supd was restarted, and is given up: see how things are, and ask again \
         under a new request_id"
    );
    Reply { next: look(request), ..Reply::new(ExitStatus::Failed, true, text) }
}

/// No swap was begun. What was under way of a release that the ledger does not list is gone; one of the same
/// name that it lists, and that this request has not installed, may have any content.
fn unbegun(request: &RequestRecord, installed: bool, replay: &Replay) -> Reply {
    let (Method::Install { unit, label } | Method::Deploy { unit, label, .. }) = &request.method else {
        return unknown(request, None);
    };
    if installed {
        let text = format!("release {label} is installed, and not swapped to: supd was restarted meanwhile");
        return Reply { changed: true, ..Reply::refused(text, Some(format!("swap {unit} {label}"))) };
    }
    let last =
        replay.entries.iter().rev().map(|(entry, _)| &entry.record).find(|record| record.unit == *unit);
    if last.is_some_and(|last| last.durable.releases.iter().any(|release| release.label == *label)) {
        return unknown(request, None);
    }
    let text = format!(
        "release {label} is not installed: supd was restarted in the middle of it; ask again under a new \
         request_id"
    );
    Reply::new(ExitStatus::Failed, false, text)
}

fn look(request: &RequestRecord) -> Option<String> {
    let next = format!("status {}", request.method.unit().map_or("", UnitName::as_str));
    Some(next.trim_end().to_owned())
}

fn unknown(request: &RequestRecord, swap: Option<SwapId>) -> Reply {
    let what = match swap {
        Some(swap) => format!("swap {swap} was under way"),
        None => "this request was under way".to_owned(),
    };
    let text = format!(
        "{what} when supd was restarted, and its outcome is unknown: see how things are, and ask again under \
         a new request_id"
    );
    Reply { next: look(request), ..Reply::new(ExitStatus::Timeout, false, text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger::tests::sample;
    use crate::codec::request::tests::sample as asked;
    use crate::model::release::{Content, Release, Verdict};
    use crate::model::{Author, Label, Stops, SwapKind, WaitFor};

    /// A replay of these happenings in the unit `web`, from seq 13 on; the `bool`: by that request.
    fn replay(happenings: &[(bool, Happening)]) -> Replay {
        let entry = |(seq, (by, happening)): (u64, &(bool, Happening))| {
            let (reason, request_id) = (None, Some("r".to_owned()));
            let by = by.then_some(Author {
                uid: 1000,
                login_uid: None,
                verb: "restart".into(),
                reason,
                request_id,
            });
            (Entry { by, ..sample(seq, "web", happening.clone()) }, 0..0)
        };
        Replay { entries: (13..).zip(happenings).map(entry).collect(), ..Replay::default() }
    }

    fn none() -> Unfinished {
        Unfinished::default()
    }

    fn began(from: Option<u64>) -> Happening {
        let (swap_id, kind) = (SwapId(4), SwapKind::Swap);
        Happening::Began { swap_id, kind, from: from.map(Generation), to: Generation(9) }
    }

    fn end(swap: u64, result: SwapResult) -> Happening {
        let cause = (result != SwapResult::Committed).then(|| "it died".to_owned());
        Happening::Ended { swap_id: SwapId(swap), result, cause }
    }

    #[test]
    fn what_the_ledger_says_counts_and_nothing_else_does() {
        use SwapResult::{Aborted, Committed, Failed, RolledBack, Running, Stopped};
        let first = [(true, began(None))];
        let on_it = [(true, began(Some(8)))];
        let other = [(false, began(Some(8)))];
        let cases = [
            (&on_it[..], Some((true, Committed)), ExitStatus::Done, "generation 9 is committed"),
            // Who lives on ends it: by nobody, or by another.
            (&on_it, Some((false, Committed)), ExitStatus::Done, "generation 9 is committed"),
            (&on_it, Some((true, Failed)), ExitStatus::Failed, "it died"),
            (&first, Some((true, Failed)), ExitStatus::Down, "it died"),
            (&on_it, Some((true, Aborted)), ExitStatus::Failed, "it died"),
            (
                &on_it,
                Some((true, RolledBack)),
                ExitStatus::RolledBack,
                "it died; rolled back to generation 8",
            ),
            (&[], Some((true, Failed)), ExitStatus::Failed, "it died"),
            (&on_it, None, ExitStatus::Timeout, "swap 4 was under way"),
            (&on_it, Some((true, Running)), ExitStatus::Timeout, "swap 4 was under way"),
            (&on_it, Some((true, Stopped)), ExitStatus::Down, "it died"),
            (&other, Some((false, Committed)), ExitStatus::Timeout, "this request was under way"),
            (&[], None, ExitStatus::Timeout, "this request was under way"),
        ];
        for (before, last, status, text) in cases {
            let mut happenings = before.to_vec();
            happenings.extend(last.map(|(by, result)| (by, end(4, result))));
            happenings.push((false, end(5, Committed)));
            let reply = reply(&asked("r", None), &replay(&happenings), &none());
            assert_eq!(reply.status, status, "{happenings:?}");
            assert!(reply.text.starts_with(text), "{}", reply.text);
            assert_eq!(reply.next.is_some(), status == ExitStatus::Timeout);
        }
    }

    #[test]
    fn what_supd_did_not_outlive_is_told_as_the_history_tells_it() {
        let cut = |result| {
            (true, Happening::Ended { swap_id: SwapId(4), result, cause: Some(RESTARTED.to_owned()) })
        };
        for (from, result, status, text) in [
            (Some(8), SwapResult::Aborted, ExitStatus::Failed, "is given up"),
            // It comes up by another swap: that it is down would be a lie.
            (None, SwapResult::Aborted, ExitStatus::Failed, "is given up"),
            (Some(8), SwapResult::Committed, ExitStatus::Done, "generation 9 is committed"),
            (Some(8), SwapResult::RolledBack, ExitStatus::RolledBack, "rolled back to generation 8"),
        ] {
            let reply = reply(&asked("r", None), &replay(&[(true, began(from)), cut(result)]), &none());
            assert_eq!((reply.status, reply.changed), (status, true));
            assert!(reply.text.contains(text), "{}", reply.text);
            assert_eq!(reply.next.is_some(), status == ExitStatus::Failed);
        }
    }

    #[test]
    fn an_install_is_over_and_the_ledger_has_it_or_not() {
        let (unit, label) = (UnitName::new("web").unwrap(), Label::new("1").unwrap());
        let content = Content { digest: "sha256:0".into(), files: 1, bytes: 1, at: 1 };
        let release = Release { label: label.clone(), content, verdict: Verdict::New };
        let install = Method::Install { unit: unit.clone(), label: label.clone() };
        let (stops, replace, wait) = (Stops::default(), false, WaitFor::Active);
        let deploy = Method::Deploy { unit, label, stops, replace, wait };
        for (method, listed, status, text) in [
            (
                &install,
                false,
                ExitStatus::Failed,
                "release 1 is not installed: supd was restarted in the middle",
            ),
            (
                &deploy,
                false,
                ExitStatus::Failed,
                "release 1 is not installed: supd was restarted in the middle",
            ),
            // Somebody else has installed it, and what it is nobody has compared.
            (&install, true, ExitStatus::Timeout, "this request was under way"),
            (&deploy, true, ExitStatus::Timeout, "this request was under way"),
        ] {
            let mut replay = replay(&[(false, began(Some(8))), (false, end(4, SwapResult::Committed))]);
            let last = &mut replay.entries.last_mut().unwrap().0;
            last.record.durable.releases = Vec::from_iter(listed.then(|| release.clone()));
            let reply =
                reply(&RequestRecord { method: method.clone(), ..asked("r", None) }, &replay, &none());
            assert_eq!((reply.status, &reply.text[..text.len()]), (status, text));
        }
        let installed = replay(&[(true, Happening::Installed { label: release.label })]);
        let reply = reply(&RequestRecord { method: deploy, ..asked("r", None) }, &installed, &none());
        assert_eq!((reply.status, reply.next.as_deref()), (ExitStatus::Refused, Some("swap web 1")));
    }

    #[test]
    fn an_id_that_was_used_before_is_not_mistaken_for_this_request() {
        let replay = replay(&[(true, began(Some(8))), (true, end(4, SwapResult::Committed))]);
        for request in [
            RequestRecord { seq: 14, ..asked("r", None) },
            RequestRecord { uid: 7, ..asked("r", None) },
            asked("other", None),
            RequestRecord { method: Method::DaemonReload, ..asked("r", None) },
        ] {
            assert_eq!(reply(&request, &replay, &none()).status, ExitStatus::Timeout, "{request:?}");
        }
        let unit = UnitName::new("web").unwrap();
        let stop = Method::Stop { unit, now: false, keep_listening: false };
        let stopped = RequestRecord { method: stop, ..asked("r", None) };
        let reply = reply(&stopped, &self::replay(&[(true, Happening::Stopped)]), &none());
        assert_eq!((reply.status, reply.changed), (ExitStatus::Done, true));
    }
}
