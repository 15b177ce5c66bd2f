//! Perl's IO::Socket::INET: one process, one connection after the other.

use super::{WRK, walk};
use crate::{Need, Test, test_with};

const NEEDS: &[Need] = &[WRK, Need::Program("perl", "perl")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::intercept::perl", NEEDS, perl)]
}

fn perl() {
    walk("perl", "http.pl");
}
