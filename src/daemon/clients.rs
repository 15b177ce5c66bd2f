//! Who waits for an answer, on whose behalf the machine acts, and what was answered before.

use super::control::Call;
use crate::codec::ledger::Author;
use crate::codec::varlink::Method;
use crate::model::{ClientId, Reply, Tick, UnitName};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Numbers from here on are supd's own: calls that nobody made.
const INTERNAL_FIRST: u64 = 1 << 62;

/// How many outcomes are kept for those who ask again.
const OUTCOMES_MAX: usize = 1000;

/// For how long.
const OUTCOMES_FOR: Duration = Duration::from_secs(24 * 3600);

/// How many of those who hung up are remembered as the author of what still happens for them.
const GONE_MAX: usize = 1000;

/// An answer with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The machine's answer.
    pub reply: Reply,
    /// The last lines that a failed generation wrote.
    pub log: Vec<String>,
    /// Where all of it is.
    pub log_file: Option<String>,
}

/// Which request: the same id from another user is another one.
type Key = (u32, String);

/// A call that the machine has.
#[derive(Debug, Clone)]
pub struct Asked {
    /// About which unit; `None`: about supd.
    pub unit: Option<UnitName>,
    /// For the ledger.
    pub author: Author,
    key: Option<Key>,
}

/// What is known of a request that came once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repeated {
    /// It has this outcome.
    Outcome(Box<Outcome>),
    /// It is under way; this client is told with the first one.
    Joined,
    /// The id was used for another request, of this method.
    Other(&'static str),
}

fn key(call: &Call) -> Option<Key> {
    Some((call.peer.uid, call.meta.request_id.clone()?))
}

#[derive(Debug)]
struct Remembered {
    method: Method,
    since: Tick,
    outcome: Option<Box<Outcome>>,
    /// Who asked again meanwhile.
    joined: Vec<ClientId>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Clients {
    asked: BTreeMap<ClientId, Asked>,
    gone: VecDeque<ClientId>,
    outcomes: BTreeMap<Key, Remembered>,
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

    /// Whether this request came before.
    pub fn repeated(&mut self, call: &Call, now: Tick) -> Option<Repeated> {
        let key = key(call)?;
        let known = self.outcomes.get_mut(&key)?;
        if known.outcome.is_some() && now.since(known.since) > OUTCOMES_FOR {
            self.outcomes.remove(&key);
            return None;
        }
        if known.method != call.method {
            return Some(Repeated::Other(known.method.name()));
        }
        Some(match &known.outcome {
            Some(outcome) => Repeated::Outcome(outcome.clone()),
            None => {
                known.joined.push(call.client);
                Repeated::Joined
            }
        })
    }

    /// The machine has this call from now on.
    pub fn ask(&mut self, call: &Call, now: Tick) {
        let key = key(call);
        if let Some(key) = key.clone() {
            self.make_room();
            let method = call.method.clone();
            self.outcomes.insert(key, Remembered { method, since: now, outcome: None, joined: Vec::new() });
        }
        let author = Author {
            uid: call.peer.uid,
            verb: call.method.name().to_lowercase(),
            reason: call.meta.reason.clone(),
            request_id: call.meta.request_id.clone(),
        };
        self.asked.insert(call.client, Asked { unit: call.method.unit().cloned(), author, key });
    }

    /// The oldest outcome goes; what is under way stays.
    fn make_room(&mut self) {
        while self.outcomes.len() >= OUTCOMES_MAX {
            let done = self.outcomes.iter().filter(|(_, known)| known.outcome.is_some());
            let Some(oldest) = done.min_by_key(|(_, known)| known.since).map(|(key, _)| key.clone()) else {
                return;
            };
            self.outcomes.remove(&oldest);
        }
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

    /// The machine has answered; gives everyone who is to be told.
    pub fn answered(&mut self, client: ClientId, outcome: &Outcome, now: Tick) -> Vec<ClientId> {
        let mut told = vec![client];
        let Some(asked) = self.asked.remove(&client) else { return told };
        if let Some(known) = asked.key.and_then(|key| self.outcomes.get_mut(&key)) {
            known.outcome = Some(Box::new(outcome.clone()));
            known.since = now;
            told.append(&mut known.joined);
        }
        told
    }

    /// Everyone who hears of the progress of this call.
    pub fn listeners(&self, client: ClientId) -> impl Iterator<Item = ClientId> {
        let key = self.asked.get(&client).and_then(|asked| asked.key.as_ref());
        let joined = key.and_then(|key| self.outcomes.get(key)).map(|known| known.joined.as_slice());
        std::iter::once(client).chain(joined.unwrap_or_default().iter().copied())
    }

    /// A client is gone. Gives its unit if the machine is to know: not where the outcome is kept
    /// for when it asks again.
    pub fn hung_up(&mut self, client: ClientId) -> Option<UnitName> {
        for known in self.outcomes.values_mut() {
            known.joined.retain(|joined| *joined != client);
        }
        let asked = self.asked.get(&client)?;
        if asked.key.is_some() {
            return None;
        }
        let unit = asked.unit.clone();
        self.gone.push_back(client);
        if self.gone.len() > GONE_MAX {
            if let Some(oldest) = self.gone.pop_front() {
                self.asked.remove(&oldest);
            }
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::varlink::Meta;
    use crate::os::peer::Peer;

    fn call(client: u64, uid: u32, id: Option<&str>, method: Method) -> Call {
        let meta = Meta { reason: Some("why not".into()), request_id: id.map(str::to_owned) };
        let peer = Peer { pid: 1, uid, gid: 0, groups: Vec::new() };
        Call { client: ClientId(client), peer, method, meta, more: false, descriptor: None }
    }

    fn abort() -> Method {
        Method::Abort { unit: unit().unwrap() }
    }

    fn outcome(text: &str) -> Outcome {
        Outcome { reply: Reply::done(true, text), log: Vec::new(), log_file: None }
    }

    fn unit() -> Option<UnitName> {
        UnitName::new("web").ok()
    }

    #[test]
    fn a_repetition_gets_the_first_outcome() {
        let (mut clients, day) = (Clients::default(), 24 * 3_600_000_000);
        let again = |clients: &mut Clients, client, uid, method, now| {
            clients.repeated(&call(client, uid, Some("r1"), method), Tick(now))
        };
        assert_eq!(again(&mut clients, 1, 0, abort(), 0), None);
        clients.ask(&call(1, 0, Some("r1"), abort()), Tick(0));
        assert_eq!(clients.author(ClientId(1)).unwrap().verb, "abort");
        assert_eq!(again(&mut clients, 2, 0, abort(), 1), Some(Repeated::Joined));
        assert_eq!(again(&mut clients, 3, 0, abort(), 1), Some(Repeated::Joined));
        assert_eq!(again(&mut clients, 4, 0, Method::Shutdown, 1), Some(Repeated::Other("Abort")));
        assert_eq!(again(&mut clients, 5, 7, abort(), 1), None, "another user's");
        // Who asked first hangs up: the outcome is for those who joined.
        assert_eq!(clients.hung_up(ClientId(1)), None);
        assert_eq!(clients.hung_up(ClientId(3)), None);
        assert_eq!(clients.listeners(ClientId(1)).collect::<Vec<_>>(), [ClientId(1), ClientId(2)]);
        assert_eq!(clients.answered(ClientId(1), &outcome("a"), Tick(5)), [ClientId(1), ClientId(2)]);
        let kept = Some(Repeated::Outcome(Box::new(outcome("a"))));
        assert_eq!(again(&mut clients, 6, 0, abort(), day), kept);
        assert_eq!(again(&mut clients, 7, 0, abort(), day + 6), None, "a day later");
    }

    #[test]
    fn outcomes_and_the_gone_are_bounded() {
        let mut clients = Clients::default();
        for n in 0..3000 {
            clients.ask(&call(n, 0, Some(&format!("r{n}")), abort()), Tick(n));
            clients.answered(ClientId(n), &outcome("a"), Tick(n));
            clients.ask(&call(10_000 + n, 0, None, abort()), Tick(n));
            assert_eq!(clients.hung_up(ClientId(10_000 + n)), unit());
        }
        assert_eq!((clients.outcomes.len(), clients.asked.len()), (OUTCOMES_MAX, GONE_MAX));
        assert!(clients.outcomes.contains_key(&(0, "r2999".into())));
        assert!(!Clients::is_internal(ClientId(3000)));
        let own = clients.internal();
        assert!(Clients::is_internal(own) && own != clients.internal());
    }
}
