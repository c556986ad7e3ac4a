//! A house of three rooms, and what breaks it.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{HOUSE, House, check, graph::circles};

const SMALL: House = House { rooms: &["cellar", "kitchen", "attic"], upward: &[], circles: &[] };

fn house(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in
        [("lib.rs", "mod attic; mod cellar; mod kitchen; pub use kitchen::stove::Stove;")].iter().chain(files)
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

const CELLAR: (&str, &str) = ("cellar.rs", "pub struct Coal; pub fn light() {}");
const KITCHEN: (&str, &str) = ("kitchen/mod.rs", "pub mod stove; pub mod table; pub use stove::Stove;");
const STOVE: (&str, &str) = ("kitchen/stove.rs", "use crate::cellar::Coal; pub struct Stove(Coal);");
const TABLE: (&str, &str) =
    ("kitchen/table.rs", "use super::Stove; pub fn serve(_: Stove) { crate::cellar::light() }");
const ATTIC: (&str, &str) = ("attic.rs", "use crate::Stove; fn hide(_: Stove) {}");

#[test]
fn a_house_in_order() {
    let dir = house(&[CELLAR, KITCHEN, STOVE, TABLE, ATTIC]);
    let text = check(dir.path(), &SMALL).unwrap().to_string();
    assert!(text.contains("kitchen (3): cellar\nattic (1): kitchen\n"), "{text}");
    assert!(text.ends_with("3 rooms, 5 files, 5 arrows between files, 0 upward (each with its reason), 0 circles inside rooms (each with its reason), 0 circles between rooms"), "{text}");
}

/// However the name is written.
#[test]
fn arrows_upward_are_refused() {
    for cellar in [
        "use crate::kitchen::Stove; pub struct Coal; pub fn light() {}",
        "use crate::kitchen; pub struct Coal; pub fn light() -> kitchen::stove::Stove { loop {} }",
        "pub struct Coal; pub fn light() { crate::kitchen::table::serve() }",
        "pub struct Coal; pub fn light() { use crate::kitchen::{table::serve, stove}; }",
        "pub struct Coal; pub fn light() { vec![crate::kitchen::table::serve()] }",
        "use crate::kitchen::*; pub struct Coal; pub fn light() {}",
        "use super::Stove; pub struct Coal; pub fn light() {}",
    ] {
        let dir = house(&[("cellar.rs", cellar), KITCHEN, STOVE, TABLE, ATTIC]);
        let error = check(dir.path(), &SMALL).unwrap_err();
        assert!(error.contains("src/cellar.rs") && error.contains("which is above cellar"), "{cellar}: {error}");
        assert!(error.contains("out of order"), "{error}");
    }
}

#[test]
fn an_arrow_may_have_a_reason_while_it_is_there() {
    const WITH: House = House { upward: &[("cellar.rs", "kitchen/stove.rs", "warmth")], ..SMALL };
    let cellar = ("cellar.rs", "use crate::kitchen::Stove; pub struct Coal; pub fn light() {}");
    let dir = house(&[cellar, KITCHEN, STOVE, TABLE, ATTIC]);
    assert!(check(dir.path(), &WITH).unwrap().to_string().contains("warmth"));
    let dir = house(&[CELLAR, KITCHEN, STOVE, TABLE, ATTIC]);
    assert!(check(dir.path(), &WITH).unwrap_err().contains("any more"));
}

#[test]
fn tests_may_use_anything() {
    let cellar = (
        "cellar.rs",
        "pub struct Coal; pub fn light() {} #[cfg(test)] mod tests { use crate::kitchen::Stove; } #[cfg(test)] use crate::kitchen::stove;
         impl Coal { #[cfg(test)] fn burn() { crate::kitchen::table::serve() } }",
    );
    let dir = house(&[cellar, KITCHEN, STOVE, TABLE, ATTIC]);
    check(dir.path(), &SMALL).unwrap();
}

#[test]
fn circles_in_a_room_are_refused() {
    let stove = ("kitchen/stove.rs", "use super::table::serve; pub struct Stove;");
    let dir = house(&[CELLAR, KITCHEN, stove, TABLE, ATTIC]);
    let error = check(dir.path(), &SMALL).unwrap_err();
    assert!(error.contains("a circle: kitchen/stove.rs, kitchen/table.rs"), "{error}");
    const WITH: House =
        House { circles: &[(&["kitchen/stove.rs", "kitchen/table.rs"], "they share a wall")], ..SMALL };
    assert!(check(dir.path(), &WITH).unwrap().to_string().contains("a wall"));
}

#[test]
fn rooms_and_files_agree() {
    const LESS: House = House { rooms: &["cellar", "kitchen"], ..SMALL };
    const MORE: House = House { rooms: &["cellar", "kitchen", "attic", "roof"], ..SMALL };
    let dir = house(&[CELLAR, KITCHEN, STOVE, TABLE, ATTIC]);
    assert!(check(dir.path(), &LESS).unwrap_err().contains("no room \"attic\""));
    assert!(check(dir.path(), &MORE).unwrap_err().contains("roof: no such room"));
}

#[test]
fn components() {
    let arrows = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d"), ("f", "a")];
    assert_eq!(circles(arrows.into_iter()), [vec!["a", "b", "c"], vec!["d", "e"]]);
}

/// This library itself.
#[test]
fn the_house_is_in_order() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    if let Err(error) = check(&src, &HOUSE) {
        panic!("{error}");
    }
}
