//! The far sides of consoles, as a process of their own: `standin-guest SOCKET=MODE…`.
//!
//! Says `ready` once all of them listen, and ends when its standard input does.
#![allow(clippy::print_stdout, reason = "its standard output is its interface")]

use std::io::Read as _;
use std::path::Path;

use vmconsole_tests::standin::FarSide;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for argument in std::env::args().skip(1) {
        let (path, mode) = argument
            .split_once('=')
            .ok_or("usage: standin-guest SOCKET=MODE…")?;
        FarSide::listen(Path::new(path), mode.parse()?)?;
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
