//! The kernel's list of the connections at some addresses.

use super::Place;
use super::ages::Kind;
use crate::os::sock_diag::{self, States, TcpPhase};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Up to so many ports are asked for one by one: for each the kernel walks through all connections of
/// the machine. More are picked out of one list of them all.
const PORTS_BY_NAME: usize = 4;

/// Nobody holds it.
const NOBODY: u32 = u32::MAX;

/// The connections at the addresses of all groups.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// By inode.
    held: Vec<Row>,
    /// Those that nobody holds yet, by address.
    arriving: HashMap<(IpAddr, u16), u32>,
    /// Each of them at places that are looked at closer.
    pending: HashMap<(IpAddr, u16), Vec<(u64, Kind)>>,
    /// Names of UNIX sockets.
    names: Vec<Vec<u8>>,
    /// Whether the kernel has listed all of them.
    knows_tcp: bool,
    knows_unix: bool,
}

#[derive(Debug)]
struct Row {
    inode: u32,
    /// Who was seen with it last.
    whose: u32,
    cookie: u64,
    at: At,
}

#[derive(Debug, Clone, Copy)]
enum At {
    Tcp(IpAddr, u16),
    /// A place in `names`.
    Unix(usize),
}

impl Sockets {
    /// As it is now. `closer`: whoever waits there is told one by one. `most`: no more are listed.
    pub(super) fn list<'a>(places: impl Iterator<Item = &'a Place>, closer: &[&Place], most: usize) -> Self {
        let places: HashSet<&Place> = places.collect();
        let mut list = Self { knows_tcp: true, knows_unix: true, ..Self::default() };
        for six in [false, true] {
            let its = |place: &&&Place| matches!(place, Place::Tcp { host, .. } if host.is_ipv6() == six);
            let its: Vec<&Place> = places.iter().filter(its).copied().collect();
            list.list_tcp(six, &its, closer, most);
        }
        let unix: Vec<&Place> = places.into_iter().filter(|it| matches!(it, Place::Unix { .. })).collect();
        list.list_unix(&unix, most);
        list.held.sort_unstable_by_key(|row| (row.inode, row.cookie));
        list.held.dedup_by_key(|row| (row.inode, row.cookie));
        list
    }

    fn list_tcp(&mut self, six: bool, places: &[&Place], closer: &[&Place], most: usize) {
        let mut by_port: HashMap<u16, Vec<&Place>> = HashMap::new();
        for place in places {
            if let Place::Tcp { port, .. } = place {
                by_port.entry(*port).or_default().push(place);
            }
        }
        let named: Vec<u16> = match by_port.len() {
            0 => return,
            few if few <= PORTS_BY_NAME => by_port.keys().copied().collect(),
            _ => vec![0],
        };
        let states = States(States::OPEN.0 | States::HALF_OPEN.0);
        for port in named {
            let listed = sock_diag::tcp_connections(six, port, states, most, |row| {
                let at = (row.host, row.port);
                if !by_port.get(&row.port).is_some_and(|places| places.iter().any(|it| it.takes(at))) {
                    return;
                }
                match (row.inode, row.phase) {
                    // The server has closed it; what it has said the kernel brings there by itself.
                    (0, TcpPhase::Finishing) => {}
                    (0, phase) => {
                        *self.arriving.entry(at).or_default() += 1;
                        if closer.iter().any(|place| place.takes(at)) {
                            let kind = if phase == TcpPhase::Open { Kind::Waits } else { Kind::HalfOpen };
                            self.pending.entry(at).or_default().push((row.cookie, kind));
                        }
                    }
                    (inode, _) => {
                        let (cookie, at) = (row.cookie, At::Tcp(row.host, row.port));
                        self.held.push(Row { inode, whose: NOBODY, cookie, at });
                    }
                }
            });
            self.knows_tcp &= matches!(listed, Ok(true));
        }
    }

    fn list_unix(&mut self, places: &[&Place], most: usize) {
        if places.is_empty() {
            return;
        }
        let mut known: HashMap<Vec<u8>, Option<usize>> = HashMap::new();
        let (held, names) = (&mut self.held, &mut self.names);
        let listed = sock_diag::unix_connections(most, |row| {
            let at = *known.entry(row.name).or_insert_with_key(|name| {
                places.iter().any(|place| place.is_named(name)).then(|| {
                    names.push(name.clone());
                    names.len() - 1
                })
            });
            if let Some(at) = at.filter(|_| row.inode != 0) {
                held.push(Row { inode: row.inode, whose: NOBODY, cookie: row.cookie, at: At::Unix(at) });
            }
        });
        self.knows_unix = matches!(listed, Ok(true));
    }

    /// At which of these places it is.
    fn place(&self, row: &Row, places: &[Place]) -> Option<usize> {
        match row.at {
            At::Tcp(host, port) => places.iter().position(|place| place.takes((host, port))),
            At::Unix(name) => places.iter().position(|place| place.is_named(&self.names[name])),
        }
    }

    /// Group `whose` holds this socket. Its cookie, and at which of these places it is a connection, if it is one and
    /// was not seen with this group before.
    pub(super) fn claim(&mut self, inode: u32, whose: u32, places: &[Place]) -> Option<(u64, usize)> {
        let at = self.held.binary_search_by_key(&inode, |row| row.inode).ok()?;
        let place = self.place(&self.held[at], places)?;
        let row = &mut self.held[at];
        (row.whose != whose).then(|| {
            row.whose = whose;
            (row.cookie, place)
        })
    }

    /// Connections at these places that no group was seen with.
    pub(super) fn unclaimed<'a>(&'a self, places: &'a [Place]) -> impl Iterator<Item = u64> + 'a {
        let its = |row: &&Row| row.whose == NOBODY && self.place(row, places).is_some();
        self.held.iter().filter(its).map(|row| row.cookie)
    }

    pub(super) fn all_unclaimed(&self) -> impl Iterator<Item = u64> {
        self.held.iter().filter(|row| row.whose == NOBODY).map(|row| row.cookie)
    }

    /// Those at these places that nobody holds yet.
    pub(super) fn arriving(&self, places: &[Place]) -> Option<u32> {
        let tcp = places.iter().any(|place| matches!(place, Place::Tcp { .. }));
        let its = self.arriving.iter().filter(|(at, _)| places.iter().any(|place| place.takes(**at)));
        (!tcp || self.knows_tcp).then(|| its.map(|(_, count)| *count).fold(0, u32::saturating_add))
    }

    /// Each of those at this place, if it was to be looked at closer.
    pub(super) fn pending<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = (u64, Kind)> + 'a {
        self.pending.iter().filter(|(at, _)| place.takes(**at)).flat_map(|(_, all)| all).copied()
    }

    /// Whether the kernel has listed all that there may be at these places.
    pub(super) fn knows(&self, places: &[Place]) -> bool {
        places.iter().all(|place| match place {
            Place::Tcp { .. } => self.knows_tcp,
            Place::Unix { .. } => self.knows_unix,
        })
    }
}
