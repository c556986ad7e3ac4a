//! The order of the rooms of `src/`: a file imports from its own room and from rooms below it.

mod graph;
mod names;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use graph::circles;
use names::{Arrow, arrows};

/// What is allowed.
#[derive(Debug)]
pub(crate) struct House {
    /// The rooms, from the ground up: files at the root of `src/` and its folders.
    pub(crate) rooms: &'static [&'static str],
    /// Arrows upward that stay, from file to file, with the reason.
    pub(crate) upward: &'static [(&'static str, &'static str, &'static str)],
    /// Files of one room that need each other, with the reason.
    pub(crate) circles: &'static [(&'static [&'static str], &'static str)],
}

/// The house, as ARCHITECTURE.md describes it.
pub(crate) const HOUSE: House = House {
    rooms: &[
        "platform",
        "escape",
        "backend",
        "error",
        "ids",
        "matrix",
        "math",
        "model",
        "neighbors",
        "report",
        "embedding",
        "format",
        "file",
        "read",
        "config",
        "ops",
        "encode",
        "search",
        "train",
        "timing",
        "refine",
        "learned",
        "index",
        "compress",
        "store",
    ],
    upward: &[],
    circles: &[
        (
            &["ops/cuda/buffer.rs", "ops/cuda/device.rs", "ops/cuda/launch.rs"],
            "a device makes buffers and launches kernels on them; a buffer goes back to its device when dropped",
        ),
        (
            &["ops/wgpu/device.rs", "ops/wgpu/kernel.rs", "ops/wgpu/pace.rs"],
            "a device keeps the pipelines of its kernels and the pace of their launches; a kernel is launched on a device",
        ),
    ],
};

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Of each room its name, how many files it has, and the rooms it imports from.
    rooms: Vec<(String, usize, BTreeSet<String>)>,
    arrows: usize,
    upward: Vec<(String, &'static str)>,
    circles: Vec<(Vec<String>, &'static str)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, files, below) in &self.rooms {
            let below: Vec<&str> = below.iter().map(String::as_str).collect();
            writeln!(f, "{name} ({files}): {}", below.join(" "))?;
        }
        for (arrow, reason) in &self.upward {
            writeln!(f, "upward, allowed: {arrow}: {reason}")?;
        }
        for (files, reason) in &self.circles {
            writeln!(f, "circle, allowed: {}: {reason}", files.join(", "))?;
        }
        let files: usize = self.rooms.iter().map(|room| room.1).sum();
        write!(
            f,
            "rooms: {} rooms, {files} files, {} arrows between files, {} upward (each with its reason), {} circles inside rooms \
             (each with its reason), 0 circles between rooms",
            self.rooms.len(),
            self.arrows,
            self.upward.len(),
            self.circles.len()
        )
    }
}

/// Reads all files below `src` and holds their imports against the house; what breaks its rules is the error.
pub(crate) fn check(src: &Path, house: &House) -> Result<Report, String> {
    let found = arrows(src)?;
    let mut wrong = Vec::new();
    let number = |room: &str| house.rooms.iter().position(|name| *name == room);
    let mut rooms: BTreeMap<&str, (usize, BTreeSet<String>)> = BTreeMap::new();
    for file in &found.files {
        let room = room_of(file);
        if number(room).is_none() {
            wrong.push(format!("src/{file}: there is no room {room:?} in HOUSE (crates/xtask/src/rooms/mod.rs)"));
        }
        rooms.entry(room).or_default().0 += 1;
    }
    wrong.extend(
        house.rooms.iter().filter(|room| !rooms.contains_key(*room)).map(|room| format!("{room}: no such room")),
    );

    let mut upward = Vec::new();
    let mut used = BTreeSet::new();
    for Arrow { from, to, line, name } in &found.arrows {
        let (above, below) = (room_of(from), room_of(to));
        if above == below {
            continue;
        }
        if let Some((_, rooms)) = rooms.get_mut(above) {
            rooms.insert(below.to_owned());
        }
        if number(above) >= number(below) {
            continue;
        }
        let arrow = format!("src/{from}:{line} imports {name} of src/{to}");
        match house.upward.iter().find(|(a, b, _)| (*a, *b) == (from.as_str(), to.as_str())) {
            Some((a, b, reason)) => {
                used.insert((*a, *b));
                upward.push((arrow, *reason));
            }
            None => wrong.push(format!("{arrow}, of the room {below}, which is above {above}")),
        }
    }
    wrong.extend(
        (house.upward.iter().filter(|(a, b, _)| !used.contains(&(*a, *b))))
            .map(|(a, b, _)| format!("src/{a} does not import from src/{b} any more: take it out of HOUSE")),
    );

    let inside = |a: &str, b: &str| room_of(a) == room_of(b);
    let mut allowed = Vec::new();
    let edges = found.arrows.iter().filter(|arrow| inside(&arrow.from, &arrow.to));
    for circle in circles(edges.map(|arrow| (arrow.from.as_str(), arrow.to.as_str()))) {
        match house.circles.iter().find(|(files, _)| **files == circle) {
            Some((_, reason)) => allowed.push((circle.iter().map(|&file| file.to_owned()).collect(), *reason)),
            None => {
                let of =
                    |arrow: &&Arrow| circle.contains(&arrow.from.as_str()) && circle.contains(&arrow.to.as_str());
                let arrows = found.arrows.iter().filter(of);
                let lines =
                    arrows.map(|a| format!("\n  src/{}:{} imports {} of src/{}", a.from, a.line, a.name, a.to));
                wrong.push(format!("a circle: {}{}", circle.join(", "), lines.collect::<String>()));
            }
        }
    }
    if allowed.len() < house.circles.len() {
        wrong.push("a circle that HOUSE allows is not there any more: take it out".into());
    }
    if !wrong.is_empty() {
        return Err(format!("{}\nrooms: {} things are out of order", wrong.join("\n"), wrong.len()));
    }
    let order = |room: &&str| {
        let (files, below) = rooms.remove(*room)?;
        Some(((*room).to_owned(), files, below))
    };
    let arrows = found.arrows.iter().map(|arrow| (&arrow.from, &arrow.to)).collect::<BTreeSet<_>>().len();
    Ok(Report { rooms: house.rooms.iter().filter_map(order).collect(), arrows, upward, circles: allowed })
}

/// The room of a file below `src/`: its folder there, or itself.
fn room_of(file: &str) -> &str {
    file.split_once('/').map_or_else(|| file.trim_end_matches(".rs"), |(folder, _)| folder)
}
