//! Runs what the fuzzers found interesting, which needs no fuzzer.

use std::fs;
use std::path::Path;

/// Fewer inputs than any target has. A corpus with less was lost on the way here.
const MIN_INPUTS: usize = 20;

/// Runs `check` on each input that is kept for `target`.
fn run_corpus(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        // Shown only if the check fails, and then it says on which input.
        println!("{}", path.display());
        check(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(
        inputs >= MIN_INPUTS,
        "{} has lost its inputs",
        corpus.display()
    );
}

#[test]
fn domain_xml() {
    run_corpus("domain_xml", super::domain_xml);
}

#[test]
fn qmp() {
    run_corpus("qmp", super::qmp);
}

#[test]
fn rfb_caller() {
    run_corpus("rfb_caller", super::rfb_caller);
}

#[test]
fn rfb_display() {
    run_corpus("rfb_display", super::rfb_display);
}

#[test]
fn rfb_client() {
    run_corpus("rfb_client", super::rfb_client);
}

#[test]
fn telnet() {
    run_corpus("telnet", super::telnet);
}

/// A target that no test runs would rot, and so would a test without a target.
#[test]
fn every_target_is_run() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut names: Vec<String> = fs::read_dir(targets)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "domain_xml.rs",
        "qmp.rs",
        "rfb_caller.rs",
        "rfb_client.rs",
        "rfb_display.rs",
        "telnet.rs",
    ];
    assert_eq!(names, expected);
}
