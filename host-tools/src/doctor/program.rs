//! Asking other programs of the host: with a bound on their time and on what they say.
//!
//! Refuses to go through a shell, and to leave a program running.

use std::ffi::OsStr;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What a program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Whether it exited with 0.
    pub(super) success: bool,
    /// The first of its standard output.
    pub(super) output: String,
    /// The first of its standard error.
    pub(super) errors: String,
}

/// Runs a program from PATH, in the C locale. At most `most` bytes of each of its outputs are
/// kept; one that says more is cut off.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if there is no such program, [`io::ErrorKind::TimedOut`] if it
/// took too long, and what else kept it from starting.
///
/// # Cancel safety
/// If dropped, the program is killed.
pub(super) async fn ask<A: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
    most: u64,
) -> io::Result<Said> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let done = async {
        let read_output = async {
            match stdout {
                Some(stdout) => stdout.take(most).read_to_end(&mut output).await,
                None => Ok(0),
            }
        };
        let read_errors = async {
            match stderr {
                Some(stderr) => stderr.take(most).read_to_end(&mut errors).await,
                None => Ok(0),
            }
        };
        tokio::try_join!(read_output, read_errors)?;
        child.wait().await
    };
    let status = timeout(LIMIT, done)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Said {
        success: status.success(),
        output: String::from_utf8_lossy(&output).into_owned(),
        errors: String::from_utf8_lossy(&errors).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_says_is_taken_apart_and_cut() {
        let said = ask("sh", ["-c", "printf 12345; echo no >&2; exit 3"], 3);
        let expected = Said {
            success: false,
            output: "123".to_owned(),
            errors: "no\n".to_owned(),
        };
        assert_eq!(said.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told() {
        let missing = ask("vmconsole-no-such-program", [""; 0], 1).await;
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
