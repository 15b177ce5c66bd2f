//! What workers say: one socket for each generation, so that a late message of the old never
//! counts for the new; and who of the generation said it.

use super::sources::{Source, Sources};
use crate::model::notice::Notice;
use crate::model::{Generation, UnitName};
use mio::Token;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// The notify sockets that are open.
#[derive(Debug, Default)]
pub struct Notifiers {
    open: BTreeMap<(UnitName, Generation), Notifier>,
}

#[derive(Debug)]
struct Notifier {
    socket: UnixDatagram,
    token: Token,
    path: PathBuf,
}

impl Notifiers {
    /// Opens the socket of a generation, if it is not open.
    ///
    /// # Errors
    /// Why it cannot be, in a sentence.
    pub fn open(
        &mut self,
        unit: &UnitName,
        generation: Generation,
        path: &Path,
        sources: &mut Sources,
    ) -> Result<(), String> {
        let key = (unit.clone(), generation);
        if self.open.contains_key(&key) {
            return Ok(());
        }
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path).map_err(|e| format!("cannot bind {}: {e}", path.display()))?;
        socket.set_nonblocking(true).map_err(|e| e.to_string())?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::PassCred, &true)
            .map_err(|e| e.to_string())?;
        let token =
            sources.watch(&socket, Source::Notify(unit.clone(), generation)).map_err(|e| e.to_string())?;
        self.open.insert(key, Notifier { socket, token, path: path.into() });
        Ok(())
    }

    /// Closes it: no process of the generation is left.
    pub fn close(&mut self, unit: &UnitName, generation: Generation, sources: &mut Sources) {
        if let Some(notifier) = self.open.remove(&(unit.clone(), generation)) {
            sources.unwatch(notifier.token, &notifier.socket);
            let _ = std::fs::remove_file(&notifier.path);
        }
    }

    /// TEMPORARY: what was said, until os/notify is there.
    pub fn hear(&mut self, unit: &UnitName, generation: Generation) -> Vec<(i32, Notice)> {
        let Some(notifier) = self.open.get(&(unit.clone(), generation)) else { return Vec::new() };
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let mut iov = [std::io::IoSliceMut::new(&mut buffer)];
            let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials, [i32; 4]);
            let got = nix::sys::socket::recvmsg::<()>(
                std::os::fd::AsRawFd::as_raw_fd(&notifier.socket),
                &mut iov,
                Some(&mut space),
                nix::sys::socket::MsgFlags::MSG_DONTWAIT | nix::sys::socket::MsgFlags::MSG_CMSG_CLOEXEC,
            );
            let Ok(got) = got else { return said };
            let mut pid = 0;
            for cmsg in got.cmsgs().into_iter().flatten() {
                match cmsg {
                    nix::sys::socket::ControlMessageOwned::ScmCredentials(c) => pid = c.pid(),
                    nix::sys::socket::ControlMessageOwned::ScmRights(fds) => fds.into_iter().for_each(|fd| {
                        let _ = nix::unistd::close(fd);
                    }),
                    _ => {}
                }
            }
            let bytes = got.bytes;
            let text = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            for line in text.lines() {
                let notice = match line.split_once('=') {
                    Some(("READY", "1")) => Notice::Ready,
                    Some(("STOPPING", "1")) => Notice::Stopping,
                    Some(("STATUS", text)) => Notice::Status(text.into()),
                    Some(("WATCHDOG", "1")) => Notice::Watchdog,
                    Some(("RELOADING", "1")) => Notice::Reloading { monotonic_usec: None },
                    _ => continue,
                };
                said.push((pid, notice));
            }
        }
    }
}
