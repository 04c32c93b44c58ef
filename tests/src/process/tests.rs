//! A child ends with its owner, and outlives the thread that asked for it.

use super::*;

const BOUND: Duration = Duration::from_secs(20);

fn gone(pid: Pid) -> bool {
    kill(pid, None).is_err()
}

fn sleeper() -> Process {
    let mut command = tied("sleep");
    command.arg("600");
    Process::spawn("sleep", command)
}

#[test]
fn a_dropped_process_is_killed_and_reaped() {
    let process = sleeper();
    let pid = process.pid();
    assert!(!gone(pid));
    drop(process);
    assert!(gone(pid));
}

#[test]
fn a_process_outlives_the_thread_that_asked_for_it() {
    let mut process = std::thread::spawn(sleeper).join().unwrap();
    // The signal would come at once: give a child that must not die the chance to.
    assert_eq!(
        wait::try_value(Duration::from_millis(300), || process.try_wait()),
        None
    );
}

#[test]
fn standard_error_is_kept() {
    let mut command = tied("sh");
    command.args(["-c", "echo out of order >&2; exit 3"]);
    let mut process = Process::spawn("sh", command);
    assert_eq!(process.wait(BOUND).code(), Some(3));
    assert_eq!(process.stderr(), "out of order\n");
}

#[test]
fn the_kernel_kills_what_a_killed_parent_left() {
    // The middle process is killed without a chance to clean up; its child was tied to it.
    let mut middle = tied("sh");
    middle
        .args(["-c", "setpriv --pdeathsig KILL sleep 600 & echo $!; wait"])
        .stdout(Stdio::piped());
    let mut middle = Process::spawn("sh", middle);
    let mut line = String::new();
    let stdout = middle.take_stdout().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let orphan = Pid::from_raw(line.trim().parse().unwrap());
    wait::until("sleep to run", BOUND, || {
        std::fs::read_to_string(format!("/proc/{orphan}/cmdline"))
            .is_ok_and(|cmdline| cmdline.starts_with("sleep"))
    });
    middle.kill();
    // Whoever inherits the orphan reaps it in its own time: dead is what counts.
    wait::until("the orphan's end", BOUND, || {
        std::fs::read_to_string(format!("/proc/{orphan}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    });
}
