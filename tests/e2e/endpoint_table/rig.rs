//! A guest with a shell on one console and another console to be measured, whose far end the
//! test holds itself. Lines are numbered and of one length, so that what is lost shows.

use std::fmt;
use std::time::{Duration, Instant};

use vmconsole_tests::dialogue::Line as _;
use vmconsole_tests::image::{Kernel, Logins};
use vmconsole_tests::qemu::{Boot, Chardev, Far, Qemu, QemuDir, QemuOptions, SERIAL0};
use vmconsole_tests::wire::{Wire, WireConsole};

/// Far more than anything takes on an idle machine.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// Each line's length: seven digits and a newline.
pub(crate) const LINE_BYTES: usize = 8;

/// The first line's number.
const FIRST: usize = 1_000_001;

/// What a mark begins with; no numbered line does.
const MARK: u8 = b'm';

/// How long a mark is waited for before the next.
const BETWEEN_MARKS: Duration = Duration::from_millis(20);

/// Nothing more is under way when so long nothing came from a guest that has finished.
const QUIET: Duration = Duration::from_millis(500);

/// Writes the lines by 4 KiB. Not cat, which has the kernel move a file's pages by itself: to
/// a virtio channel that is megabytes at once.
const WRITE: &str = "dd if=/tmp/lines bs=4096 2>/dev/null >&9";

/// Whether the guest's program has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Yes,
    No,
}

/// What came of numbered lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// All bytes.
    pub(crate) bytes: usize,
    /// Whole lines in ascending order.
    pub(crate) lines: usize,
}

impl Received {
    /// All of so many lines.
    pub(crate) const fn whole(lines: usize) -> Self {
        Self {
            bytes: lines * LINE_BYTES,
            lines,
        }
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut last = 0;
        let mut lines = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let digits = line.strip_suffix(b"\n").filter(|line| line.len() == 7);
            let number = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
            if let Some(number) = number
                && number > last
            {
                lines += 1;
                last = number;
            }
        }
        Self {
            bytes: bytes.len(),
            lines,
        }
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes came, {} whole lines", self.bytes, self.lines)
    }
}

/// The guest, and what is measured of it.
pub(crate) struct Rig {
    // Before its directory, which QEMU uses to its end.
    pub(crate) qemu: Qemu,
    shell: WireConsole,
    label: &'static str,
    /// What the second serial port had sent before what is being written.
    sent_before: usize,
    _dir: QemuDir,
}

impl Rig {
    /// Boots a guest with this console, which it knows as `device`, and logs in on another.
    pub(crate) fn boot(name: &str, far: Chardev, label: &'static str, device: &str) -> Self {
        Self::boot_with(name, label, device, |options| match label {
            "serial1" => options.serial1 = Some(far),
            "console0" => options.console0 = Some(far),
            _ => options.channel = Some(far),
        })
    }

    /// Boots a guest that is so.
    pub(crate) fn boot_with(
        name: &str,
        label: &'static str,
        device: &str,
        change: impl FnOnce(&mut QemuOptions),
    ) -> Self {
        let dir = QemuDir::new();
        let mut options = QemuOptions::named(name);
        options.serial0 = Some(Chardev::Unix);
        options.boot = Boot::Linux(Kernel {
            logins: Logins::On("ttyS0"),
            ..Kernel::default()
        });
        change(&mut options);
        let mut qemu = Qemu::start(&dir, options);
        let mut shell = WireConsole::open(&qemu.far(SERIAL0));
        shell.login(BOUND);
        let mut rig = Self {
            qemu,
            shell,
            label,
            sent_before: 0,
            _dir: dir,
        };
        rig.hold(device);
        rig
    }

    /// Opens the device in the guest's shell, for all that it runs. The last close of a port
    /// waits for its bytes to go, and then throws them away.
    fn hold(&mut self, device: &str) {
        self.run(&format!("exec 9<>{device}"));
        self.run("[ ! -t 9 ] || stty raw -echo <&9");
    }

    /// Runs a command in the guest's shell.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.shell.run(command, BOUND)
    }

    /// The far end, opened.
    pub(crate) fn open(&mut self) -> Wire {
        Wire::open(&self.far())
    }

    /// Where the far end is.
    pub(crate) fn far(&mut self) -> Far {
        self.qemu.far(self.label)
    }

    /// Has the guest write so many lines, and waits for that at most so long.
    pub(crate) fn write(&mut self, lines: usize, bound: Duration) -> Ended {
        let last = FIRST + lines - 1;
        self.run(&format!("seq {FIRST} {last} >/tmp/lines; rm -f /tmp/ended"));
        self.sent_before = self.sent();
        self.run(&format!("({WRITE}; touch /tmp/ended) &"));
        self.ended(bound)
    }

    /// Whether the guest has written all, waiting for that at most so long.
    pub(crate) fn ended(&mut self, bound: Duration) -> Ended {
        let deadline = Instant::now() + bound;
        loop {
            // The guest waits a moment by itself.
            if self.run("usleep 100000; ls /tmp/ended 2>&1") == "/tmp/ended\n" {
                return Ended::Yes;
            }
            if Instant::now() > deadline {
                return Ended::No;
            }
        }
    }

    /// Waits until the guest's second serial port has sent nothing for two seconds of the
    /// guest's, and tells how many bytes it sent of what is being written.
    pub(crate) fn stands_still(&mut self) -> usize {
        let deadline = Instant::now() + BOUND;
        loop {
            let before = self.sent();
            self.run("sleep 2");
            if self.sent() == before {
                return before - self.sent_before;
            }
            assert!(Instant::now() < deadline, "the guest does not block");
        }
    }

    /// How many bytes the guest's driver of the second serial port has sent; 0 where there is
    /// no such port.
    fn sent(&mut self) -> usize {
        let said = self.run("grep ^1: /proc/tty/driver/serial");
        let sent = said
            .split_whitespace()
            .find_map(|word| word.strip_prefix("tx:"));
        sent.map_or(0, |sent| sent.parse().expect("a number"))
    }

    /// How long it takes until somebody who has just connected to an idle console has an
    /// answer to the first key. Then lets the console go.
    pub(crate) fn first_answer(&mut self) -> Duration {
        self.run("dd bs=1 count=1 <&9 >&9 2>/dev/null &");
        let begin = Instant::now();
        let mut wire = self.open();
        wire.send(b"k");
        let answer = wire.read(BOUND).expect("QEMU lives");
        assert_eq!(answer, b"k");
        begin.elapsed()
    }

    /// Has the guest write marks until one comes: what came before it, in bytes, and how long
    /// the first took.
    pub(crate) fn first_mark(&mut self, wire: &mut Wire) -> (usize, Duration) {
        let begin = Instant::now();
        let mut before = 0;
        // Asked for one by one: a loop in the guest's background ended now and then at once.
        let first = loop {
            assert!(begin.elapsed() < BOUND, "no mark came");
            self.run("echo mark >&9");
            let bytes = wire.read(BETWEEN_MARKS).expect("QEMU lives");
            if let Some(at) = bytes.iter().position(|&byte| byte == MARK) {
                before += at;
                break begin.elapsed();
            }
            before += bytes.len();
        };
        drain(wire);
        (before, first)
    }

    /// Reads so many lines, and what comes after them by mistake.
    pub(crate) fn read_lines(&self, wire: &mut Wire, lines: usize) -> Received {
        let mut all = Vec::new();
        while all.len() < lines * LINE_BYTES {
            let bytes = wire.read(BOUND).expect("QEMU lives");
            assert!(!bytes.is_empty(), "{} bytes came", all.len());
            all.extend(bytes);
        }
        all.extend(drain(wire));
        Received::of(&all)
    }

    /// Has the guest write so many lines, and reads all of them. Also how many bytes came a
    /// second.
    pub(crate) fn write_and_read(&mut self, wire: &mut Wire, lines: usize) -> (Received, f64) {
        self.write(lines, Duration::ZERO);
        let begin = Instant::now();
        let received = self.read_lines(wire, lines);
        let rate = rate(received.bytes, begin.elapsed().saturating_sub(QUIET));
        assert_eq!(self.ended(BOUND), Ended::Yes);
        (received, rate)
    }

    /// The same where some may never come: reads on until the guest has finished and nothing
    /// more comes.
    pub(crate) fn write_and_read_rest(&mut self, wire: &mut Wire, lines: usize) -> (Received, f64) {
        let last = FIRST + lines - 1;
        self.run(&format!("seq {FIRST} {last} >/tmp/lines"));
        let (mut all, mut took) = (Vec::new(), Duration::ZERO);
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| self.run(WRITE));
            loop {
                let done = writing.is_finished();
                let bytes = wire.read(QUIET).expect("QEMU lives");
                if bytes.is_empty() && done {
                    break;
                }
                if !bytes.is_empty() {
                    took = begin.elapsed();
                }
                all.extend(bytes);
            }
        });
        let received = Received::of(&all);
        (received, rate(received.bytes, took))
    }

    /// What QEMU says of the far end: of a socket also whether somebody is connected.
    pub(crate) fn named_by_qemu(&mut self) -> String {
        let chardev = self.qemu.chardev(self.label);
        let filename = chardev["filename"].as_str().expect("QEMU names it");
        filename.to_owned()
    }

    /// QEMU has told that the guest opened the port, which it tells of virtio's alone.
    pub(crate) fn opened_by_the_guest(&mut self) {
        let event = self.qemu.monitor().event("VSERPORT_CHANGE", BOUND);
        assert_eq!(event["data"]["id"], self.label, "{event}");
        assert_eq!(event["data"]["open"], true, "{event}");
    }

    /// Kills QEMU and looks what the reader sees of that.
    pub(crate) fn killed(mut self, mut wire: Wire) {
        self.qemu.kill();
        while let Some(bytes) = wire.read(BOUND) {
            assert!(!bytes.is_empty(), "the end of QEMU is not seen");
        }
        println!("  QEMU killed: the end is read");
    }
}

/// All that comes until nothing did for a moment.
pub(crate) fn drain(wire: &mut Wire) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = wire.read(QUIET).expect("QEMU lives");
        if bytes.is_empty() {
            return all;
        }
        all.extend(bytes);
    }
}

fn rate(bytes: usize, took: Duration) -> f64 {
    let bytes = u32::try_from(bytes).expect("some megabytes");
    f64::from(bytes) / took.as_secs_f64()
}
