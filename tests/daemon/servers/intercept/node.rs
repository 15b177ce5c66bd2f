//! Node.js, plain and as a cluster, whose primary binds and shares out what comes; or, where its workers are
//! to accept by themselves, hands them the socket, on which each of them calls listen(2).

use super::{WRK, put, unit, walk};
use crate::servers::warm::Walk;
use crate::{Need, Test, test_with};
use std::path::Path;

const NEEDS: &[Need] = &[WRK, Need::Program("node", "nodejs")];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::intercept::node", NEEDS, plain),
        test_with("servers::intercept::node::cluster", NEEDS, cluster),
        test_with("servers::intercept::node::cluster_that_accepts", NEEDS, accepting),
    ]
}

fn plain() {
    walk("node", "server.js");
}

fn cluster() {
    let unit = |address: &str, _: &Path| unit(address, &["node", "cluster.js"]);
    let dist = |dist: &Path, address| put(dist, "cluster.js", address, &[]);
    Walk::http("node, a cluster", &unit, &dist).to_and_fro();
}

fn accepting() {
    let own = "[Service]\nEnvironment = { NODE_CLUSTER_SCHED_POLICY = \"none\" }\n";
    let unit = |address: &str, _: &Path| unit(address, &["node", "cluster.js"]).replace("[Service]\n", own);
    let dist = |dist: &Path, address| put(dist, "cluster.js", address, &[]);
    Walk::http("node, a cluster whose workers accept", &unit, &dist).to_and_fro();
}
