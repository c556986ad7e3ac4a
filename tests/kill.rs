//! Writers that are killed at any moment: the store holds what it did before the change they were in, or what it was to hold after it, and
//! whoever opens it next finds nothing else in its folder.
//!
//! 40 kills; `VLC_KILLS=300` for more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use vlc::{Config, EncodeOptions, Ids, Index, Mat, Metric, Store, compress_to};

use common::{Random, clustered, config, listing};

const DIM: usize = 8;
/// Rows of a fresh store; one that changes has up to four times as many.
const ROWS: u64 = 60;
/// The key under which a store says which run of `compress` it is of.
const RUN: &str = "run";

/// What a store holds: which run it is of, and the ids of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    run: u64,
    ids: BTreeSet<u64>,
}

impl State {
    fn fresh(run: u64) -> State {
        State { run, ids: (0..ROWS).map(|i| run * 10_000 + i).collect() }
    }

    fn to_line(&self) -> String {
        let ids: Vec<String> = self.ids.iter().map(u64::to_string).collect();
        format!("{} {}", self.run, ids.join(" "))
    }

    fn of_line(line: &str) -> State {
        let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap());
        State { run: numbers.next().unwrap(), ids: numbers.collect() }
    }

    /// Ids as the store has them: every other run has text.
    fn named(&self, ids: &BTreeSet<u64>) -> Ids {
        if self.run.is_multiple_of(2) {
            ids.iter().copied().collect()
        } else {
            ids.iter().map(|id| format!("row {id}")).collect()
        }
    }
}

/// The row with an id, always the same.
fn rows_of(ids: &BTreeSet<u64>) -> Mat {
    let all = clustered(3, 997, DIM);
    let values = ids.iter().flat_map(|id| all.row((id % 997) as usize).to_vec()).collect();
    Mat::new(values, ids.len(), DIM).unwrap()
}

fn compress(path: &Path, state: &State) {
    let ids = state.named(&state.ids);
    let mut settings = Config { ids: Some(&ids), seed: state.run, ..config(Metric::Cosine, 1.5) };
    settings.metadata = [(RUN.to_string(), state.run.to_string())].into();
    compress_to(&rows_of(&state.ids).view(), path, &settings).unwrap();
}

/// Which run a store is of, and the decoded values of each row by its id.
fn contents(index: &Index<impl AsRef<[u8]>>) -> (State, BTreeMap<u64, Vec<u32>>) {
    index.verify().unwrap();
    let n = index.len();
    let ids: Vec<u64> = match index.ids(0..n).unwrap() {
        Ids::Numbers(ids) => ids,
        Ids::Text(ids) => ids.iter().map(|id| id.strip_prefix("row ").unwrap().parse().unwrap()).collect(),
    };
    let decoded = index.decode(0..n).unwrap();
    let rows: BTreeMap<u64, Vec<u32>> =
        ids.iter().zip(0..).map(|(&id, i)| (id, decoded.row(i).iter().map(|v| v.to_bits()).collect())).collect();
    assert_eq!(rows.len(), n, "an id stands twice");
    let run = index.info().metadata[RUN].parse().unwrap();
    (State { run, ids: rows.keys().copied().collect() }, rows)
}

/// Tells the parent, at once.
fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    // The test runner may have left a line open.
    out.write_all(format!("\n{what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// What a process that is to be killed does; run by the test below in another process. Changes follow each other until then.
#[test]
fn writer() {
    let Ok(path) = std::env::var("VLC_WRITER_OF") else { return };
    let path = Path::new(&path);
    let mut random = Random(std::env::var("VLC_WRITER_SEED").unwrap().parse().unwrap());
    let mut now = contents(&Index::open(path).unwrap()).0;
    let mut store = None;
    let mut next = now.ids.last().map_or(now.run * 10_000, |last| last + 1);
    loop {
        let mut to = now.clone();
        let what = random.below(if now.ids.len() as u64 > 3 * ROWS { 13 } else { 10 });
        let (mut new, mut gone) = (BTreeSet::new(), BTreeSet::new());
        match what {
            0 => to = State::fresh(now.run + 1),
            1 => {}
            2..=5 => {
                new = (next..next + [1, 2, 7, 30][random.below(4)]).collect();
                to.ids.extend(&new);
            }
            _ => {
                let share = 2 + random.below(20);
                gone = now.ids.iter().copied().filter(|_| random.below(share) == 0).collect();
                to.ids.retain(|id| !gone.contains(id));
            }
        }
        say(&format!("to {}", to.to_line()));
        if what == 0 {
            store = None;
            compress(path, &to);
            next = (to.run * 10_000) + ROWS;
        } else {
            if store.is_none() || random.below(8) == 0 {
                drop(store.take());
                store = Some(Store::open(path).unwrap());
            }
            let store = store.as_mut().unwrap();
            if what == 1 {
                store.compact().unwrap();
            } else if !new.is_empty() {
                next += new.len() as u64;
                let ids = now.named(&new);
                let options = EncodeOptions { ids: Some(&ids), ..EncodeOptions::default() };
                store.append(&rows_of(&new).view(), &options).unwrap();
            } else {
                assert_eq!(store.delete(&now.named(&gone)).unwrap().deleted, gone.len() as u64);
            }
        }
        say("done");
        now = to;
    }
}

/// What a killed writer said: the state it last left, and the one it was on its way to.
fn killed(path: &Path, seed: u64, random: &mut Random) -> (Option<State>, Option<State>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env("VLC_WRITER_OF", path)
        .env("VLC_WRITER_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (started, first) = mpsc::channel();
    let listener = std::thread::spawn(move || {
        let (mut last, mut going, mut line) = (None, None, String::new());
        // A line that is cut off was not followed by what it says.
        while out.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            if let Some(state) = line.strip_prefix("to ") {
                going = Some(State::of_line(state));
                let _ = started.send(());
            } else if line == "done\n" {
                last = going.take();
            }
            line.clear();
        }
        (last, going)
    });
    first.recv().expect("the writer ended before it wrote");
    // Some changes take a fraction of a millisecond, others tens of them.
    let most = [300, 3000, 30_000, 150_000][random.below(4)];
    std::thread::sleep(Duration::from_micros(random.below(most) as u64));
    child.kill().unwrap();
    let status = child.wait().unwrap();
    #[cfg(unix)]
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "it ended by itself: {status}");
    assert!(!status.success());
    listener.join().unwrap()
}

#[test]
fn a_killed_writer_leaves_what_was_or_what_was_to_be() {
    let kills = std::env::var("VLC_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.vlc");
    let mut random = Random(11);
    let mut now = State::fresh(0);
    compress(&path, &now);
    let mut known: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    let (mut between, mut before, mut after, mut litter, mut tails) = (0, 0, 0, 0, 0);
    for kill in 0..kills {
        let (last, going) = killed(&path, kill, &mut random);
        litter += usize::from(listing(folder.path()).len() > 1);
        let bytes = fs::metadata(&path).unwrap().len();
        // Readers and writers alike clear away what is left.
        let (found, rows) = if kill % 2 == 0 {
            let index = Index::open(&path).unwrap();
            tails += usize::from(bytes > index.bytes().len() as u64);
            contents(&index)
        } else {
            let store = Store::open(&path).unwrap();
            contents(&store.index().unwrap())
        };
        if cfg!(unix) {
            assert_eq!(listing(folder.path()), std::slice::from_ref(&path), "kill {kill}");
        }
        let was = last.unwrap_or(now.clone());
        match going {
            Some(to) if found == to && to != was => after += 1,
            Some(to) => {
                assert!(found == was, "kill {kill}: {found:?}\nneither {was:?}\nnor {to:?}");
                before += 1;
            }
            None => {
                assert!(found == was, "kill {kill}: {found:?}\ninstead of {was:?}");
                between += 1;
            }
        }
        // A row keeps its values for as long as the store is of one run.
        if found.run != now.run {
            known.clear();
        }
        known.retain(|id, _| found.ids.contains(id));
        for (id, row) in rows {
            assert_eq!(known.entry(id).or_insert_with(|| row.clone()), &row, "kill {kill}: row {id}");
        }
        now = found;
    }
    println!(
        "{kills} kills: {between} between changes, {before} before a change was there, {after} after; files left over {litter} times, \
         bytes behind the commit at least {tails} times; run {}, {} rows",
        now.run,
        now.ids.len()
    );
    assert!(before + after > kills as usize / 3, "{before} + {after} of {kills} kills hit a change");
    // The store lives on.
    let one: BTreeSet<u64> = [now.ids.last().map_or(0, |last| last + 1)].into();
    let ids = now.named(&one);
    let options = EncodeOptions { ids: Some(&ids), ..EncodeOptions::default() };
    Store::open(&path).unwrap().append(&rows_of(&one).view(), &options).unwrap();
    now.ids.extend(one);
    assert_eq!(contents(&Index::open(&path).unwrap()).0, now);
}
