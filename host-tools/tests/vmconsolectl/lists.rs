//! `list`: pages, filters and both forms.

use serde_json::Value;
use vmconsole_proto::v1::{Console, ListConsolesResponse};

use crate::fake_agent::{FakeAgent, Script};
use crate::program::{Ended, Piped, pki, vmconsolectl};

fn page(names: &[&str], next: &str) -> ListConsolesResponse {
    let console = |name: &&str| Console {
        vm_name: (*name).to_owned(),
        alias: "serial0".to_owned(),
        ..Default::default()
    };
    ListConsolesResponse {
        consoles: names.iter().map(console).collect(),
        next_page_token: next.to_owned(),
    }
}

fn list(pages: Vec<ListConsolesResponse>, options: &[&str]) -> (Ended, FakeAgent) {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(
        &pki,
        Script {
            pages,
            ..Default::default()
        },
    );
    let mut command = vmconsolectl(&pki, agent.address);
    (Piped::start(command.arg("list").args(options)).end(), agent)
}

#[test]
fn all_pages_are_one_list() {
    let pages = vec![page(&["a", "b"], "2"), page(&["c"], "3"), page(&["d"], "")];
    let (ended, agent) = list(pages, &["--output", "json", "--vm", "x", "--vm", "y"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let value: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let names: Vec<_> = value
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["vm_name"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let asked = agent.lists.lock().unwrap();
    let tokens: Vec<_> = asked
        .iter()
        .map(|request| request.page_token.as_str())
        .collect();
    assert_eq!(tokens, ["", "2", "3"]);
    for request in asked.iter() {
        assert_eq!(request.filter.as_ref().unwrap().vms, ["x", "y"]);
    }
}

#[test]
fn a_table_has_a_row_for_each_console() {
    let (ended, _agent) = list(vec![page(&["a", "b"], "")], &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = String::from_utf8(ended.stdout).unwrap();
    let words: Vec<_> = text
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(words, ["VM", "a", "b"]);
}

#[test]
fn an_agent_that_repeats_itself_does_not_hold_us() {
    let (ended, _agent) = list(vec![page(&["a"], "1")], &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("does not end"), "{}", ended.stderr);
    assert_eq!(ended.stdout, b"");
}
