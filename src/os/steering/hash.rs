//! Which client gets to whom, where one client always gets to the same: one function, written three
//! times, here and for both kinds of BPF.

use crate::model::Share;
use std::net::{IpAddr, SocketAddr};

/// What each word of an address is multiplied by (FNV's prime): a bijection of the word.
pub(super) const FOLD: u32 = 0x0100_0193;
/// The end of MurmurHash3 (fmix32), so that neighbours are strangers: shift, factor.
pub(super) const FIRST: (u32, u32) = (16, 0x85eb_ca6b);
/// See [`FIRST`].
pub(super) const SECOND: (u32, u32) = (13, 0xc2b2_ae35);
/// See [`FIRST`].
pub(super) const LAST: u32 = 16;

/// One more word of an address.
pub(super) const fn fold(hash: u32, word: u32) -> u32 {
    (hash ^ word).wrapping_mul(FOLD)
}

/// The words of an address as all three count them: IPv4 as IPv6 writes it, `::ffff:a.b.c.d`.
pub(super) fn words(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let word = |n: usize| u32::from_be_bytes([octets[n], octets[n + 1], octets[n + 2], octets[n + 3]]);
    [word(0), word(4), word(8), word(12)]
}

/// A number from 0 to 9,999 for a client: below the share, it is the candidate's. As the share grows
/// nobody flips back.
#[must_use]
pub fn draw(client: SocketAddr, by_port: bool, salt: u32) -> u16 {
    let hash = words(client.ip()).into_iter().fold(salt, fold);
    let mut hash = if by_port { fold(hash, u32::from(client.port())) } else { hash };
    for (shift, factor) in [FIRST, SECOND] {
        hash ^= hash >> shift;
        hash = hash.wrapping_mul(factor);
    }
    hash ^= hash >> LAST;
    u16::try_from(hash % u32::from(Share::PARTS)).expect("less than the parts")
}

#[cfg(test)]
mod tests {
    use super::draw;
    use std::net::SocketAddr;

    #[test]
    fn neighbours_are_spread_evenly_and_anew_for_each_salt() {
        let clients: Vec<SocketAddr> = (0..=255_u8)
            .flat_map(|c| (0..=255_u8).map(move |d| SocketAddr::from(([10, 1, c, d], 40_000))))
            .collect();
        for salt in [0, 1, 0xdead_beef] {
            let below = clients.iter().filter(|client| draw(**client, false, salt) < 500).count();
            // 5 % of 65,536 are 3,277; the standard deviation is 56.
            assert!((3_050..3_500).contains(&below), "{below} with salt {salt}");
        }
        let both = clients.iter().filter(|c| draw(**c, false, 1) < 5_000 && draw(**c, false, 2) < 5_000);
        let both = both.count();
        assert!((15_600..17_200).contains(&both), "a quarter: {both}");
    }

    #[test]
    fn the_port_counts_only_where_it_should() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert!((1..100).all(|port| draw(at(port), false, 5) == draw(at(0), false, 5)));
        assert!((1..100).any(|port| draw(at(port), true, 5) != draw(at(0), true, 5)));
        // IPv4 at a socket for both is the same client.
        let mapped: SocketAddr = "[::ffff:127.0.0.1]:9".parse().unwrap();
        assert_eq!(draw(mapped, true, 5), draw(at(9), true, 5));
    }
}
