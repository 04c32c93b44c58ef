//! Findings for a person and for a program.
//!
//! Refuses to pass on control characters, and to colour what is no terminal.

use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Finding, Origin, Severity};
use crate::output::{printable, printable_json};

/// How wide the mark is, with the space after it.
const MARK: usize = 9;

/// The most severe first; among equals the order stays.
pub(super) fn order(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
}

/// A line for each finding, with evidence and next step below it.
pub(super) fn text(findings: &[Finding], coloured: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = format!("{:<MARK$}", finding.severity.word());
        let mark = if coloured {
            format!("\x1b[{}m{mark}\x1b[0m", colour(finding.severity))
        } else {
            mark
        };
        let about = match &finding.origin {
            Origin::Host => String::new(),
            Origin::Agent => "agent: ".to_owned(),
            Origin::Console(vm, alias) => format!("{}: ", printable(&format!("{vm} {alias}"))),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{mark}{about}{}", printable(&finding.summary));
        if !finding.evidence.is_empty() {
            let _ = writeln!(text, "{:MARK$}{}", "", printable(&finding.evidence));
        }
        if !finding.next_step.is_empty() {
            let _ = writeln!(text, "{:MARK$}next: {}", "", printable(&finding.next_step));
        }
    }
    text
}

/// The colour of a mark, as SGR numbers: green, none, yellow, red, the worst in bold.
const fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "32",
        Severity::Note => "0",
        Severity::Warning => "33",
        Severity::Problem => "1;31",
    }
}

/// The report as programs get it. The keys are a promise.
#[derive(Serialize)]
struct Report<'a> {
    worst: &'static str,
    findings: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    from: &'static str,
    vm: Option<&'a str>,
    console: Option<&'a str>,
    code: &'a str,
    severity: &'static str,
    summary: &'a str,
    evidence: &'a str,
    next_step: &'a str,
    since: Option<String>,
}

/// One JSON object, with a line feed at its end.
///
/// # Errors
/// As the serializer fails.
pub(super) fn json(findings: &[Finding]) -> Result<String, serde_json::Error> {
    let report = Report {
        worst: worst(findings).word(),
        findings: findings.iter().map(shown).collect(),
    };
    let mut text = printable_json(&serde_json::to_string_pretty(&report)?);
    text.push('\n');
    Ok(text)
}

fn shown(finding: &Finding) -> Shown<'_> {
    let (from, vm, console) = match &finding.origin {
        Origin::Host => ("host", None, None),
        Origin::Agent => ("agent", None, None),
        Origin::Console(vm, alias) => ("console", Some(vm.as_str()), Some(alias.as_str())),
    };
    Shown {
        from,
        vm,
        console,
        code: &finding.code,
        severity: finding.severity.word(),
        summary: &finding.summary,
        evidence: &finding.evidence,
        next_step: &finding.next_step,
        since: finding.since.map(|since| since.to_string()),
    }
}

/// The worst of them.
pub(super) fn worst(findings: &[Finding]) -> Severity {
    let severities = findings.iter().map(|finding| finding.severity);
    severities.max().unwrap_or(Severity::Ok)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use serde_json::{Value, json};

    use super::*;

    fn findings() -> Vec<Finding> {
        let mut console = Finding::problem("vm_off", "the VM\u{1b}[2J is off").next("start it");
        console.origin = Origin::Console("web".into(), "serial0".into());
        console.since = Some(Timestamp {
            seconds: 1,
            nanos: 0,
        });
        vec![
            Finding::ok("disk", "room"),
            console,
            Finding::warning("clock", "late").evidence("by 3 s\n"),
        ]
    }

    #[test]
    fn people_get_lines_in_the_order_of_severity_and_no_control_characters() {
        let mut findings = findings();
        order(&mut findings);
        let expected = "problem  web serial0: the VM\\u{1b}[2J is off\n         next: start it\n\
                        warning  late\n         by 3 s\\u{a}\n\
                        ok       room\n";
        assert_eq!(text(&findings, false), expected);
        let coloured = text(&findings, true);
        assert!(
            coloured.starts_with("\u{1b}[1;31mproblem  \u{1b}[0mweb"),
            "{coloured}"
        );
    }

    #[test]
    fn what_programs_get_may_be_shown_on_a_terminal_and_says_the_same() {
        let said = "a\u{9b}2J\u{7f}\u{202e}\u{2066}\u{61c}\u{1b}\n\u{e9}";
        let mut finding = Finding::note("clock", said).evidence(said).next(said);
        finding.origin = Origin::Console(said.into(), said.into());
        let text = super::json(&[finding]).unwrap();
        let shown =
            |c: char| c == '\n' || crate::output::printable(&c.to_string()).len() == c.len_utf8();
        assert!(text.chars().all(shown), "{text:?}");
        let value: Value = serde_json::from_str(&text).unwrap();
        for key in ["summary", "evidence", "next_step", "vm", "console"] {
            assert_eq!(value["findings"][0][key], said, "{key}");
        }
        assert!(text.contains('\u{e9}'), "what is plain stays as it is");
    }

    #[test]
    fn programs_get_one_object() {
        let value: Value = serde_json::from_str(&super::json(&findings()).unwrap()).unwrap();
        assert_eq!(value["worst"], "problem");
        let expected = json!({
            "from": "console", "vm": "web", "console": "serial0", "code": "vm_off",
            "severity": "problem", "summary": "the VM\u{1b}[2J is off", "evidence": "",
            "next_step": "start it", "since": "1970-01-01T00:00:01Z",
        });
        assert_eq!(value["findings"][1], expected);
        assert_eq!(value["findings"][0]["vm"], Value::Null);
        let none: Value = serde_json::from_str(&super::json(&[]).unwrap()).unwrap();
        assert_eq!(none, json!({"worst": "ok", "findings": []}));
    }
}
