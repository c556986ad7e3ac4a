//! What the program says of devices, and how it takes the choice of one; with and without GPUs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{path::Path, process::Command};

use serde_json::Value;

/// What a run printed and the code it ended with.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn vlc(args: &str) -> Ran {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/docs-minilm-384-5k");
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("vlc"));
    let output = command.args(args.split_whitespace()).env("NO_COLOR", "1").current_dir(data).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Succeeds; the object it prints, and nothing beside it.
#[track_caller]
fn json(args: &str) -> Value {
    let ran = vlc(&format!("{args} --json"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&ran.stdout).expect("one JSON object on stdout")
}

/// Fails with this code and prints no data; what it says.
#[track_caller]
fn fails(args: &str, code: i32) -> String {
    let ran = vlc(args);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: "), "{}", ran.stderr);
    ran.stderr
}

fn devices() -> Vec<Value> {
    json("devices")["devices"].as_array().unwrap().clone()
}

/// Each GPU backend of which nothing is there, with the reason that `vlc devices` gives.
fn missing() -> Vec<(String, String)> {
    let devices = devices();
    let there = |backend: &Value| devices.iter().any(|d| d["backend"] == *backend && d["available"] == true);
    let absent = devices.iter().filter(|d| !there(&d["backend"]));
    absent.map(|d| (d["backend"].as_str().unwrap().into(), d["detail"].as_str().unwrap().into())).collect()
}

#[test]
fn devices_are_listed_with_number_and_memory() {
    let devices = devices();
    for device in &devices {
        for field in ["backend", "number", "name", "available", "software", "memory_bytes", "detail"] {
            assert!(device.get(field).is_some(), "{field} is missing in {device}");
        }
        if device["available"] == true && device["backend"] != "cpu" {
            assert!(device["number"].is_u64(), "{device}");
        }
        assert!(device["backend"] == "wgpu" || device["software"] == false, "{device}");
    }
    assert_eq!((&devices[0]["backend"], &devices[0]["available"]), (&"cpu".into(), &true.into()));
    assert!(devices[0]["number"].is_null() && devices[0]["memory_bytes"].is_null());
    let text = vlc("devices").stdout;
    let header: Vec<&str> = text.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["backend", "number", "available", "device", "memory", "detail"]);
}

#[test]
fn health_is_told_of_what_is_there() {
    let cpu = json("health --backend cpu");
    let cpu = &cpu["devices"][0];
    assert_eq!((&cpu["backend"], &cpu["ok"], &cpu["error"]), (&"cpu".into(), &true.into(), &Value::Null));
    for field in ["memory_total_bytes", "memory_free_bytes", "last_error"] {
        assert_eq!(cpu.get(field), Some(&Value::Null), "{field}");
    }
    for field in ["memory_resident_bytes", "memory_peak_bytes", "buffers", "leaked_buffers"] {
        assert_eq!(cpu[field], 0, "{field}");
    }
    let available = devices().iter().filter(|d| d["available"] == true && d["software"] == false).count();
    let all = json("health");
    assert_eq!(all["devices"].as_array().unwrap().len(), available);
    assert!(all["devices"].as_array().unwrap().iter().all(|d| d["ok"] == true && d["leaked_buffers"] == 0), "{all}");
    assert_eq!(vlc("health").stdout.lines().count(), 1 + available);
    assert_eq!(json("health --backend auto")["devices"].as_array().unwrap().len(), 1);
}

#[test]
fn a_backend_that_is_missing_exits_6_and_says_why() {
    for (backend, reason) in missing() {
        let verb = if backend == "cuda" { "test-cuda" } else { "test-gpu" };
        for args in [verb, &format!("{verb} --large --json"), &format!("{verb} --device 3")] {
            let stderr = fails(args, 6);
            assert!(stderr.contains(&backend) && stderr.contains(&reason), "{args}: {stderr}");
        }
        for args in [format!("health --backend {backend}"), format!("health --backend {backend} --device 1 --json")] {
            let stderr = fails(&args, 6);
            assert!(stderr.contains(&backend) && stderr.contains(&reason), "{args}: {stderr}");
        }
    }
}

#[test]
fn the_cpu_is_one_device() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.vlc").display().to_string();
    let args = format!("compress base.i8.npy -o {store} --ratio 0.0833 --backend cpu");
    let refused = |args: &str| {
        let stderr = fails(args, 2);
        assert!(stderr.contains("the cpu is one device") && stderr.contains("no number 1"), "{stderr}");
    };
    refused(&format!("{args} --device 1"));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    refused("health --backend cpu --device 1");
    refused("demo --backend cpu --device 1");

    assert_eq!(vlc(&format!("{args} --device 0 -q")).code, Some(0));
    let choice = "--backend cpu --device";
    refused(&format!("query {store} queries.i8.npy {choice} 1"));
    refused(&format!("eval {store} --base base.i8.npy --queries queries.i8.npy {choice} 1"));
    assert_eq!(json(&format!("query {store} queries.i8.npy {choice} 0 -q"))["backend"], "cpu");

    assert!(fails("health --device 0", 2).contains("--backend"));
    fails(&format!("query {store} queries.i8.npy {choice} -1"), 2);
    fails(&format!("query {store} queries.i8.npy {choice} first"), 2);
}

#[test]
fn software_adapters_are_for_wgpu_alone() {
    for backend in ["cpu", "cuda"] {
        for verb in ["health", "demo", "compress base.i8.npy -o never.vlc --ratio 0.1"] {
            let stderr = fails(&format!("{verb} --backend {backend} --adapter software"), 2);
            assert!(stderr.contains("only wgpu"), "{verb}: {stderr}");
        }
    }
    assert!(fails("test-cuda --adapter software", 2).contains("only wgpu"));
    let missing = missing();
    for verb in ["demo", "health --backend wgpu", "health --backend auto", "test", "test-gpu"] {
        for clash in ["software --device 0", "emulated"] {
            fails(&format!("{verb} --adapter {clash}"), 2);
        }
        // Auto does not go on to the cpu: it is not what was asked for.
        if let Some((_, reason)) = missing.iter().find(|(backend, _)| backend == "wgpu")
            && verb != "test"
        {
            let stderr = fails(&format!("{verb} --adapter software"), 6);
            assert!(stderr.contains("wgpu") && stderr.contains(reason), "{verb}: {stderr}");
        }
    }
}

#[test]
fn backends_are_compared() {
    let report = json("test");
    let backends = report["backends"].as_array().unwrap();
    assert_eq!(backends.len(), 3);
    let cpu = &backends[0];
    assert_eq!((&cpu["backend"], &cpu["speedup"], &cpu["agrees"]), (&"cpu".into(), &1.0.into(), &true.into()));
    assert_eq!((&cpu["energy_difference_percent"], &cpu["recall_difference"]), (&0.0.into(), &0.0.into()));

    let operations = report["operations"].as_array().unwrap();
    let named: Vec<_> = operations.iter().map(|o| (o["shape"].as_str(), o["operation"].as_str())).collect();
    let expected =
        [("old_benchmark", "assign"), ("old_benchmark", "kmeans"), ("small", "assign"), ("small", "kmeans")];
    assert_eq!(named, expected.map(|(shape, operation)| (Some(shape), Some(operation))));
    assert_eq!([&operations[0]["rows"], &operations[0]["dim"], &operations[0]["anchors"]], [10_000, 128, 256]);
    for (assign, kmeans) in operations.iter().zip(&operations[1..]).step_by(2) {
        assert_eq!((&assign["iterations"], &kmeans["iterations"]), (&1.into(), &10.into()));
        let energy = |operation: &Value| operation["backends"][0]["energy"].as_f64().unwrap();
        assert!(energy(kmeans) < energy(assign), "{kmeans} {assign}");
    }
    for row in operations.iter().map(|o| &o["backends"][0]) {
        assert_eq!((&row["backend"], &row["scaled"], &row["agrees"]), (&"cpu".into(), &false.into(), &true.into()));
        for field in ["energy_difference_percent", "labels_differ_percent"] {
            assert_eq!(row[field], 0.0, "{field}");
        }
        assert!(row["seconds"].as_f64().unwrap() > 0.0 && row["tflops"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["run_seconds"].as_array().unwrap().len(), 5);
        assert_eq!(row["speedup"], 1.0);
    }
    if missing().len() == 2 {
        assert!(fails("test --device 0", 2).contains("no GPU"));
    }
}
