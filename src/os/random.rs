//! Random numbers, from the kernel.

use super::Error;
use nix::errno::Errno;
use nix::libc;
use std::fmt::Write as _;

/// 128 random bits as 32 hexadecimal digits: INVOCATION_ID, as systemd writes it.
///
/// # Errors
/// None after the machine has booted; before, EAGAIN rather than a wait for entropy.
#[allow(unsafe_code, reason = "getrandom(2) has no wrapper")]
pub fn id128() -> Result<String, Error> {
    let mut bytes = [0u8; 16];
    // SAFETY: writes at most the length that it is given. Up to 256 bytes come whole.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    match Errno::result(got) {
        Ok(16) => {}
        Ok(_) => return Err(Error::new("draw", "random bytes", Errno::EIO)),
        Err(errno) => return Err(Error::new("draw", "random bytes", errno)),
    }
    // Marked as a random UUID, as sd_id128_randomize(3) does.
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Ok(bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_are_never_the_same() {
        let (first, second) = (super::id128().unwrap(), super::id128().unwrap());
        assert!(first.len() == 32 && first.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(first.as_bytes()[12], b'4');
        assert_ne!(first, second);
    }
}
