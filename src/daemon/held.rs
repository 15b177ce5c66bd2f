//! One process of a worker, watched for its end.

use super::sources::Sources;
use crate::model::WorkerExit;
use crate::os::pidfd::{PidFd, Wait};
use mio::Token;

/// A process that is watched.
#[derive(Debug)]
pub(super) struct Held {
    /// By its pidfd.
    pub(super) process: PidFd,
    /// `None`: it has ended and is reaped.
    pub(super) token: Option<Token>,
}

impl Held {
    /// How it ended, if it did just now; it is reaped by that.
    pub(super) fn end(&mut self, sources: &mut Sources) -> Option<WorkerExit> {
        let token = self.token?;
        let exit = match self.process.wait() {
            Ok(Wait::Running) => return None,
            Ok(Wait::Exited(exit)) => exit,
            // Its descriptor says nothing a second time.
            Ok(Wait::Unreaped) | Err(_) => WorkerExit::Unknown,
        };
        sources.unwatch(token, &self.process);
        self.token = None;
        Some(exit)
    }

    /// Nobody waits for its end any more.
    pub(super) fn unwatch(self, sources: &mut Sources) {
        if let Some(token) = self.token {
            sources.unwatch(token, &self.process);
        }
    }
}
