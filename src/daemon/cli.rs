//! supd's command line.

use crate::os::places::Given;
use clap::Parser;
use log::LevelFilter;
use std::path::PathBuf;

/// Owns your ports: a new release takes over, the old one comes back, without one request lost.
#[derive(Debug, Parser)]
#[command(name = "supd", version, about, long_about = None)]
pub struct Cli {
    /// Folder of unit files [default: /etc/supd/units, then /usr/lib/supd/units]
    #[arg(long, value_name = "DIR", env = "SUPD_UNITS")]
    pub units: Option<PathBuf>,
    /// Folder of sockets, intents and the lock [default: /run/supd]
    #[arg(long, value_name = "DIR", env = "SUPD_RUNTIME")]
    pub runtime: Option<PathBuf>,
    /// Folder of the ledger and of pinned programs [default: /var/lib/supd]
    #[arg(long, value_name = "DIR", env = "SUPD_STATE")]
    pub state: Option<PathBuf>,
    /// How much to say: error, warn, info, debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LevelFilter,
}

impl Cli {
    /// The places of the flags.
    #[must_use]
    pub fn given(&self) -> Given {
        Given { units: self.units.clone(), runtime: self.runtime.clone(), state: self.state.clone() }
    }
}
