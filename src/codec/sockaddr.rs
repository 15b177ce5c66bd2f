//! The bytes of a `struct sockaddr` as a program wrote them (bind(2), ip(7), ipv6(7)).

use crate::model::binding::Place;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// No address is longer: `struct sockaddr_storage`.
pub const LENGTH_MAX: usize = 128;

// sa_family_t on Linux, on every architecture.
const UNSPECIFIED: u16 = 0;
const INET: u16 = 2;
const INET6: u16 = 10;

/// What is meant. What is too short, or of another family, is [`Place::Other`]: the kernel answers it.
#[must_use]
pub fn read(bytes: &[u8]) -> Place {
    let Some((family, rest)) = bytes.split_first_chunk::<2>() else { return Place::Other };
    match u16::from_ne_bytes(*family) {
        // AF_UNSPEC of a zeroed structure: bind(2) takes it for 0.0.0.0 (inet_bind of the kernel).
        INET | UNSPECIFIED if bytes.len() >= 16 => ip4(rest),
        INET6 if bytes.len() >= 24 => ip6(rest),
        _ => None,
    }
    .unwrap_or(Place::Other)
}

fn ip4(rest: &[u8]) -> Option<Place> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let host = Ipv4Addr::from(*rest.first_chunk::<4>()?);
    Some(Place::Ip(host.into(), u16::from_be_bytes(*port)))
}

/// Port, flow label, address.
fn ip6(rest: &[u8]) -> Option<Place> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let host = Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?);
    let host = host.to_ipv4_mapped().map_or(IpAddr::V6(host), IpAddr::V4);
    Some(Place::Ip(host, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(number: u16, rest: &[u8]) -> Vec<u8> {
        [number.to_ne_bytes().as_slice(), rest].concat()
    }

    #[test]
    fn ipv4_and_ipv6() {
        let four = family(INET, &[0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(&four), Place::Ip("127.0.0.1".parse().unwrap(), 8080));
        assert_eq!(read(&four[..15]), Place::Other, "cut short");
        let mut six = family(INET6, &[0, 80, 0, 0, 0, 0]);
        six.extend("::1".parse::<Ipv6Addr>().unwrap().octets());
        six.extend([0; 4]);
        assert_eq!(read(&six), Place::Ip("::1".parse().unwrap(), 80));
        assert_eq!(
            read(&six[..24]),
            Place::Ip("::1".parse().unwrap(), 80),
            "without the scope, as in RFC 2133"
        );
        let mut mapped = family(INET6, &[0, 80, 0, 0, 0, 0]);
        mapped.extend("::ffff:10.1.2.3".parse::<Ipv6Addr>().unwrap().octets());
        mapped.extend([0; 4]);
        assert_eq!(read(&mapped), Place::Ip("10.1.2.3".parse().unwrap(), 80));
    }

    #[test]
    fn nothing_panics() {
        for length in 0..=LENGTH_MAX {
            for number in [UNSPECIFIED, 1, INET, INET6, 16, 0xffff] {
                let mut bytes = family(number, &vec![0xff; length]);
                bytes.truncate(length);
                let _ = read(&bytes);
            }
        }
    }
}
