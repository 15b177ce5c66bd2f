//! What a unit has of the kernel as JSON, for the next supd: by the keeper, or across its own execve(2).

use super::shape::{Misfit, Shape, member, object, shape, shape_words};
use crate::model::kept::{
    KeptCall, KeptGeneration, KeptGroup, KeptIntercept, KeptListener, KeptLoan, KeptMember, KeptNotify,
    KeptProgram, KeptShare, KeptSteering, KeptStored, KeptTable, KeptTraffic, KeptUnit,
};
use serde_json::Value;
use std::fmt;

/// The number of this format. What has a higher one is not read.
pub const FORMAT: u64 = 1;

/// Why it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Not JSON, or cut off.
    Garbled(String),
    /// Written by a later supd.
    Future(u64),
    /// JSON of another shape.
    Misfit(Misfit),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbled(why) => write!(f, "it is no JSON: {why}"),
            Self::Future(format) => write!(f, "it has format {format}, and this supd knows {FORMAT}"),
            Self::Misfit(misfit) => misfit.fmt(f),
        }
    }
}

shape_words!(KeptTraffic { Refused = "refused", HeldOff = "held-off", Open = "open" });
shape!(KeptLoan { generation: "generation", slot: "slot" });
shape!(KeptNotify { generation: "generation", socket: "socket" });
shape!(KeptGeneration {
    generation: "generation",
    origin: "origin",
    steered: "steered",
    launched: "launched",
    workers: "workers"
});
shape!(KeptStored { generation: "generation", worker: "worker", name: "name", poll: "poll", file: "file" });
shape!(KeptCall { id: "id", thread: "thread", fd: "fd", address: "address", backlog: "backlog" });
shape!(KeptIntercept {
    generation: "generation",
    worker: "worker",
    calls: "calls",
    served: "served",
    nonblocking: "nonblocking",
    last: "last",
    waiting: "waiting",
});
shape!(KeptShare { slot: "slot", parts: "parts" });
shape!(KeptTable { words: "words", probes: "probes" });
shape!(KeptSteering {
    active: "active",
    candidate: "candidate",
    sticky: "sticky",
    salt: "salt",
    table: "table",
    place: "place",
});
shape!(KeptMember { slot: "slot", lent: "lent", socket: "socket" });
shape!(KeptProgram { sockets: "sockets", program: "program", place: "place" });
shape!(KeptGroup { row: "row", ebpf: "ebpf", why: "why" });
shape!(KeptListener {
    socket: "settings",
    bound: "bound",
    traffic: "traffic",
    shared: "shared",
    members: "members",
    group: "group",
});
shape!(KeptUnit {
    steered: "steered",
    lent: "lent",
    left: "left",
    steering: "steering",
    listeners: "listeners",
    notify: "notify",
    generations: "generations",
    stored: "stored",
    intercepts: "intercepts",
});

/// As one line.
#[must_use]
pub fn encode(unit: &KeptUnit) -> String {
    let mut value = unit.write();
    if let Some(map) = value.as_object_mut() {
        map.insert("format".into(), FORMAT.into());
    }
    value.to_string()
}

/// From that line.
///
/// # Errors
/// [`Unreadable`], which says why.
pub fn decode(text: &[u8]) -> Result<KeptUnit, Unreadable> {
    let value: Value = serde_json::from_slice(text).map_err(|e| Unreadable::Garbled(e.to_string()))?;
    let map = object(&value).map_err(Unreadable::Misfit)?;
    match member::<u64>(map, "format").map_err(Unreadable::Misfit)? {
        FORMAT => KeptUnit::read(&value).map_err(Unreadable::Misfit),
        format => Err(Unreadable::Future(format)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pinned::tests::sample as pinned;
    use crate::model::{Address, Generation, Tick};

    fn sample() -> KeptUnit {
        let socket = pinned("web").sockets[0].clone();
        let bound: Address = socket.address.clone();
        KeptUnit {
            steered: true,
            lent: vec![KeptLoan { generation: Generation(7), slot: 1 }],
            left: vec![KeptLoan { generation: Generation(6), slot: 0 }],
            steering: KeptSteering {
                active: 1,
                candidate: Some(KeptShare { slot: 2, parts: 500 }),
                sticky: false,
                salt: 9,
                table: Some(KeptTable { words: 0, probes: 1 }),
                place: 1,
            },
            listeners: vec![KeptListener {
                socket,
                bound,
                traffic: KeptTraffic::Open,
                shared: false,
                members: vec![KeptMember { slot: 1, lent: true, socket: 2 }],
                group: Some(KeptGroup {
                    row: vec![1],
                    ebpf: Some(KeptProgram { sockets: 3, program: 4, place: 0 }),
                    why: String::new(),
                }),
            }],
            notify: vec![KeptNotify { generation: Generation(7), socket: 5 }],
            generations: vec![KeptGeneration {
                generation: Generation(7),
                origin: Generation(5),
                launched: Some(Tick(5)),
                steered: true,
                workers: vec![0, 3],
            }],
            stored: vec![KeptStored {
                generation: Generation(7),
                worker: 3,
                name: "state".to_owned(),
                poll: true,
                file: 6,
            }],
            intercepts: vec![KeptIntercept {
                generation: Generation(7),
                worker: 0,
                calls: 7,
                served: vec![0],
                nonblocking: true,
                last: Some(u64::MAX),
                waiting: vec![
                    KeptCall { id: u64::MAX, thread: 9, fd: 5, address: Some((1 << 47, 16)), backlog: 0 },
                    KeptCall { id: 1, thread: 9, fd: 5, address: None, backlog: -1 },
                ],
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(decode(encode(&sample()).as_bytes()), Ok(sample()));
        let bare = KeptUnit { listeners: Vec::new(), notify: Vec::new(), lent: Vec::new(), ..sample() };
        assert_eq!(decode(encode(&bare).as_bytes()), Ok(bare));
    }

    /// From before the time of a launch was told.
    #[test]
    fn what_an_earlier_supd_kept_is_read() {
        let mut value: Value = serde_json::from_str(&encode(&sample())).unwrap();
        assert!(value["generations"][0].as_object_mut().unwrap().remove("launched").is_some());
        let read = decode(value.to_string().as_bytes()).unwrap();
        assert_eq!(read.generations[0].launched, None);
    }

    #[test]
    fn what_is_cut_off_of_the_future_or_of_another_shape_is_refused() {
        let text = encode(&sample());
        for end in 0..text.len() {
            assert!(decode(&text.as_bytes()[..end]).is_err(), "{end}");
        }
        let future = text.replace("\"format\":1", "\"format\":2");
        assert_eq!(decode(future.as_bytes()), Err(Unreadable::Future(2)));
        let other = text.replace("\"slot\":2", "\"slot\":\"2\"");
        let said = decode(other.as_bytes()).unwrap_err().to_string();
        assert!(said.contains("steering.candidate.slot"), "{said}");
    }
}
