//! What the program says: names that must not reach a terminal as they are, and words that would mislead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::{fs, sync::LazyLock};

use serde_json::Value;
use tempfile::TempDir;

use common::*;

const ROWS: usize = 300;
/// Characters that print, and one of each kind that does not.
#[cfg(target_os = "linux")]
const ODD: &str = "é\u{1b}[31m\u{7f}\u{9b}\u{202e}\u{2066}\u{200b}\u{200f}\u{feff}\u{61c}z";

/// Vectors, queries, and a model.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    write_npy(dir.path().join("base.npy"), "|i1", (ROWS, DIM), &values("base.i8.npy", ROWS));
    write_npy(dir.path().join("queries.npy"), "|i1", (7, DIM), &values("queries.i8.npy", 7));
    text(&dir, "train base.npy -o model.vlc --ratio 40% --decoder off --backend cpu -q");
    text(&dir, "compress base.npy -o a.vlc --model model.vlc --backend cpu -q");
    let ids: String = (0..ROWS).map(|row| format!("doc-{row}\n")).collect();
    fs::write(dir.path().join("ids.txt"), ids).unwrap();
    text(&dir, "compress base.npy -o named.vlc --model model.vlc --ids ids.txt --backend cpu -q");
    Files::of(&dir)
});

fn files() -> TempDir {
    FILES.copy()
}

/// Runs with arguments that may have blanks in them.
#[cfg(target_os = "linux")]
fn run_with(dir: &TempDir, args: &str, more: &[&str]) -> std::process::Output {
    vlc(args).args(more).current_dir(dir).output().unwrap()
}

/// What was printed, once nothing of it could do anything to a terminal.
#[cfg(target_os = "linux")]
#[track_caller]
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let odd: Vec<char> = text.chars().filter(|&c| vlc::text::is_unprintable(c) && c != '\n' && c != '\t').collect();
    assert!(odd.is_empty(), "{odd:?} in {text:?}");
    text
}

/// Nothing odd on either; stdout and stderr.
#[cfg(target_os = "linux")]
#[track_caller]
fn both(output: &std::process::Output, code: i32) -> (String, String) {
    assert_code(output, code);
    (clean(&output.stdout), clean(&output.stderr))
}

/// Not every system has names of files with these characters.
#[cfg(target_os = "linux")]
#[test]
fn names_of_a_file_are_escaped_wherever_they_are_printed() {
    let dir = files();
    let model = format!("m{ODD}.vlc");
    fs::rename(dir.path().join("model.vlc"), dir.path().join(&model)).unwrap();
    fs::write(dir.path().join("odd.txt"), (0..ROWS).map(|row| format!("{ODD}{row}\n")).collect::<String>()).unwrap();
    let meta = format!("k{ODD}={ODD}");
    let store = format!("s{ODD}.vlc");
    let named = ["--model", &model, "--embedding-model", ODD, "--embedding-hash", ODD, "--meta", &meta, "-o", &store];
    let made = run_with(&dir, "compress base.npy --refer --ids odd.txt --backend cpu", &named);
    let (stdout, _) = both(&made, 0);
    assert!(stdout.contains("\\u{1b}[31m\\u{7f}\\u{9b}\\u{202e}\\u{2066}\\u{200b}"), "{stdout}");

    // In JSON too, where the values are what they were.
    let (object, _) = both(&run_with(&dir, "info --json", &[&store]), 0);
    assert!(object.contains("\\u202e") && object.contains("é"), "{object}");
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!((&object["model_file"], &object["embedding"]["name"]), (&model.as_str().into(), &ODD.into()));
    assert_eq!(object["metadata"][&format!("k{ODD}")], ODD);
    assert!(both(&run_with(&dir, "info", &[&store]), 0).0.contains("\\u{202e}"));
    let (object, _) = both(&run_with(&dir, "query --json --backend cpu -k 2", &[&store, "queries.npy"]), 0);
    let object: Value = serde_json::from_str(&object).unwrap();
    assert!(object["ids"][0][0].as_str().unwrap().starts_with(ODD));
    assert!(both(&run_with(&dir, "query --backend cpu", &[&store, "queries.npy"]), 0).0.contains("\\u{feff}"));
    let (object, _) = both(&run_with(&dir, "verify --json", &[&store]), 0);
    assert_eq!(serde_json::from_str::<Value>(&object).unwrap()["file"], store);

    // Errors and remarks.
    let query = ["queries.npy", "--embedding-model", "other"];
    let (_, stderr) = both(&run_with(&dir, "query", &[&[store.as_str()], &query[..]].concat()), 2);
    assert!(stderr.contains("of embedding model é\\u{1b}[31m"), "{stderr}");
    let forced = run_with(&dir, "query --force --backend cpu", &[&[store.as_str()], &query[..]].concat());
    assert!(both(&forced, 0).1.contains("warning"));
    let gone = format!("{ODD}gone");
    assert!(both(&run_with(&dir, "delete", &[&store, &gone]), 0).1.contains("gone"));
    assert!(both(&run_with(&dir, "delete --strict", &[&store, &gone]), 3).1.contains("\\u{202e}"));
    let again = run_with(&dir, "append --ids odd.txt --backend cpu", &[&store, "base.npy"]);
    assert!(both(&again, 3).1.contains("is in the file already"));
    fs::write(dir.path().join("twice.txt"), format!("{ODD}\n").repeat(ROWS)).unwrap();
    let twice = run_with(&dir, "compress base.npy -o x.vlc --ids twice.txt --backend cpu --ratio 40%", &[]);
    assert!(both(&twice, 3).1.contains("\\u{202e}"));
    let numbers = run_with(&dir, "query a.vlc queries.npy --allow odd.txt", &[]);
    assert!(both(&numbers, 3).1.contains("\\u{202e}"));
    assert!(both(&run_with(&dir, "info", &[&format!("none{ODD}")]), 5).1.contains("none"));
    // Said by the parser of the arguments.
    assert!(both(&run_with(&dir, "info a.vlc", &[ODD]), 2).1.contains("\\u{202e}"));
    fs::remove_file(dir.path().join(&model)).unwrap();
    assert!(both(&run_with(&dir, "info", &[&store]), 4).1.contains("needs the model mé\\u{1b}"));
}

#[test]
fn damage_is_told_with_the_name_of_the_file() {
    let dir = files();
    let mut bytes = fs::read(dir.path().join("a.vlc")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(dir.path().join("flipped.vlc"), bytes).unwrap();
    let stderr = assert_fails(&dir, "verify flipped.vlc", 4);
    assert!(stderr.contains("error: flipped.vlc: ") && !stderr.contains("index:"), "{stderr}");
    assert_eq!(text(&dir, "verify a.vlc"), "a.vlc: ok\n");
    assert_eq!(json(&dir, "verify a.vlc")["file"], "a.vlc");
}

#[test]
fn a_ratio_may_be_a_percentage_and_is_no_size() {
    let dir = files();
    let plan =
        |ratio: &str| json(&dir, &format!("compress base.npy -o x.vlc --dry-run --backend cpu --ratio {ratio}"));
    assert_eq!(plan("40%"), plan("0.4"));
    for verb in ["compress base.npy", "train base.npy", "transcode a.vlc"] {
        let stderr = assert_fails(&dir, &format!("{verb} -o x.vlc --ratio 19"), 2);
        assert!(stderr.contains("at most 1") && stderr.contains("--bytes"), "{stderr}");
    }
}

/// As `np.save` has an array of `str`.
fn strings(ids: &[String]) -> Vec<u8> {
    let width = ids.iter().map(String::len).max().unwrap();
    let dict = format!("{{'descr': '<U{width}', 'fortran_order': False, 'shape': ({},), }}", ids.len());
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend_from_slice(format!("{dict:<117}\n").as_bytes());
    for id in ids {
        let chars = id.chars().chain(std::iter::repeat('\0')).take(width);
        bytes.extend(chars.flat_map(|c| u32::from(c).to_le_bytes()));
    }
    bytes
}

#[test]
fn ids_may_be_an_array_of_strings() {
    let dir = files();
    let save = |name: &str, ids: Vec<String>| fs::write(dir.path().join(name), strings(&ids)).unwrap();
    save("ids.npy", (0..ROWS).map(|row| format!("doc-{row}")).collect());
    text(&dir, "compress base.npy -o b.vlc --model model.vlc --ids ids.npy --backend cpu -q");
    let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
    assert!(read("b.vlc") == read("named.vlc"), "ids of an array and of lines differ");
    assert_eq!(json(&dir, "delete b.vlc --ids ids.npy")["deleted"], ROWS);
    // Where the ids of the store are numbers, strings that are some will do.
    save("numbers.npy", vec!["17".into(), "204".into()]);
    assert_eq!(json(&dir, "delete a.vlc --ids numbers.npy")["deleted"], 2);
    save("odd.npy", vec!["18".into(), "018".into()]);
    let stderr = assert_fails(&dir, "delete a.vlc --ids odd.npy", 3);
    assert!(stderr.contains("odd.npy: row 1: ") && stderr.contains("\"018\" is none"), "{stderr}");
}

#[test]
fn a_list_that_names_no_row_is_told() {
    let dir = files();
    fs::write(dir.path().join("blank.txt"), "doc-1 \ndoc-2 \n").unwrap();
    fs::write(dir.path().join("some.txt"), "doc-1\nnone\n").unwrap();
    fs::write(dir.path().join("far.txt"), "1000\n").unwrap();
    fs::write(dir.path().join("empty.txt"), "").unwrap();
    let warned = |args: &str| {
        let output = run(&dir, &format!("query {args} --backend cpu"));
        let stderr = assert_code(&output, 0);
        let lines: Vec<String> = stderr.lines().filter(|l| l.contains("warning")).map(str::to_owned).collect();
        assert!(lines.len() < 2, "{lines:?}");
        lines.concat()
    };
    let said = warned("named.vlc queries.npy --allow blank.txt");
    assert!(said.contains("blank.txt: of its 2 ids (the first is \"doc-1 \") none is in the store"), "{said}");
    assert!(said.contains("nothing can be found"), "{said}");
    assert!(warned("named.vlc queries.npy --deny blank.txt").contains("nothing is left out"));
    assert!(warned("a.vlc queries.npy --allow far.txt").contains("the first is 1000"));
    assert!(warned("named.vlc queries.npy --allow empty.txt").contains("of its 0 ids none"));
    for args in ["--allow some.txt", "--deny some.txt", ""] {
        assert_eq!(warned(&format!("named.vlc queries.npy {args}")), "");
    }
}

#[test]
fn the_rows_of_hits_are_decoded() {
    let dir = files();
    for store in ["a.vlc", "named.vlc"] {
        let ids = |args: &str| -> Vec<String> {
            let listed = text(&dir, &format!("query {store} queries.npy -k 2 --backend cpu {args}"));
            listed.lines().map(|line| line.split('\t').nth(2).unwrap().to_owned()).collect()
        };
        // With rows deleted before them, what `--rows` counts is not what hits are numbered by.
        let first = if store == "a.vlc" { "0 1 2" } else { "doc-0 doc-1 doc-2" };
        json(&dir, &format!("delete {store} {first}"));
        let hits = ids("");
        fs::write(dir.path().join("hits.txt"), hits.join("\n")).unwrap();
        let args = format!("decode {store} -o hits.npy --select hits.txt --ids back.txt");
        assert_eq!(json(&dir, &args)["rows"], 14);
        assert_eq!(fs::read_to_string(dir.path().join("back.txt")).unwrap(), hits.join("\n") + "\n");
        text(&dir, &format!("decode {store} -o all.npy --ids all.txt"));
        let all = floats(&read_npy(dir.path().join("all.npy"), "<f4", (ROWS - 3, DIM)));
        let names: Vec<String> =
            fs::read_to_string(dir.path().join("all.txt")).unwrap().lines().map(str::to_owned).collect();
        let some = floats(&read_npy(dir.path().join("hits.npy"), "<f4", (14, DIM)));
        for (id, row) in hits.iter().zip(some.chunks_exact(DIM)) {
            let place = names.iter().position(|name| name == id).unwrap();
            assert_eq!(row, &all[place * DIM..(place + 1) * DIM], "{id}");
        }
        fs::write(dir.path().join("gone.txt"), format!("{}\n{}\n", first.replace(' ', "\n"), hits[0])).unwrap();
        for output in ["x.npy", "-"] {
            let stderr = assert_fails(&dir, &format!("decode {store} -o {output} --select gone.txt"), 3);
            assert!(stderr.contains(&format!("{store}: 3 of 4 ids are not there: ")), "{stderr}");
        }
        assert_fails(&dir, &format!("decode {store} -o x.npy --select hits.txt --rows 0..3"), 2);
    }
}

#[test]
fn a_swapped_base_is_suspected() {
    let dir = files();
    let warned = |args: &str, code| {
        let stderr = assert_code(&run(&dir, args), code);
        stderr.lines().filter(|l| l.contains("swapped") || l.contains("in place of queries")).count()
    };
    let compress = "--ratio 90% --decoder off --backend cpu --dry-run -o x.vlc";
    assert_eq!(warned(&format!("compress queries.npy --queries base.npy {compress}"), 0), 1);
    assert_eq!(warned(&format!("compress base.npy --queries queries.npy {compress}"), 0), 0);
    assert_eq!(warned("query a.vlc base.npy -k 1 --backend cpu", 0), 1);
    assert_eq!(warned("query a.vlc queries.npy -k 1 --backend cpu", 0), 0);
    assert_eq!(warned("eval a.vlc --base base.npy --queries base.npy --backend cpu", 0), 1);
    assert_eq!(warned("eval a.vlc --base queries.npy --queries base.npy --backend cpu", 3), 1);
    assert_eq!(warned("eval a.vlc --base base.npy --queries queries.npy --backend cpu", 0), 0);
}

/// A bitmap says what a list of its ids says; of 32 bits and of 64, in the portable format.
#[test]
fn roaring_bitmaps_filter_as_lists_do() {
    let dir = files();
    let ids: Vec<u16> = (0..40).map(|i| 7 * i + 3).collect();
    let list: String = ids.iter().map(|id| format!("{id}\n")).collect();
    fs::write(dir.path().join("list.txt"), list).unwrap();
    // A cookie, one container: its key, its size less one, where its values start.
    let mut short = [12_346u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
    short.extend([0u16, ids.len() as u16 - 1].iter().flat_map(|v| v.to_le_bytes()));
    short.extend(16u32.to_le_bytes());
    short.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    fs::write(dir.path().join("short.roaring"), &short).unwrap();
    // One such bitmap for the upper half 0.
    let long = [&1u64.to_le_bytes()[..], &0u32.to_le_bytes(), &short].concat();
    fs::write(dir.path().join("long.roaring"), long).unwrap();
    for option in ["--allow", "--deny"] {
        let found = |filter: &str| {
            let answer = json(&dir, &format!("query a.vlc queries.npy -k 5 --backend cpu {option} {filter}"));
            (answer["ids"].clone(), answer["scores"].clone())
        };
        let expected = found("list.txt");
        let hits: Vec<Vec<u16>> = serde_json::from_value(expected.0.clone()).unwrap();
        assert!(hits.iter().flatten().all(|id| ids.contains(id) == (option == "--allow")));
        assert!(["short.roaring", "long.roaring"].iter().all(|bitmap| found(bitmap) == expected), "{option}");
    }
    fs::write(dir.path().join("wrong.roaring"), b"no bitmap").unwrap();
    assert!(assert_fails(&dir, "query a.vlc queries.npy --allow wrong.roaring", 3).contains("not a roaring bitmap"));
    // Strings are not numbers.
    assert_fails(&dir, "query named.vlc queries.npy --allow short.roaring", 2);
}
