//! What clients have of many groups of processes: the connections that each holds, counted in a child.
//!
//! The kernel lists the connections at the groups' addresses; /proc/PID/fd tells who holds which. Neither
//! says when the other did: a connection that one process hands to another just then may be seen with
//! neither. So whoever seems to have none left, while there is a connection that nobody was seen with, is
//! looked at once more from the start; and if that connection is still there and still nobody's, then
//! nobody can say that it is not theirs.
//!
//! **What is absent:** connections over UDP and FIFOs, which have none; what a process holds outside its
//! table of descriptors (io_uring's, or one on its way through a UNIX socket) is nobody's, as above.

mod ages;
mod holders;
mod sockets;

pub use ages::Ages;

use super::Error;
use super::members::{self, Marks};
use super::own_proc;
use super::process::Stat;
use super::task::Task;
use crate::model::{Address, SocketKind, Tick};
use ages::Kind;
use nix::sys::socket::{UnixAddr, getsockname};
use sockets::Sockets;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A listener, as its connections show it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// TCP.
    Tcp {
        /// The listener's address.
        host: IpAddr,
        /// Its port.
        port: u16,
    },
    /// A UNIX socket of streams or sequential packets.
    Unix {
        /// The name that it was bound to, as the kernel shows it.
        name: Vec<u8>,
    },
}

impl Place {
    /// That of a listener; `None`: it has no connections.
    #[must_use]
    pub fn of(address: &Address, fd: BorrowedFd<'_>) -> Option<Self> {
        match address {
            Address::Ip { kind: SocketKind::Datagram, .. }
            | Address::Unix { kind: SocketKind::Datagram, .. }
            | Address::Abstract { kind: SocketKind::Datagram, .. }
            | Address::Fifo { .. } => None,
            Address::Ip { host, port, .. } => Some(Self::Tcp { host: *host, port: *port }),
            Address::Unix { .. } | Address::Abstract { .. } => Some(Self::Unix { name: name(fd)? }),
        }
    }

    /// Whether a TCP connection with this local address is of this listener.
    fn takes(&self, at: (IpAddr, u16)) -> bool {
        // A connection to a socket of both families is of IPv6, whatever its client speaks.
        let same =
            |host: &IpAddr| *host == at.0 || (host.is_unspecified() && host.is_ipv4() == at.0.is_ipv4());
        matches!(self, Self::Tcp { host, port } if *port == at.1 && same(host))
    }

    /// Whether a connection with this name was accepted from this listener. Bound anew for the same
    /// address it has another number at its end.
    fn is_named(&self, other: &[u8]) -> bool {
        let base = |name: &[u8]| {
            let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            name.len() - digits
        };
        match self {
            Self::Tcp { .. } => false,
            Self::Unix { name } if name.first() == Some(&0) => name == other,
            Self::Unix { name } => name[..base(name)] == other[..base(other)],
        }
    }
}

/// The name as sock_diag shows it: a path, or NUL and an abstract name.
fn name(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let bound = getsockname::<UnixAddr>(fd.as_raw_fd()).ok()?;
    match (bound.as_abstract(), bound.path()) {
        (Some(name), _) => Some([&[0], name].concat()),
        (None, Some(path)) => Some(path.as_os_str().as_encoded_bytes().to_vec()),
        (None, None) => None,
    }
}

/// Whose connections are counted.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// What its processes are known by; none: there are no processes.
    pub marks: Marks,
    /// The listeners that it was lent.
    pub places: Vec<Place>,
    /// The first so many of them are looked at closer ([`Spot`]): what was counted there until then is told apart.
    pub closer: Vec<Tick>,
}

/// What clients have of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Connections that its processes hold; `None`: supd cannot tell.
    pub connections: Option<u32>,
    /// Connections at its TCP addresses that nobody holds yet, whosever they will be: their handshake is
    /// half done, or they wait to be accepted. `None`: the kernel does not tell.
    pub arriving: Option<u32>,
    /// So long at least its oldest has been open; `None`: none was there at an earlier count.
    pub oldest: Option<Duration>,
}

/// What there is at a place that is looked at closer. Of UNIX sockets only who is held is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spot {
    /// Connections that the group's processes hold, and did not hold at any count until the moment in question.
    pub held_since: u32,
    /// Handshakes that are half done, whosever they will be.
    pub half_open: u32,
    /// Those of them that were not there at any count until then.
    pub half_open_since: u32,
    /// Connections that wait to be accepted, by whomever.
    pub waiting: u32,
    /// Those of them that waited at a count until then.
    pub waited: u32,
}

impl Spot {
    /// One more. `known`: it was the same at a count until the moment in question.
    fn add(&mut self, kind: Kind, known: bool) {
        match kind {
            Kind::Held => self.held_since += u32::from(!known),
            Kind::HalfOpen => {
                self.half_open += 1;
                self.half_open_since += u32::from(!known);
            }
            Kind::Waits => {
                self.waiting += 1;
                self.waited += u32::from(known);
            }
        }
    }
}

/// What a count came to for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// All of it.
    pub tally: Tally,
    /// Each of the places that were looked at closer; none: that cannot be told.
    pub spots: Vec<Spot>,
}

/// So many connections are looked at for all groups together.
const MOST_CONNECTIONS: usize = 1_000_000;

/// What is not counted after this stays unknown, so that one group does not cost all others theirs.
const PATIENCE: Duration = Duration::from_secs(2);

/// Counts in a child. `ages` is what the counts before have left. The answer is for [`decode`].
///
/// # Errors
/// What [`Task::run`] says.
pub fn begin(groups: &[Group], ages: Option<&Ages>, bound: Duration) -> Result<Task, Error> {
    let us = nix::unistd::getpid().as_raw();
    let kept: Vec<BorrowedFd<'_>> = ages.iter().map(|ages| ages.as_fd()).collect();
    Task::run("the count of connections", bound, &kept, || {
        let end = Instant::now() + PATIENCE;
        let (pass, mut counts) = count(groups, us, end);
        if let Some(ages) = ages {
            // Out of memory: what was counted is as good without.
            let _ = ages.tell(groups, &pass, &mut counts);
        }
        Ok(encode(&counts))
    })
}

/// One line for each group: `CONNECTIONS ARRIVING OLDEST_MS`, `-` for what is not known, and the five numbers of
/// each [`Spot`].
fn encode(counts: &[Count]) -> Vec<u8> {
    let word = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let mut text = String::new();
    for Count { tally, spots } in counts {
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let (connections, arriving) = (tally.connections.map(u64::from), tally.arriving.map(u64::from));
        text.push_str(&[connections, arriving, tally.oldest.map(millis)].map(word).join(" "));
        for spot in spots {
            let Spot { held_since, half_open, half_open_since, waiting, waited } = spot;
            let _ = write!(text, " {held_since} {half_open} {half_open_since} {waiting} {waited}");
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// What [`begin`] came to: as many as there were groups, in their order. `None`: it is no answer.
#[must_use]
pub fn decode(answer: &[u8], groups: usize) -> Option<Vec<Count>> {
    let number = |word: &str| -> Option<Option<u64>> {
        match word {
            "-" => Some(None),
            digits => digits.parse().ok().map(Some),
        }
    };
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let count = |line: &str| {
        let words: Vec<Option<u64>> = line.split(' ').map(number).collect::<Option<_>>()?;
        let (&[connections, arriving, oldest], further) = words.split_first_chunk()?;
        let further = further.chunks_exact(5);
        let spot = |words: &[Option<u64>]| {
            let word = |at: usize| words[at].map_or(0, small);
            let [held_since, half_open, half_open_since, waiting, waited] = [0, 1, 2, 3, 4].map(word);
            Spot { held_since, half_open, half_open_since, waiting, waited }
        };
        let whole = further.remainder().is_empty();
        let spots = further.map(spot).collect();
        let oldest = oldest.map(Duration::from_millis);
        let tally = Tally { connections: connections.map(small), arriving: arriving.map(small), oldest };
        whole.then_some(Count { tally, spots })
    };
    let text = std::str::from_utf8(answer).ok()?;
    let counts: Vec<Count> = text.lines().map(count).collect::<Option<_>>()?;
    (counts.len() == groups).then_some(counts)
}

/// One look at the kernel's list and at every process.
struct Pass {
    sockets: Sockets,
    /// The cookies that each group holds, and at which of its places; `None`: it cannot be told.
    held: Vec<Option<Vec<(u64, usize)>>>,
}

impl Pass {
    fn make(groups: &[Group], supd: i32, end: Instant) -> Self {
        let places = groups.iter().flat_map(|group| &group.places);
        let closer: Vec<&Place> = groups
            .iter()
            .flat_map(|group| group.places.iter().zip(&group.closer))
            .map(|(it, _)| it)
            .collect();
        let mut sockets = Sockets::list(places, &closer, MOST_CONNECTIONS);
        let marks: Vec<Marks> = groups.iter().map(|group| group.marks.clone()).collect();
        let members = members::find_each(&marks, supd);
        let proc = own_proc::folder().ok();
        let mut look = Look { sockets: &mut sockets, proc: proc.as_ref().map(AsFd::as_fd), end };
        let held = groups
            .iter()
            .zip(&members)
            .zip(0u32..)
            .map(|((group, members), whose)| look.held(group, members, whose))
            .collect();
        Self { sockets, held }
    }

    /// Whether a group seems to have none while there are some that nobody was seen with.
    fn is_doubtful(&self, groups: &[Group]) -> bool {
        let alone = |held: &Option<Vec<(u64, usize)>>| held.as_ref().is_some_and(Vec::is_empty);
        groups.iter().zip(&self.held).any(|(group, held)| {
            group.marks != Marks::default()
                && alone(held)
                && self.sockets.unclaimed(&group.places).next().is_some()
        })
    }
}

/// What each group is looked at by.
struct Look<'a> {
    sockets: &'a mut Sockets,
    /// One of the child's own: a worker that was listed in the machine's would be slow to reap.
    proc: Option<BorrowedFd<'a>>,
    end: Instant,
}

impl Look<'_> {
    fn held(&mut self, group: &Group, members: &[Stat], whose: u32) -> Option<Vec<(u64, usize)>> {
        if group.marks == Marks::default() || group.places.is_empty() {
            return Some(Vec::new());
        }
        let (mut held, sockets) = (Vec::new(), &mut *self.sockets);
        let told = holders::each_socket(self.proc?, members.iter().map(|stat| stat.pid), self.end, |inode| {
            held.extend(sockets.claim(inode, whose, &group.places));
        });
        (told && self.sockets.knows(&group.places)).then_some(held)
    }
}

fn count(groups: &[Group], supd: i32, end: Instant) -> (Pass, Vec<Count>) {
    let mut pass = Pass::make(groups, supd, end);
    let mut nobodys = HashSet::new();
    if pass.is_doubtful(groups) {
        let before: HashSet<u64> = pass.sockets.all_unclaimed().collect();
        pass = Pass::make(groups, supd, end);
        nobodys = pass.sockets.all_unclaimed().filter(|cookie| before.contains(cookie)).collect();
    }
    let counts = groups.iter().zip(&pass.held).map(|(group, held)| {
        let count = |held: &Vec<(u64, usize)>| u32::try_from(held.len()).unwrap_or(u32::MAX);
        // With its processes a group has lost its connections.
        let maybe = || {
            group.marks != Marks::default()
                && pass.sockets.unclaimed(&group.places).any(|cookie| nobodys.contains(&cookie))
        };
        let connections = held.as_ref().map(count).filter(|count| *count > 0 || !maybe());
        let arriving = pass.sockets.arriving(&group.places);
        Count { tally: Tally { connections, arriving, oldest: None }, spots: Vec::new() }
    });
    let counts = counts.collect();
    (pass, counts)
}

#[cfg(test)]
mod tests;
