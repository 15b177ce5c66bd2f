//! Descriptors that travel beside what [`crate::model::kept`] says of them, each known by its place.

use super::Error;
use crate::model::kept::At;
use nix::errno::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Those that are to be given to another supd.
#[derive(Debug, Default)]
pub struct Giving<'a>(Vec<BorrowedFd<'a>>);

impl<'a> Giving<'a> {
    /// One more. Gives its place.
    pub fn put(&mut self, fd: BorrowedFd<'a>) -> At {
        self.0.push(fd);
        At::try_from(self.0.len() - 1).unwrap_or(At::MAX)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[BorrowedFd<'a>] {
        &self.0
    }
}

/// Those that came from another supd. What nobody takes is closed.
#[derive(Debug, Default)]
pub struct Given(Vec<Option<OwnedFd>>);

impl Given {
    /// As they came.
    #[must_use]
    pub fn new(all: Vec<Option<OwnedFd>>) -> Self {
        Self(all)
    }

    /// The one at this place.
    ///
    /// # Errors
    /// EBADF: there is none, or it was taken already.
    pub fn take(&mut self, at: At) -> Result<OwnedFd, Error> {
        let place = usize::try_from(at).ok().and_then(|at| self.0.get_mut(at));
        place
            .and_then(Option::take)
            .ok_or_else(|| Error::new("find", format!("descriptor {at}"), Errno::EBADF))
    }
}
