//! One answer to a person, put together from the answers of many units: daemon-reload.

use crate::codec::fault::Fault;
use crate::model::{ClientId, ExitStatus, Reply};
use std::collections::BTreeMap;

/// Rounds of questions under way.
#[derive(Debug, Default)]
pub struct Gather {
    rounds: BTreeMap<u64, Round>,
    /// Which round each of supd's own calls is of.
    asked: BTreeMap<ClientId, u64>,
    last: u64,
}

/// What one round came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Whom to answer; `None`: it was a signal.
    pub client: Option<ClientId>,
    /// What is said already, a phrase for each unit.
    pub said: Vec<String>,
    /// What is wrong with files.
    pub faults: Vec<Fault>,
    /// Whether anything changed.
    pub changed: bool,
    /// Whether a unit could not do what its file says.
    pub failed: bool,
    /// How many have yet to answer.
    pub missing: usize,
}

impl Gather {
    /// Begins to wait for these. Gives the round back if there is nobody to wait for.
    pub fn begin(&mut self, round: Round, asked: &[ClientId]) -> Option<Round> {
        if asked.is_empty() {
            return Some(round);
        }
        self.last += 1;
        self.asked.extend(asked.iter().map(|client| (*client, self.last)));
        self.rounds.insert(self.last, Round { missing: asked.len(), ..round });
        None
    }

    /// One of them has answered. Gives the round if it was the last.
    pub fn answer(&mut self, client: ClientId, reply: &Reply) -> Option<Round> {
        let number = self.asked.remove(&client)?;
        let round = self.rounds.get_mut(&number)?;
        round.changed |= reply.changed;
        round.failed |= reply.status != ExitStatus::Done;
        if reply.changed || reply.status != ExitStatus::Done {
            round.said.push(reply.text.clone());
        }
        round.missing -= 1;
        if round.missing == 0 { self.rounds.remove(&number) } else { None }
    }
}

impl Round {
    /// The answer to the person. Faults are told apart, for they have places.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let text = if self.said.is_empty() { "nothing has changed".to_owned() } else { self.said.join("; ") };
        let status = if self.failed { ExitStatus::Failed } else { ExitStatus::Done };
        Reply::new(status, self.changed, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_completes_a_round() {
        let mut gather = Gather::default();
        let round = || Round { client: Some(ClientId(1)), ..Round::default() };
        assert_eq!(gather.begin(round(), &[]).unwrap().reply(), Reply::done(false, "nothing has changed"));
        assert_eq!(gather.begin(round(), &[ClientId(10), ClientId(11)]), None);
        assert_eq!(gather.begin(Round::default(), &[ClientId(12)]), None);
        assert_eq!(gather.answer(ClientId(10), &Reply::done(true, "web: a new address")), None);
        assert_eq!(gather.answer(ClientId(10), &Reply::done(true, "again")), None);
        assert!(gather.answer(ClientId(12), &Reply::done(false, "")).is_some());
        let done = gather.answer(ClientId(11), &Reply::refused("api: in use", None)).unwrap();
        assert_eq!(done.client, Some(ClientId(1)));
        assert_eq!(done.reply(), Reply::new(ExitStatus::Failed, true, "web: a new address; api: in use"));
        assert!(gather.rounds.is_empty() && gather.asked.is_empty());
    }
}
