//! A line of a file with its checksum in front: `5c2f0a91 {"at":…}`.
//!
//! The checksum is CRC-32 (IEEE 802.3) of the JSON's bytes, in eight hexadecimal digits.

/// A line, its end included.
pub(super) fn seal(json: &str) -> String {
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// The JSON of a line.
///
/// # Errors
/// Why it is not what was written.
pub(super) fn open(line: &[u8]) -> Result<&[u8], &'static str> {
    let line = line.strip_suffix(b"\n").ok_or("its end is missing")?;
    let (sum, json) = match line.split_at_checked(9) {
        Some((sum, json)) if sum[8] == b' ' => (&sum[..8], json),
        Some(_) | None => return Err("it has no checksum"),
    };
    if sum == format!("{:08x}", crc32fast::hash(json)).as_bytes() {
        Ok(json)
    } else {
        Err("its checksum is wrong")
    }
}
