//! Random sequences of what can happen to slots, against a model that says where each client gets to.
//!
//! `SUPD_SEED=N` plays one of them again.

use super::slots::{Stage, both, place, split};
use super::*;
use crate::os::steering::{Mechanism, Slot, Split};
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

/// How many seeds, and how many steps each.
const SEEDS: u64 = 25;
const STEPS: u32 = 60;
/// So often at least a slot is shut down in which somebody waits.
const MANY: u32 = 10;

/// xorshift64*: the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len())]) }
    }
}

/// What should be true.
struct World {
    stage: Stage,
    /// Clients that wait in a slot, by the slot; and whether a generation has it.
    slots: BTreeMap<Slot, (u32, bool)>,
    split: Split,
    leaked: Vec<OwnedFd>,
    clients: Vec<TcpStream>,
    /// How often a slot was shut down in which somebody waited, and who waited moved as the model says.
    moved: u32,
    told: Vec<String>,
}

impl World {
    fn new() -> Self {
        let wanted = with(tcp("127.0.0.1", free_port()), |o| o.backlog = 4_096);
        let mut stage = Stage::open(&wanted);
        stage.lend(0);
        let slots = BTreeMap::from([(0, (0, true))]);
        let (leaked, clients, told) = (Vec::new(), Vec::new(), Vec::new());
        Self { stage, slots, split: split(0, None), leaked, clients, moved: 0, told }
    }

    fn lent(&self) -> Vec<Slot> {
        self.slots.iter().filter(|(_, (_, lent))| *lent).map(|(slot, _)| *slot).collect()
    }

    fn ebpf(&self) -> bool {
        self.stage.listener.mechanism() == Mechanism::Ebpf
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.below(10) {
            0 => self.borrow(dice),
            1 => self.die(dice),
            2 => self.switch(dice),
            3 => self.shut_down(dice),
            4 => self.leak(dice),
            5 => self.serve(dice),
            6 => self.listen_again(dice),
            7 => self.strange(dice),
            _ => self.connect(u32::try_from(1 + dice.below(12)).unwrap()),
        }
        self.check();
    }

    fn borrow(&mut self, dice: &mut Dice) {
        let free: Vec<Slot> = (0..5).filter(|slot| !self.lent().contains(slot)).collect();
        let Some(slot) = dice.pick(&free) else { return };
        self.told.push(format!("lend {slot}"));
        // With nobody else there, whoever comes first has the one that is there.
        if self.lent().is_empty() && !self.slots.contains_key(&slot) {
            let known = self.split.active;
            let entry = self.slots.remove(&known).unwrap();
            self.slots.insert(slot, entry);
        }
        self.stage.lend(slot);
        self.slots.entry(slot).or_insert((0, true)).1 = true;
    }

    fn die(&mut self, dice: &mut Dice) {
        // Whoever receives new clients is switched away first, as supd does.
        let receives = self.split.whole();
        let Some(slot) = dice.pick(&self.lent()).filter(|slot| *slot != receives) else { return };
        self.told.push(format!("give back {slot}"));
        if self.split.candidate.is_some_and(|(candidate, _)| candidate == slot) || self.split.active == slot {
            self.steer(split(receives, None));
        }
        self.stage.listener.give_back(slot);
        self.settle(slot);
    }

    /// A slot without a generation: closed and its queue moved, or kept with it.
    fn settle(&mut self, slot: Slot) {
        if self.ebpf() || self.stage.listener.slots().all(|(known, _)| known != slot) {
            let (queue, _) = self.slots.remove(&slot).unwrap();
            self.slots.get_mut(&self.split.whole()).unwrap().0 += queue;
        } else if let Some(entry) = self.slots.get_mut(&slot) {
            entry.1 = false;
        }
        self.forget_closed();
    }

    /// One that nobody has may go at any time, if nobody waits there.
    fn forget_closed(&mut self) {
        let there: Vec<Slot> = self.stage.listener.slots().map(|(slot, _)| slot).collect();
        let told = self.told.join("\n");
        self.slots.retain(|slot, (queue, lent)| {
            let stays = *lent || there.contains(slot);
            assert!(stays || *queue == 0, "{slot} went with {queue} clients after\n{told}");
            stays
        });
    }

    fn steer(&mut self, split: Split) {
        self.told.push(format!("{split:?}"));
        self.stage.steer(split);
        self.split = split;
        self.forget_closed();
    }

    fn switch(&mut self, dice: &mut Dice) {
        let lent = self.lent();
        let Some(active) = dice.pick(&lent) else { return };
        let candidate = dice.pick(&lent).filter(|slot| *slot != active);
        let share = ["0", "100"][dice.below(2)];
        self.steer(split(active, candidate.map(|slot| (slot, share))));
    }

    fn shut_down(&mut self, dice: &mut Dice) {
        let Some(slot) = dice.pick(&self.lent()) else { return };
        self.told.push(format!("shutdown {slot}"));
        let queue = std::mem::take(&mut self.slots.get_mut(&slot).unwrap().0);
        shutdown(self.stage.worker(slot).as_raw_fd(), Shutdown::Both).unwrap();
        let others: Vec<Slot> = self.slots.keys().copied().filter(|known| *known != slot).collect();
        let there = |slot: Slot| others.contains(&slot).then_some(slot);
        // Where what waited has moved: to whoever receives new ones, or to the other of the two.
        let other = self.split.candidate.and_then(|(candidate, _)| there(candidate));
        match there(self.split.whole()).or(there(self.split.active)).or(other) {
            Some(heir) if self.ebpf() => {
                self.moved += u32::from(queue > 0);
                self.slots.get_mut(&heir).unwrap().0 += queue;
            }
            // The kernel's hash has spread it, or it is reset.
            _ => self.count_again(),
        }
        self.stage.listener.listen().unwrap();
    }

    /// Workers shut their slots down, in any order, and let some of them listen again; then supd sees it.
    fn listen_again(&mut self, dice: &mut Dice) {
        for _ in 0..=dice.below(4) {
            let Some(slot) = dice.pick(&self.lent()) else { return };
            let worker = self.stage.worker(slot);
            let _ = shutdown(worker.as_raw_fd(), Shutdown::Both);
            let listens = dice.below(3) > 0;
            self.told.push(format!("shutdown {slot}{}", if listens { ", listen" } else { "" }));
            if listens {
                sockopt::listen(worker.as_fd(), 4_096).unwrap();
            }
        }
        // A look of its own may come first, or the word that somebody is shut down.
        if dice.below(2) == 0 {
            let _ = self.stage.listener.remind();
        }
        if self.stage.listener.is_shut_down() {
            self.stage.listener.listen().unwrap();
        }
        self.steer(self.split);
        self.count_again();
    }

    /// Takes the queues as they are: where the model cannot say.
    fn count_again(&mut self) {
        for (slot, (queue, _)) in &mut self.slots {
            *queue = self.stage.queue(*slot);
        }
    }

    fn leak(&mut self, dice: &mut Dice) {
        if let Some(slot) = dice.pick(&self.lent()) {
            self.told.push(format!("leak {slot}"));
            self.leaked.push(self.stage.worker(slot));
        }
    }

    /// Whoever has a copy of a slot that is no more listens on it: it is nobody's, and receives nobody.
    fn strange(&mut self, dice: &mut Dice) {
        let ours: Vec<u64> = (0..5).filter_map(|slot| self.stage.listener.socket_of(slot)).collect();
        let strange = |fd: &&OwnedFd| !ours.contains(&sockopt::cookie(fd.as_fd()).unwrap());
        let copies: Vec<&OwnedFd> = self.leaked.iter().filter(strange).collect();
        if let Some(copy) = dice.pick(&copies) {
            self.told.push("a copy listens".to_owned());
            sockopt::set(copy.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).unwrap();
            let _ = sockopt::listen(copy.as_fd(), 64);
        }
    }

    fn serve(&mut self, dice: &mut Dice) {
        let Some(slot) = dice.pick(&self.lent()) else { return };
        self.told.push(format!("serve {slot}"));
        let worker: TcpListener = self.stage.worker(slot).into();
        let queue = &mut self.slots.get_mut(&slot).unwrap().0;
        (0..std::mem::take(queue)).for_each(|_| drop(worker.accept().unwrap()));
    }

    fn connect(&mut self, clients: u32) {
        self.told.push(format!("connect {clients}"));
        let to = place(self.stage.listener.address());
        for _ in 0..clients {
            self.clients.push(TcpStream::connect_timeout(&to, LONG).unwrap());
        }
        let whole = self.split.whole();
        let receives =
            if self.slots.contains_key(&whole) { whole } else { *self.slots.keys().next().unwrap() };
        self.slots.get_mut(&receives).unwrap().0 += clients;
    }

    fn check(&self) {
        let told = self.told.join("\n");
        let mut known: Vec<(Slot, bool)> = self.stage.listener.slots().collect();
        known.sort_unstable();
        let expected: Vec<(Slot, bool)> = self.slots.iter().map(|(slot, (_, lent))| (*slot, *lent)).collect();
        assert_eq!(known, expected, "after\n{told}");
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let queues: Vec<(Slot, u32)> =
                self.slots.keys().map(|slot| (*slot, self.stage.queue(*slot))).collect();
            let expected: Vec<(Slot, u32)> =
                self.slots.iter().map(|(slot, (queue, _))| (*slot, *queue)).collect();
            if queues == expected {
                return;
            }
            assert!(Instant::now() < end, "{queues:?}, not {expected:?}, after\n{told}");
            std::thread::yield_now();
        }
    }
}

#[test]
fn each_client_reaches_whom_the_model_says() {
    both("slots_model::each_client_reaches_whom_the_model_says", || {
        let chosen = std::env::var("SUPD_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
        let seeds = chosen.map_or(1..=SEEDS, |seed| seed..=seed);
        let mut moved = 0;
        for seed in seeds {
            let played = std::panic::catch_unwind(|| {
                let mut world = World::new();
                let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                (0..STEPS).for_each(|_| world.step(&mut dice));
                world.ebpf().then_some(world.moved)
            });
            moved += played
                .unwrap_or_else(|panic| {
                    eprintln!("again with SUPD_SEED={seed}");
                    std::panic::resume_unwind(panic)
                })
                .unwrap_or(MANY);
        }
        // Else nothing was tried of what this is about.
        assert!(chosen.is_some() || moved >= MANY, "a queue moved {moved} time(s) only");
    });
}
