//! On pipes: what is written, in which order, and what happens where nothing is taken.

use std::fs::File;
use std::io::Read as _;

use super::*;

fn at(offset: u64) -> Position {
    Position {
        generation: 1,
        offset,
    }
}

/// A screen whose stdout and stderr are one pipe, and the pipe's far end.
fn screen(raw: bool) -> (Screen, File) {
    let (far, near) = io::pipe().unwrap();
    let sinks = Sinks {
        stdout: near.try_clone().unwrap().into(),
        stderr: near.into(),
        raw,
    };
    (
        Screen::start(sinks).unwrap(),
        File::from(OwnedFd::from(far)),
    )
}

fn read_all(mut far: File) -> String {
    let mut all = String::new();
    far.read_to_string(&mut all).unwrap();
    all
}

#[test]
fn notices_stand_in_their_place_among_the_output() {
    let (mut screen, far) = screen(true);
    screen.output(Bytes::from_static(b"a"), at(1)).unwrap();
    screen.notice("one\ntwo".to_owned());
    screen.output(Bytes::from_static(b"b\r\n"), at(4)).unwrap();
    screen.notice("three".to_owned());
    screen.finish();
    let wanted = "a\r\nvmconsolectl: one\r\ntwo\r\nb\r\n\rvmconsolectl: three\r\n";
    assert_eq!(read_all(far), wanted);
}

#[test]
fn lines_are_plain_where_nothing_is_raw() {
    let (mut screen, far) = screen(false);
    screen.notice("one".to_owned());
    screen.finish();
    assert_eq!(read_all(far), "vmconsolectl: one\n");
}

#[tokio::test]
async fn progress_tells_what_was_written_and_then_that_all_was() {
    let (mut screen, far) = screen(false);
    screen.output(Bytes::from_static(b"abc"), at(3)).unwrap();
    let progress = screen.progress().await.unwrap();
    assert_eq!(
        (progress.position, progress.dealt),
        (
            at(3),
            Dealt {
                bytes: 3,
                messages: 1
            }
        )
    );
    screen.finish();
    while screen.progress().await.is_some() {}
    assert_eq!(read_all(far), "abc");
}

#[tokio::test]
async fn a_reader_that_left_is_told_and_nothing_waits_for_it() {
    let (mut screen, far) = screen(false);
    drop(far);
    screen.output(Bytes::from_static(b"abc"), at(3)).unwrap();
    let progress = screen.progress().await.unwrap();
    assert_eq!(progress.failed, Some(io::ErrorKind::BrokenPipe));
    assert_eq!(progress.dealt, Dealt::default());
}

#[test]
fn a_reader_that_stops_reading_blocks_nobody_and_the_queue_is_bounded() {
    let (mut screen, far) = screen(false);
    let frame = Bytes::from(vec![b'x'; 64 << 10]);
    let taken = (0..)
        .take_while(|n| screen.output(frame.clone(), at(*n)).is_ok())
        .count();
    assert!((QUEUE..=QUEUE + 2).contains(&taken), "{taken}");
    screen.discard_output();
    screen.finish();
    // The frame that was being written arrives; those behind it do not.
    assert!(read_all(far).len() <= 3 * frame.len());
}

#[test]
fn notices_that_find_no_room_are_counted_and_told() {
    let (mut screen, far) = screen(false);
    let filler = "y".repeat(4096);
    for _ in 0..MAX_NOTICES + 40 {
        screen.notice(filler.clone());
    }
    screen.finish();
    let all = read_all(far);
    assert!(all.contains("messages were not shown"), "{}", all.len());
}
