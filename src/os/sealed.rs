//! Memory with a descriptor, which nobody can change any more: memfd_create(2), and F_ADD_SEALS of fcntl(2).

use super::Error;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// These bytes in memory (memfd_create(2)), which nobody can change any more.
///
/// # Errors
/// Out of memory or descriptors.
pub fn seal(name: &str, bytes: &[u8]) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| Error::new("make", name, errno);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags).map_err(failed)?);
    file.write_all(bytes).map_err(|error| Error::from_io("write", name, &error))?;
    io::Seek::rewind(&mut file).map_err(|error| Error::from_io("rewind", name, &error))?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals())).map_err(failed)?;
    Ok(file.into())
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// What was sealed.
///
/// # Errors
/// Why it is not that: no memfd, not sealed, longer than `most` bytes.
pub fn unseal(file: &File, most: u64) -> Result<Vec<u8>, String> {
    let found = fcntl(file, FcntlArg::F_GET_SEALS).map_err(|errno| match errno {
        Errno::EINVAL => "it is no memfd".to_owned(),
        errno => errno.desc().to_owned(),
    })?;
    if !SealFlag::from_bits_truncate(found).contains(seals()) {
        return Err("it is not sealed".to_owned());
    }
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length > most {
        return Err(format!("it has {length} bytes, more than {most}"));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0).map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_and_nothing_else_is() {
        let sealed = File::from(seal("a test", b"state").unwrap());
        assert_eq!(unseal(&sealed, 5), Ok(b"state".to_vec()));
        assert!(unseal(&sealed, 4).unwrap_err().contains("5 bytes"));
        assert!((&sealed).write_all(b"x").is_err(), "nobody changes it");
        assert!(sealed.set_len(0).is_err());
        let open = File::from(memfd_create("a test", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        assert_eq!(unseal(&open, 9), Err("it is not sealed".to_owned()));
        assert_eq!(unseal(&File::open("/proc/self/exe").unwrap(), 9), Err("it is no memfd".to_owned()));
    }
}
