//! Circles in a directed graph.

use std::collections::{BTreeMap, BTreeSet};

/// The sets of two nodes and more that all reach each other, each in order: the strongly connected components. O(nodes x arrows), which is
/// nothing for the files of a library.
pub(crate) fn circles<'a>(arrows: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Vec<&'a str>> {
    let mut to: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (a, b) in arrows {
        to.entry(a).or_default().insert(b);
        to.entry(b).or_default();
    }
    let reached = |from: &'a str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(node) = open.pop() {
            open.extend(to[node].iter().filter(|next| seen.insert(**next)));
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = to.keys().map(|&node| (node, reached(node))).collect();
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for (&node, ahead) in &reach {
        let circle: Vec<&str> =
            ahead.iter().copied().filter(|other| *other == node || reach[other].contains(node)).collect();
        if circle.len() > 1 && done.insert(circle.clone()) {
            found.push(circle);
        }
    }
    found
}
