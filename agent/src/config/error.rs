//! What can be wrong with a configuration file, said so that it can be mended: which
//! file, line and key, what is wrong there, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How the names begin that `toml::Spanned` goes by while it is deserialized: steps on the
/// way to a value that are no keys of the file.
const SPANNED: &str = "$__serde_spanned";

/// Where in a file something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot read the configuration; check the path and that the agent's user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is longer than [`super::MAX_FILE_BYTES`].
    #[error("{}: longer than {} bytes, so not an agent's configuration; check the path", path.display(), super::MAX_FILE_BYTES)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("{}: not UTF-8 text; save it as UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML.
    #[error("{place}: not valid TOML: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser said.
        message: String,
    },
    /// A key that is not known, or a value of the wrong type.
    #[error("{place}: {key}: {message}")]
    Shape {
        /// Where.
        place: Place,
        /// The key, dotted.
        key: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// A value that is not allowed.
    #[error("{place}: {key}: {message}")]
    Invalid {
        /// Where.
        place: Place,
        /// The key, dotted.
        key: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// A key that has no default is unset.
    #[error("{}: {key}: is missing; {advice}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        key: &'static str,
        /// What to write.
        advice: &'static str,
    },
}

/// The text that is being checked.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        ConfigError::Syntax {
            place: self.place(error.span()),
            message: one_line(error.message()),
        }
    }

    pub(super) fn shape(&self, key: &str, error: &toml::de::Error) -> ConfigError {
        let place = self.place(error.span());
        let key: Vec<&str> = key
            .split('.')
            .filter(|part| !part.starts_with(SPANNED))
            .collect();
        let message = one_line(error.message()).replace("expected i64", "expected a whole number");
        ConfigError::Shape {
            place,
            key: key.join("."),
            message,
        }
    }

    pub(super) fn invalid(&self, key: &str, span: Range<usize>, message: String) -> ConfigError {
        ConfigError::Invalid {
            place: self.place(Some(span)),
            key: key.into(),
            message,
        }
    }

    pub(super) fn missing(&self, key: &'static str, advice: &'static str) -> ConfigError {
        ConfigError::Missing {
            path: self.path.into(),
            key,
            advice,
        }
    }

    /// Line and column of where `span` begins; the file's beginning if that is not known.
    fn place(&self, span: Option<Range<usize>>) -> Place {
        let start = span.map_or(0, |span| span.start);
        // The span is the parser's: should it ever be off, an approximate place is better
        // than none.
        let before = self.text.get(..start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Place {
            path: self.path.into(),
            line,
            column,
        }
    }
}

/// The parser's message as one line.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
