//! How fast the messages of a VNC client are looked through, in one process: a pointer that moves
//! and a user who types, cut into pieces as they come from a stream, with the lease and without,
//! with rules and without. No socket, no gRPC.
#![allow(missing_docs, reason = "a bench has no interface")]
#![allow(clippy::unwrap_used, reason = "a bench ends by panicking")]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use vmconsole_agent::core::rfb::filter::ClientFilter;
use vmconsole_agent::core::rfb::rules::{Rules, parse_refused_keys};

/// As many bytes as a message of the relay may have, and as few as a busy pointer makes.
const PIECES: [usize; 2] = [64 * 1024, 600];

const ROUNDS: usize = 5;

/// How long a round takes at least.
const ROUND: Duration = Duration::from_millis(200);

fn main() {
    let keys = Rules {
        refused_keys: parse_refused_keys(&["ctrl-alt-delete", "sysrq"]).unwrap(),
        ..Rules::default()
    };
    let view_only = Rules {
        view_only: true,
        ..Rules::default()
    };
    let cases = [
        ("no rules", Rules::default(), true),
        ("keys refused", keys, true),
        ("view-only", view_only, true),
        ("no lease", Rules::default(), false),
    ];
    println!("MiB/s looked through        pointer    pointer and keys");
    for piece in PIECES {
        for (name, rules, holds_lease) in &cases {
            let pointer = rate(rules, *holds_lease, &stream(piece, false), piece);
            let typing = rate(rules, *holds_lease, &stream(piece, true), piece);
            println!("{piece:>5} bytes, {name:<12} {pointer:>10.0} {typing:>15.0}");
        }
    }
}

/// Some 64 KiB of events, which end where a piece does.
fn stream(piece: usize, typing: bool) -> Bytes {
    let mut events = Vec::new();
    while events.len() < 64 * 1024 || events.len() % piece != 0 {
        let at = (events.len() % 1024) as u8;
        events.extend([5, 0, 1, at, 2, at]);
        if typing && events.len() % 60 == 0 {
            for down in [1, 0] {
                events.extend([255, 0, 0, down, 0, 0, 0, 0x61, 0, 0, 0, 0x1e]);
            }
        }
        if events.len() > 2 * 64 * 1024 {
            break;
        }
    }
    events.into()
}

/// The median rate, in MiB/s.
fn rate(rules: &Rules, holds_lease: bool, stream: &Bytes, piece: usize) -> f64 {
    let mut filter = ClientFilter::new(rules.clone());
    let mut out = Vec::new();
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (begun, mut bytes) = (Instant::now(), 0);
            while begun.elapsed() < ROUND {
                for from in (0..stream.len()).step_by(piece) {
                    let piece = stream.slice(from..stream.len().min(from + piece));
                    bytes += piece.len();
                    out.clear();
                    filter.filter(piece, holds_lease, &mut out).unwrap();
                }
            }
            bytes as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 20)
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}
