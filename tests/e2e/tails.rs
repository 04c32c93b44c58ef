//! `vmconsolectl tail` of a real guest's console.

use nix::sys::signal::Signal;

use crate::site::Site;

#[test]
fn the_last_lines_are_printed_and_followed_without_writing() {
    let site = Site::start();
    let guest = site.guest("ctl-tail");
    let mut attach = site.piped(&["attach", guest.name(), "--tail", "65536"]);
    for (text, answer) in [
        ("login: ", "root\n"),
        ("Password: ", "console\n"),
        ("# ", "stty -echo; PS1=; seq 1 50; echo don''e\n"),
        ("done\r\n", ""),
    ] {
        attach.sees(text);
        attach.types(answer);
    }

    let name = format!("{}/serial0", guest.name());
    let mut tail = site.piped(&["tail", &name, "--lines", "3"]);
    assert_eq!(tail.ended(), Some(0), "{}", tail.process.stderr());
    assert_eq!(tail.stdout(), "49\r\n50\r\ndone\r\n");
    assert_eq!(tail.process.stderr(), "");

    let mut follow = site.piped(&["tail", guest.name(), "-n", "1", "--follow"]);
    follow.sees("done\r\n");
    attach.types("echo mo''re\n");
    follow.sees("more\r\n");
    follow.process.signal(Signal::SIGTERM);
    assert_eq!(follow.ended(), Some(143));
    assert_eq!(follow.stdout(), "done\r\nmore\r\n");

    let mut nobody = site.piped(&["tail", "no-such-vm"]);
    assert_eq!(nobody.ended(), Some(5));
    assert_eq!(attach.end_of_input(), Some(0));
    site.settled(3.0);
}
