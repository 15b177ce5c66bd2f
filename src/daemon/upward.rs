//! What supd tells whoever started it (sd_notify(3)). Nobody may be there to hear it.

use sd_notify::NotifyState;

/// Every unit is known, and those that should serve are being launched.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// The unit files are being read again; [`ready`] follows.
pub fn reloading() {
    // Type=notify-reload of systemd wants to see that this is no old message.
    if let Ok(stamp) = NotifyState::monotonic_usec_now() {
        let _ = sd_notify::notify(&[NotifyState::Reloading, stamp]);
    }
}

/// The units are being stopped.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// One line for people.
pub fn status(text: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(text)]);
}
