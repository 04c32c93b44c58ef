//! A VNC viewer of this host, started for the user.
//!
//! Refuses to pass it anything but where to connect.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{AccessFlags, Pid, access};
use tokio::process::{Child, Command};

use crate::output::printable;

/// The viewers that are looked for, in this order.
const KNOWN: [&str; 4] = [
    "xtigervncviewer",
    "vncviewer",
    "remote-viewer",
    "gvncviewer",
];

/// The port of display 0.
const FIRST_PORT: i32 = 5900;

/// How long a viewer may take to end when asked to; then it is killed.
const END_WAIT: Duration = Duration::from_secs(2);

/// Why there is no viewer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewerError {
    /// None is installed.
    #[error(
        "found none of {} in PATH: install one, name another with VMCONSOLE_VIEWER, or leave \
         --viewer out and connect a viewer to the address that is shown",
        KNOWN.join(", ")
    )]
    None,
    /// It cannot be started.
    #[error("cannot start the viewer {}", viewer.display())]
    Start {
        /// Which.
        viewer: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A viewer that runs.
#[derive(Debug)]
pub(super) struct Viewer {
    child: Child,
    name: String,
}

/// The program: `named`, or the first known one in `path`.
///
/// # Errors
/// [`ViewerError::None`].
pub(super) fn find(named: Option<PathBuf>, path: Option<&OsStr>) -> Result<PathBuf, ViewerError> {
    if let Some(named) = named {
        return Ok(named);
    }
    let places: Vec<_> = path.into_iter().flat_map(std::env::split_paths).collect();
    let in_places = |name| places.iter().map(move |place: &PathBuf| place.join(name));
    let mut programs = KNOWN.into_iter().flat_map(in_places);
    let runs = |program: &PathBuf| program.is_file() && access(program, AccessFlags::X_OK).is_ok();
    programs.find(runs).ok_or(ViewerError::None)
}

/// What the program is told.
fn argument(program: &Path, to: SocketAddr) -> String {
    let (ip, port) = (to.ip(), to.port());
    match program.file_name().and_then(OsStr::to_str) {
        Some("remote-viewer") => format!("vnc://{to}"),
        // It knows displays alone, and takes any number for one.
        Some("gvncviewer") => format!("{ip}:{}", i32::from(port) - FIRST_PORT),
        _ => address(to),
    }
}

/// An address as most viewers take it.
pub(super) fn address(to: SocketAddr) -> String {
    let port = to.port();
    match to {
        SocketAddr::V4(to) => format!("{}::{port}", to.ip()),
        SocketAddr::V6(to) => format!("[{}]::{port}", to.ip()),
    }
}

impl Viewer {
    /// Starts the program.
    ///
    /// # Errors
    /// [`ViewerError::Start`].
    pub(super) fn start(program: &Path, to: SocketAddr) -> Result<Self, ViewerError> {
        let spawn = || {
            // Standard output is for what programs read.
            let messages = io::stderr().as_fd().try_clone_to_owned()?;
            Command::new(program)
                .arg(argument(program, to))
                .stdin(Stdio::null())
                .stdout(messages)
                .kill_on_drop(true)
                .spawn()
        };
        let child = spawn().map_err(|source| ViewerError::Start {
            viewer: program.to_owned(),
            source,
        })?;
        let name = printable(&program.display().to_string());
        Ok(Self { child, name })
    }

    /// What it was started as.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As it cannot be waited for.
    ///
    /// # Cancel safety
    /// The end is told by the next call.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to end, and kills it if it does not.
    ///
    /// # Cancel safety
    /// It is killed if dropped.
    pub(super) async fn end(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            // One that has ended meanwhile is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = tokio::time::timeout(END_WAIT, self.child.wait()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_viewer_is_told_in_its_own_way() {
        let to = "127.0.0.1:34567".parse().unwrap();
        for (program, told) in [
            ("/usr/bin/xtigervncviewer", "127.0.0.1::34567"),
            ("vncviewer", "127.0.0.1::34567"),
            ("/opt/mine.sh", "127.0.0.1::34567"),
            ("/usr/bin/remote-viewer", "vnc://127.0.0.1:34567"),
            ("gvncviewer", "127.0.0.1:28667"),
        ] {
            assert_eq!(argument(Path::new(program), to), told);
        }
        assert_eq!(address("[::1]:1".parse().unwrap()), "[::1]::1");
    }

    #[test]
    fn the_first_known_one_that_can_be_run_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let places = [root.path().join("a"), root.path().join("b")];
        let put = |place: &Path, name: &str, mode| {
            fs::create_dir_all(place).unwrap();
            fs::write(place.join(name), "").unwrap();
            fs::set_permissions(place.join(name), Permissions::from_mode(mode)).unwrap();
        };
        let path = std::env::join_paths(&places).unwrap();
        let found = || find(None, Some(&path));
        put(&places[0], "gvncviewer", 0o755);
        assert_eq!(found().unwrap(), places[0].join("gvncviewer"));
        put(&places[0], "xtigervncviewer", 0o644);
        put(&places[1], "vncviewer", 0o755);
        assert_eq!(found().unwrap(), places[1].join("vncviewer"));
        let named = find(Some("mine".into()), Some(&path)).unwrap();
        assert_eq!(named, Path::new("mine"));
        let none = find(None, None).unwrap_err();
        assert!(none.to_string().contains("VMCONSOLE_VIEWER"), "{none}");
    }
}
