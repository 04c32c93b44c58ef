//! Certificates and keys from PEM files. It refuses a private key that others on the host can
//! get at, and a file too long to be one; whether anything is trusted is not decided here.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The longest certificate or key file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Access to a secret's file that nobody needs: writing by the group, and reading
/// and writing by others. The group may read: that is how a daemon that is not root gets
/// at a key that root owns.
pub const EXPOSED_MODE: u32 = 0o026;

/// Why a file's certificates or key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// A file could not be read.
    #[error("{}: cannot be read; check the path and that the agent's user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is longer than a certificate file can be.
    #[error("{}: longer than {MAX_FILE_BYTES} bytes, so not a certificate or key; check the path", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A private key that others can get at.
    #[error("{}: a private key that others may read or write (mode {mode:04o}); run: chmod 0640 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not PEM, or has nothing of the sort that it should have.
    #[error("{}: has no usable {wanted}; write it in PEM, from \"-----BEGIN\" to \"-----END\"", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// A certificate of a CA file cannot be used to check others.
    #[error("{}: certificate {number} in it cannot be a CA; write CA certificates only", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// The certificates of a file, at least one. Blocks on the disk.
///
/// # Errors
/// [`PemError`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let pem = read(path, 0)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| PemError::NotPem {
            path: path.into(),
            wanted: "certificate",
        })
}

/// The private key of a file that only its owner and group may read. Blocks on the disk.
///
/// # Errors
/// [`PemError`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let pem = read(path, EXPOSED_MODE)?;
    // The parser's error may quote the file: it is left out.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| PemError::NotPem {
        path: path.into(),
        wanted: "private key",
    })
}

/// The certificates of a file as authorities, to check others with. Blocks on the disk.
///
/// # Errors
/// [`PemError`].
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(path)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|source| PemError::BadAuthority {
                path: path.into(),
                number: index + 1,
                source,
            })?;
    }
    Ok(roots)
}

/// Reads a file, unless its mode has one of the bits of `forbidden_mode`.
fn read(path: &Path, forbidden_mode: u32) -> Result<Vec<u8>, PemError> {
    let unreadable = |source| PemError::Unreadable {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    // Of the open file, so that what is checked is what is read.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & forbidden_mode != 0 {
        return Err(PemError::Exposed {
            path: path.into(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(PemError::TooLong { path: path.into() });
    }
    Ok(bytes)
}
