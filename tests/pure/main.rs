//! What can be proven without a kernel: the machine in a fake world of faults, and the tables it
//! decides by.
#![allow(clippy::unwrap_used, reason = "the whole of it is a test")]

mod brain;
mod carried;
mod coverage;
mod driver;
mod exhaustive;
mod hands;
mod knobs;
mod lives;
mod matrix;
mod mood;
mod oracle;
mod print;
mod quarantine;
mod read;
mod rng;
mod scenarios;
mod settle;
mod shrink;
mod sim;
mod simulation;
mod slots;
mod step;
mod stored;
mod story;
mod survivors;
mod world;
mod wrong;
