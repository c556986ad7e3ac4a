//! What build/ promises, without any compiler.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::{
    Files, differing,
    ptx::{
        Kernel, TARGETS, Target, file_name, image_list, lower_version,
        manifest::{Manifest, NAME, committed},
        nvcc::Nvcc,
        read_kernels,
    },
};

fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|t| t.name() == name).unwrap()
}

fn ptx(version: &str, arch: &str) -> String {
    format!(
        "//\n// .version of the compiler\n//\n\n.version {version}\n.target sm_{arch}\n.address_size 64\n// .version 9.9\n"
    )
}

/// A folder with two kernels; `assign` includes `tile.cuh`, which includes `common.cuh`.
fn sources() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "assign.cu", "  #  include \"tile.cuh\" // tiles\nint a;\n");
    write(dir.path(), "score.cu", "int s;\n");
    write(dir.path(), "tile.cuh", "#pragma once\n#include \"common.cuh\"\n#include \"tile.cuh\"\n");
    write(dir.path(), "common.cuh", "#include \"tile.cuh\"\nint c;\n");
    write(dir.path(), "other.cuh", "int o;\n");
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::create_dir_all(dir.join("ptx")).unwrap();
    fs::write(dir.join(name), text).unwrap();
}

fn kernels(dir: &Path) -> [Kernel; 2] {
    read_kernels(dir).unwrap().try_into().unwrap()
}

fn hashes(dir: &Path) -> [String; 2] {
    kernels(dir).map(|k| k.hash())
}

/// The same with PTX and manifest committed.
fn with_ptx() -> TempDir {
    let dir = sources();
    let mut manifest = Manifest::new((12, 6));
    for kernel in kernels(dir.path()) {
        let images = TARGETS.map(|t| ptx("6.5", &t.name()));
        for (target, image) in TARGETS.iter().zip(&images) {
            write(&dir.path().join("ptx"), &file_name(&kernel.stem, target), image);
        }
        manifest.insert(&kernel, &images);
    }
    write(&dir.path().join("ptx"), NAME, &manifest.to_string());
    dir
}

fn refusal(dir: &Path) -> String {
    let message = committed(dir, &kernels(dir)[0]).unwrap_err();
    assert!(message.contains("cargo run -p xtask -- ptx"), "{message}");
    message
}

#[test]
fn versions_are_lowered_and_never_raised() {
    for (name, from, to) in [
        ("53", "8.5", "6.5"),
        ("75", "9.0", "6.5"),
        ("80", "8.5", "7.0"),
        ("89", "10.1", "7.8"),
        ("90a", "8.5", "8.0"),
        ("90a", "8.0", "8.0"),
        ("90", "7.8", "7.8"),
        ("80", "6.4", "6.4"),
    ] {
        assert_eq!(lower_version(&ptx(from, name), &target(name)), Ok(ptx(to, name)), "{name} from {from}");
    }
    let first = ptx("8.5", "53").split_off(ptx("8.5", "53").find("\n.version").unwrap() + 1);
    assert!(lower_version(&first, &target("53")).unwrap().starts_with(".version 6.5\n.target sm_53\n"));
}

#[test]
fn ptx_without_a_version_or_for_another_target_is_refused() {
    let none = ptx("8.5", "53").replace("\n.version 8.5", "").replace("// .version 9.9", "");
    assert!(lower_version(&none, &target("53")).unwrap_err().contains("version"));
    assert!(lower_version(&ptx("x", "53"), &target("53")).unwrap_err().contains("version"));
    assert!(lower_version(&ptx("8.5", "90a"), &target("90")).unwrap_err().contains("sm_90"));
    assert!(lower_version(&ptx("8.5", "90"), &target("90a")).unwrap_err().contains("sm_90a"));
    assert!(lower_version(&ptx("8.5", "53, texmode_independent"), &target("53")).is_ok());
}

#[test]
fn hashes_follow_what_is_included_and_nothing_else() {
    let dir = sources();
    let [assign, score] = hashes(dir.path());
    assert_ne!(assign, score);

    write(dir.path(), "other.cuh", "int o2;\n");
    write(dir.path(), "common.cuh", "#include \"tile.cuh\"\r\nint c;\r\n");
    assert_eq!(hashes(dir.path()), [assign.clone(), score.clone()], "a stranger, and line ends alone");

    write(dir.path(), "common.cuh", "#include \"tile.cuh\"\nint c2;\n");
    let [changed, same] = hashes(dir.path());
    assert_ne!(changed, assign, "a header of a header");
    assert_eq!(same, score);

    // Text that moves from one file to the next.
    write(dir.path(), "common.cuh", "#include \"tile.cuh\"\n");
    write(dir.path(), "tile.cuh", "#pragma once\n#include \"common.cuh\"\n#include \"tile.cuh\"\nint c;\n");
    assert_ne!(hashes(dir.path())[0], assign);
}

#[test]
fn kernels_bring_the_headers_they_need_and_no_others() {
    let dir = sources();
    let [assign, score] = kernels(dir.path());
    assert_eq!((assign.stem.as_str(), score.stem.as_str()), ("assign", "score"));
    assert_eq!(assign.headers.keys().collect::<Vec<_>>(), ["common.cuh", "tile.cuh"]);
    assert!(score.headers.is_empty());

    for (text, part) in [
        ("#include \"gone.cuh\"\n", "gone.cuh"),
        ("\n#include <cuda_fp16.h>\n", "score.cu:2"),
        ("#include \"../tile.cuh\"\n", "score.cu:1"),
        ("#include TILE\n", "score.cu:1"),
    ] {
        write(dir.path(), "score.cu", text);
        let message = read_kernels(dir.path()).unwrap_err();
        assert!(message.contains(part), "{message}");
    }
    write(dir.path(), "score.cu", "int s;\n");
    write(dir.path(), "Two-Words.cu", "");
    assert!(read_kernels(dir.path()).unwrap_err().contains("Two-Words.cu"));
}

#[test]
fn a_folder_without_kernels_has_none() {
    assert!(read_kernels(tempfile::tempdir().unwrap().path()).unwrap().is_empty());
}

#[test]
fn committed_ptx_is_taken_while_nothing_changes() {
    let dir = with_ptx();
    for kernel in kernels(dir.path()) {
        assert_eq!(committed(dir.path(), &kernel).unwrap(), TARGETS.map(|t| ptx("6.5", &t.name())));
    }
}

#[test]
fn committed_ptx_is_refused_after_a_change() {
    let dir = with_ptx();
    write(dir.path(), "common.cuh", "int c2;\n");
    let message = refusal(dir.path());
    assert!(message.contains("assign.cu") && message.contains("has changed"), "{message}");
    assert!(committed(dir.path(), &kernels(dir.path())[1]).is_ok(), "score does not include it");
}

#[test]
fn committed_ptx_is_refused_where_files_are_missing_empty_or_altered() {
    let file = |dir: &TempDir, name: &str| dir.path().join("ptx").join(name);

    let dir = with_ptx();
    fs::remove_file(file(&dir, "assign.sm_80.ptx")).unwrap();
    assert!(refusal(dir.path()).contains("assign.sm_80.ptx"));

    fs::write(file(&dir, "assign.sm_80.ptx"), "\n").unwrap();
    assert!(refusal(dir.path()).contains("is empty"));

    fs::write(file(&dir, "assign.sm_80.ptx"), ptx("7.0", "80")).unwrap();
    assert!(refusal(dir.path()).contains("MANIFEST lists"));

    fs::write(file(&dir, NAME), Manifest::new((12, 6)).to_string()).unwrap();
    assert!(refusal(dir.path()).contains("no committed PTX"));

    fs::write(file(&dir, NAME), "assign 12\n").unwrap();
    assert!(refusal(dir.path()).contains("assign 12"));

    fs::remove_file(file(&dir, NAME)).unwrap();
    assert!(refusal(dir.path()).contains(NAME));
}

#[test]
fn manifests_survive_being_read() {
    let dir = with_ptx();
    let text = fs::read_to_string(dir.path().join("ptx").join(NAME)).unwrap();
    assert!(text.contains("\nnvrtc 12.6\nassign "), "{text}");
    assert_eq!(Manifest::parse(&text).unwrap().to_string(), text);
}

#[test]
fn images_are_listed_from_the_newest_to_the_oldest() {
    assert!(TARGETS.windows(2).all(|pair| pair[0] > pair[1]));
    let list = image_list("assign");
    let lines: Vec<&str> = list.lines().filter(|l| l.contains("Image {")).collect();
    assert_eq!(lines.len(), 6);
    let starts = [
        "arch: (9, 0), specific: true",
        "arch: (9, 0), specific: false",
        "arch: (8, 9)",
        "arch: (8, 0)",
        "arch: (7, 5)",
        "arch: (5, 3)",
    ];
    assert!(lines.iter().zip(starts).all(|(line, start)| line.contains(start)), "{list}");
    assert!(lines[0].contains("/assign.sm_90a.ptx") && lines[5].contains("/assign.sm_53.ptx"), "{list}");
    assert!(list.contains("pub(super) static ASSIGN: &[Image] = &[\n"), "{list}");
}

#[test]
fn nvcc_makes_what_it_lists() {
    let makes = |version: &str, archs: &str| {
        let nvcc = Nvcc::new("nvcc".into(), version, archs.to_owned()).unwrap();
        TARGETS.iter().filter(|t| nvcc.makes(t)).map(Target::name).collect::<Vec<_>>()
    };
    let recent = "compute_75\ncompute_80\ncompute_89\ncompute_90\ncompute_100\n";
    assert_eq!(makes("tools, release 13.0, V13.0.88", recent), ["90a", "90", "89", "80", "75"]);
    assert_eq!(makes("tools, release 11.8, V11.8.89", "compute_53\r\ncompute_90\r\n"), ["90", "53"]);
    assert!(Nvcc::new("nvcc".into(), "no such", String::new()).is_err());
}

#[test]
fn a_check_names_files_that_differ_on_either_side() {
    let files = |list: &[(&str, &str)]| -> Files {
        list.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    };
    let new = files(&[("a", "1"), ("b", "2"), ("d", "4")]);
    assert_eq!(differing(&new, &files(&[("a", "1"), ("b", "3"), ("c", "3")])), ["b", "c", "d"]);
    assert!(differing(&new, &new).is_empty());
}
