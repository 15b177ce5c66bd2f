//! On whose behalf supd does what it does.

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The user id of the client, by the kernel's word.
    pub uid: u32,
    /// Who logged in, to become that user later (audit(7)); `None`: nobody did, or it is not known.
    pub login_uid: Option<u32>,
    /// The verb, as `swap`.
    pub verb: String,
    /// Why, in that person's words.
    pub reason: Option<String>,
    /// The request's own name, by which a repetition is known.
    pub request_id: Option<String>,
}
