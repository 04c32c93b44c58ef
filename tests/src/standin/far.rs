//! The far side of a console: what a guest's serial port would do, on a unix socket.
//!
//! A thread for each connection, which blocks: nothing here is to cost what it measures.
//! It understands no commands; what it does is its mode.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How many bytes [`Mode::Sell`] gives for one byte of input unless told otherwise.
pub const SELL_UNIT: usize = 256 * 1024;

/// The most bytes that are read or written at once.
const PIECE: usize = 64 * 1024;

/// The longest piece that a 16550 hands out: its FIFO and the shift register.
const FIFO: usize = 17;

/// Bytes of a line that tells its offset.
pub const LINE: usize = 16;

/// How many of them [`Mode::Lines`] writes at once.
const LINES: usize = 256;

/// Stack of a thread that does no more than copy from one buffer on the heap.
const STACK: usize = 64 * 1024;

/// What the far side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Neither reads nor writes, as a guest does whose kernel hangs.
    Deaf,
    /// Reads, and never writes.
    Idle,
    /// Writes back what it reads.
    Echo,
    /// For each byte of input writes so many bytes, as fast as they are taken. Whoever
    /// buys one more for each lot that arrived paces it end to end; whoever buys a large
    /// one gets a flood.
    Sell(usize),
    /// From the first byte of input on, writes 1 to 17 bytes at a time, so many bytes a
    /// second; the next byte of input stops it, and so on.
    Uart(u32),
    /// From the first byte of input on, writes so many bytes a second, each of which tells its
    /// offset ([`line_at`]); the next byte of input stops it, and so on.
    Lines(u32),
    /// Is a display and no serial port: speaks RFB, sends a picture of [`UPDATE`] bytes for each
    /// FramebufferUpdateRequest and one byte for each KeyEvent.
    ///
    /// [`UPDATE`]: super::UPDATE
    Display,
}

/// What [`Mode::Lines`] writes from this offset on, which is of a line's begin: the offset
/// itself, in [`LINE`] bytes.
pub fn line_at(offset: u64) -> [u8; LINE] {
    let mut line = [b'\n'; LINE];
    for (place, digit) in line[..LINE - 1].iter_mut().rev().enumerate() {
        // Not formatted: far sides and tests write and check millions of them.
        *digit = b"0123456789abcdef"[(offset >> (4 * place)) as usize & 0xf];
    }
    line
}

impl FromStr for Mode {
    type Err = String;

    /// `deaf`, `idle`, `echo`, `sell:BYTES`, `uart:BYTES_PER_SECOND`, `lines:BYTES_PER_SECOND` or
    /// `display`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, number) = text.split_once(':').unwrap_or((text, ""));
        let bad = |_| format!("{text}: what follows the colon is not a number");
        match name {
            "deaf" => Ok(Self::Deaf),
            "idle" => Ok(Self::Idle),
            "echo" => Ok(Self::Echo),
            "display" => Ok(Self::Display),
            "sell" => number.parse().map(Self::Sell).map_err(bad),
            "uart" => number.parse().map(Self::Uart).map_err(bad),
            "lines" => number.parse().map(Self::Lines).map_err(bad),
            _ => Err(format!(
                "{text}: not one of deaf, idle, echo, sell:N, uart:N, lines:N, display"
            )),
        }
    }
}

/// A far side that listens. Its threads last as long as the process.
#[derive(Debug)]
pub struct FarSide;

impl FarSide {
    /// Listens on `path` and serves whoever connects, several at once.
    ///
    /// # Errors
    /// The system's, if it cannot listen there or start a thread.
    pub fn listen(path: &Path, mode: Mode) -> io::Result<()> {
        let listener = UnixListener::bind(path)?;
        thread("far-listen", move || {
            // The process's end is what ends these threads.
            while let Ok((stream, _)) = listener.accept() {
                let served = thread("far-serve", move || {
                    // A console that was let go ends its far side; nobody is to be told.
                    let _ = serve(stream, mode);
                });
                if served.is_err() {
                    return;
                }
            }
        })
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK);
    builder.spawn(run).map(drop)
}

fn serve(mut stream: UnixStream, mode: Mode) -> io::Result<()> {
    match mode {
        Mode::Deaf => deaf(&stream),
        Mode::Idle => idle(&mut stream),
        Mode::Echo => echo(&mut stream),
        Mode::Sell(unit) => sell(&mut stream, unit),
        Mode::Uart(rate) => uart(&mut stream, rate),
        Mode::Lines(rate) => lines(&mut stream, rate),
        Mode::Display => super::screen::show(&mut stream),
    }
}

/// Waits until the other side is gone.
fn deaf(stream: &UnixStream) -> io::Result<()> {
    // A hang-up is always told.
    let mut gone = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut gone, PollTimeout::NONE)?;
    Ok(())
}

fn idle(stream: &mut UnixStream) -> io::Result<()> {
    let mut buffer = [0; 512];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

fn echo(stream: &mut UnixStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

/// Lines of printable text, so that what arrives shows where it belongs.
fn text(length: usize) -> Vec<u8> {
    let line = (b' '..b'~').chain(*b"\r\n");
    line.cycle().take(length).collect()
}

fn sell(stream: &mut UnixStream, unit: usize) -> io::Result<()> {
    let goods = text(PIECE);
    let mut paid = [0; 64];
    loop {
        let count = stream.read(&mut paid)?;
        if count == 0 {
            return Ok(());
        }
        let mut left = unit * count;
        while left > 0 {
            let piece = left.min(goods.len());
            stream.write_all(&goods[..piece])?;
            left -= piece;
        }
    }
}

fn uart(stream: &mut UnixStream, rate: u32) -> io::Result<()> {
    let goods = text(FIFO);
    let mut switch = [0; 1];
    loop {
        if stream.read(&mut switch)? == 0 {
            return Ok(());
        }
        stream.set_nonblocking(true)?;
        let mut due = Instant::now();
        let mut length = 0;
        loop {
            match stream.read(&mut switch) {
                Ok(0) => return Ok(()),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            length = length % FIFO + 1;
            pace(due);
            due += Duration::from_secs(1) * length as u32 / rate;
            match stream.write(&goods[..length]) {
                Ok(_) => {}
                // A guest waits while its port is full; what it could not send then comes later.
                Err(error) if error.kind() == ErrorKind::WouldBlock => due = Instant::now(),
                Err(error) => return Err(error),
            }
        }
        stream.set_nonblocking(false)?;
    }
}

fn lines(stream: &mut UnixStream, rate: u32) -> io::Result<()> {
    let mut switch = [0; 1];
    let mut offset = 0;
    loop {
        if stream.read(&mut switch)? == 0 {
            return Ok(());
        }
        let mut due = Instant::now();
        while !is_readable(stream)? {
            pace(due);
            let starts = (0..LINES).map(|line| offset + (line * LINE) as u64);
            let piece: Vec<u8> = starts.flat_map(line_at).collect();
            stream.write_all(&piece)?;
            offset += piece.len() as u64;
            due += Duration::from_secs(1) * piece.len() as u32 / rate;
        }
        if stream.read(&mut switch)? == 0 {
            return Ok(());
        }
    }
}

fn is_readable(stream: &UnixStream) -> io::Result<bool> {
    let mut readable = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut readable, PollTimeout::ZERO)? > 0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a port of a given speed is time passing"
)]
fn pace(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}
