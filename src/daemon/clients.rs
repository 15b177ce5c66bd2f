//! Who waits for an answer, and on whose behalf the machine acts.

use super::control::Call;
use super::outcomes::{Key, Note, Outcomes, Repeated};
use crate::codec::request::{RequestRecord, Stamp};
use crate::codec::varlink::Outcome;
use crate::model::{Author, ClientId, Tick, UnitName};
use std::collections::{BTreeMap, VecDeque};

/// Numbers from here on are supd's own: calls that nobody made.
const INTERNAL_FIRST: u64 = 1 << 62;

/// How many of those who hung up are remembered as the author of what still happens for them.
const GONE_MAX: usize = 1000;

/// A call that the machine has.
#[derive(Debug, Clone)]
pub struct Asked {
    /// About which unit; `None`: about supd.
    pub unit: Option<UnitName>,
    /// For the ledger.
    pub author: Author,
    key: Option<Key>,
}

fn key(call: &Call) -> Option<Key> {
    Some((call.peer.uid, call.meta.request_id.clone()?))
}

/// All of them.
#[derive(Debug, Default)]
pub struct Clients {
    asked: BTreeMap<ClientId, Asked>,
    gone: VecDeque<ClientId>,
    outcomes: Outcomes,
    internal_last: u64,
}

impl Clients {
    /// A number for a call of supd's own.
    pub fn internal(&mut self) -> ClientId {
        self.internal_last += 1;
        ClientId(INTERNAL_FIRST + self.internal_last)
    }

    /// Whether a number is one of those.
    #[must_use]
    pub fn is_internal(client: ClientId) -> bool {
        client.0 >= INTERNAL_FIRST
    }

    /// A number for whoever asked an earlier image for what goes on: nobody is told by it.
    pub fn stand_in(&mut self, unit: &UnitName, author: Author) -> ClientId {
        let client = self.internal();
        self.asked.insert(client, Asked { unit: Some(unit.clone()), author, key: None });
        self.forget_later(client);
        client
    }

    /// What the disk has of earlier lives of supd.
    pub fn restore(&mut self, kept: Vec<(u16, RequestRecord)>, now: &Stamp) {
        self.outcomes.restore(kept, now);
    }

    /// Whether this request came before.
    pub fn repeated(&mut self, call: &Call, now: Tick) -> Option<Repeated> {
        self.outcomes.repeated(&key(call)?, &call.method, call.client, now)
    }

    /// The same, where nothing is to come of it.
    #[must_use]
    pub fn known(&self, call: &Call, now: Tick) -> Option<Repeated> {
        self.outcomes.known(&key(call)?, &call.method, now)
    }

    /// The machine has this call from now on. Gives what is to be written.
    pub fn ask(&mut self, call: &Call, login_uid: Option<u32>, now: Stamp, seq: u64) -> Option<Note> {
        let key = key(call);
        let note = key.as_ref().and_then(|key| self.outcomes.begin(key, &call.method, now, seq));
        let author = Author {
            uid: call.peer.uid,
            login_uid,
            verb: call.method.verb(),
            reason: call.meta.reason.clone(),
            request_id: call.meta.request_id.clone(),
        };
        self.asked.insert(call.client, Asked { unit: call.method.unit().cloned(), author, key });
        note
    }

    /// Who asked for what the machine does for this client.
    #[must_use]
    pub fn author(&self, client: ClientId) -> Option<&Author> {
        self.asked.get(&client).map(|asked| &asked.author)
    }

    /// About which unit this client asked.
    #[must_use]
    pub fn unit(&self, client: ClientId) -> Option<&UnitName> {
        self.asked.get(&client)?.unit.as_ref()
    }

    /// Whether somebody may ask again about this unit by a request_id whose outcome is yet to come: only who has begun
    /// it can write that down.
    #[must_use]
    pub fn owes(&self, unit: &UnitName) -> bool {
        self.asked.values().any(|asked| asked.key.is_some() && asked.unit.as_ref() == Some(unit))
    }

    fn key(&self, client: ClientId) -> Option<&Key> {
        self.asked.get(&client)?.key.as_ref()
    }

    /// The machine has answered. Gives what is to be written before that is told.
    pub fn outcome(&mut self, client: ClientId, outcome: &Outcome, now: Stamp) -> Option<Note> {
        self.outcomes.end(self.asked.get(&client)?.key.as_ref()?, outcome, now)
    }

    /// What was to be written first is: the answer that can be told now, unless it was already.
    #[must_use]
    pub fn written(&self, client: ClientId) -> Option<Outcome> {
        self.outcomes.written(self.key(client)?)
    }

    /// The answer is told now; gives everyone who is to hear it.
    pub fn answered(&mut self, client: ClientId, outcome: &Outcome, now: Tick) -> Vec<ClientId> {
        let key = self.asked.remove(&client).and_then(|asked| asked.key);
        let joined = key.map(|key| self.outcomes.answered(&key, outcome, now));
        std::iter::once(client).chain(joined.unwrap_or_default()).collect()
    }

    /// Everyone who hears of the progress of this call.
    pub fn listeners(&self, client: ClientId) -> impl Iterator<Item = ClientId> {
        let joined = self.key(client).map(|key| self.outcomes.joined(key)).unwrap_or_default();
        std::iter::once(client).chain(joined.iter().copied())
    }

    /// A client is gone. Gives its unit if the machine is to know: not where the outcome is kept
    /// for when it asks again.
    pub fn hung_up(&mut self, client: ClientId) -> Option<UnitName> {
        self.outcomes.hung_up(client);
        let asked = self.asked.get(&client)?;
        if asked.key.is_some() {
            return None;
        }
        let unit = asked.unit.clone();
        self.forget_later(client);
        unit
    }

    fn forget_later(&mut self, client: ClientId) {
        self.gone.push_back(client);
        if self.gone.len() > GONE_MAX {
            if let Some(oldest) = self.gone.pop_front() {
                self.asked.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::varlink::{Meta, Method};
    use crate::model::Reply;
    use crate::os::peer::Peer;

    fn call(client: u64, uid: u32, id: Option<&str>, method: Method) -> Call {
        let meta = Meta { reason: Some("why not".into()), request_id: id.map(str::to_owned), dry_run: false };
        let peer = Peer { pid: 1, uid, gid: 0, groups: Vec::new() };
        Call { client: ClientId(client), peer, method, meta, more: false, descriptor: None }
    }

    fn abort() -> Method {
        Method::Abort { unit: unit().unwrap() }
    }

    fn unit() -> Option<UnitName> {
        UnitName::new("web").ok()
    }

    fn stamp() -> Stamp {
        Stamp { at: 0, boot: "b".into(), tick: Tick(0) }
    }

    #[test]
    fn a_repetition_gets_the_first_outcome() {
        let mut clients = Clients::default();
        let again = |clients: &mut Clients, client, uid, method| {
            clients.repeated(&call(client, uid, Some("r1"), method), Tick(0))
        };
        let outcome = Outcome::of_reply(&Reply::done(true, "a"), Vec::new(), None);
        assert_eq!(again(&mut clients, 1, 0, abort()), None);
        assert!(clients.ask(&call(1, 0, Some("r1"), abort()), None, stamp(), 0).is_some());
        assert_eq!(clients.author(ClientId(1)).unwrap().verb, "abort");
        assert_eq!(again(&mut clients, 2, 0, abort()), Some(Repeated::Joined));
        assert_eq!(again(&mut clients, 3, 0, abort()), Some(Repeated::Joined));
        assert_eq!(again(&mut clients, 4, 0, Method::Shutdown), Some(Repeated::Other("Abort")));
        assert_eq!(again(&mut clients, 5, 7, abort()), None, "another user's");
        // Who asked first hangs up: the outcome is for those who joined.
        assert_eq!(clients.hung_up(ClientId(1)), None);
        assert_eq!(clients.hung_up(ClientId(3)), None);
        assert_eq!(clients.listeners(ClientId(1)).collect::<Vec<_>>(), [ClientId(1), ClientId(2)]);
        assert_eq!(clients.written(ClientId(1)), None);
        assert!(clients.outcome(ClientId(1), &outcome, stamp()).is_some());
        assert_eq!(again(&mut clients, 6, 0, abort()), Some(Repeated::Joined), "it is not told yet");
        assert_eq!(clients.written(ClientId(1)), Some(outcome.clone()));
        let told = [1, 2, 6].map(ClientId);
        assert_eq!(clients.answered(ClientId(1), &outcome, Tick(5)), told);
        assert_eq!(clients.written(ClientId(1)), None, "nothing is told twice");
        assert_eq!(again(&mut clients, 7, 0, abort()), Some(Repeated::Outcome(outcome.clone())));
        assert_eq!(clients.answered(ClientId(8), &outcome, Tick(5)), [ClientId(8)], "without an id");
    }

    #[test]
    fn the_gone_are_bounded() {
        let mut clients = Clients::default();
        for n in 0..3000 {
            assert_eq!(clients.ask(&call(n, 0, None, abort()), None, stamp(), 0), None);
            assert_eq!(clients.hung_up(ClientId(n)), unit());
        }
        assert_eq!(clients.asked.len(), GONE_MAX);
        assert!(!Clients::is_internal(ClientId(3000)));
        let own = clients.internal();
        assert!(Clients::is_internal(own) && own != clients.internal());
    }
}
