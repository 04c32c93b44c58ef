//! The proxy's certificate and key, and the CA that the agent's certificate must come from.
//!
//! Refuses to fall back to another directory once one is chosen: a mix of two PKIs fails
//! in ways that nobody can read from a TLS alert.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, Identity};

use super::ConnectError;

/// Where the agent's packages keep the host's own files.
const SYSTEM_DIRECTORY: &str = "/etc/vmconsole-agent/pki";

/// The same for one user, below the home directory.
const USER_DIRECTORY: &str = ".config/vmconsole";

/// The largest PEM file that is read, in bytes.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Which files to use, where the caller named any.
#[derive(Clone, Debug, Default)]
pub(crate) struct CredentialPaths {
    /// The proxy's certificate.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
    /// The CA of the agent's certificate.
    pub(crate) ca: Option<PathBuf>,
}

/// Where files are looked for that the caller did not name.
#[derive(Debug)]
pub(crate) struct Places(Vec<PathBuf>);

impl Places {
    /// `pki`, if set, alone; else the user's directory, then the system's.
    pub(crate) fn new(pki: Option<PathBuf>, home: Option<PathBuf>) -> Self {
        match pki {
            Some(directory) => Self(vec![directory]),
            None => {
                let user = home.map(|home| home.join(USER_DIRECTORY));
                Self(
                    user.into_iter()
                        .chain([PathBuf::from(SYSTEM_DIRECTORY)])
                        .collect(),
                )
            }
        }
    }

    /// The first directory that has any of the wanted files.
    fn choose(&self, wanted: &[&str]) -> Result<&Path, ConnectError> {
        let has_any = |place: &&PathBuf| wanted.iter().any(|name| place.join(name).exists());
        let looked = || {
            self.0
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
        };
        self.0
            .iter()
            .find(has_any)
            .map(PathBuf::as_path)
            .ok_or_else(|| ConnectError::NoCredentials {
                files: wanted.join(", "),
                places: looked().join(", "),
            })
    }
}

/// What a connection needs, read into memory.
pub(crate) struct Credentials {
    /// Who we are.
    pub(crate) identity: Identity,
    /// Whom we trust.
    pub(crate) ca: Certificate,
}

impl Credentials {
    /// Reads the files named by the caller, and those not named from the first of the
    /// places that has any of them.
    ///
    /// # Errors
    /// [`ConnectError::NoCredentials`] if no place has a wanted file, [`ConnectError::Read`]
    /// and [`ConnectError::NotPem`] for a file that is unreadable or not what it should be.
    pub(crate) fn load(paths: &CredentialPaths, places: &Places) -> Result<Self, ConnectError> {
        let named = [
            (&paths.certificate, "proxy.crt"),
            (&paths.key, "proxy.key"),
            (&paths.ca, "ca.crt"),
        ];
        let wanted: Vec<_> = named
            .iter()
            .filter(|(path, _)| path.is_none())
            .map(|(_, name)| *name)
            .collect();
        let directory = match wanted.as_slice() {
            [] => None,
            wanted => Some(places.choose(wanted)?),
        };
        let resolve = |index: usize| {
            let (path, name): (&Option<PathBuf>, &str) = named[index];
            path.clone()
                .unwrap_or_else(|| directory.unwrap_or(Path::new("")).join(name))
        };
        let certificate = read_pem(&resolve(0), "CERTIFICATE-----")?;
        let key = read_pem(&resolve(1), "PRIVATE KEY-----")?;
        let ca = read_pem(&resolve(2), "CERTIFICATE-----")?;
        Ok(Self {
            identity: Identity::from_pem(certificate, key),
            ca: Certificate::from_pem(ca),
        })
    }
}

/// Reads a PEM file and checks that it holds a block of the kind that is meant.
fn read_pem(path: &Path, kind: &'static str) -> Result<Vec<u8>, ConnectError> {
    use std::io::Read as _;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(MAX_PEM_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| ConnectError::Read {
        path: path.to_owned(),
        source,
    })?;
    let begins = |line: &[u8]| {
        line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(kind.as_bytes())
    };
    if bytes.split(|b| *b == b'\n').any(begins) {
        Ok(bytes)
    } else {
        let kind = kind.trim_end_matches('-').to_ascii_lowercase();
        Err(ConnectError::NotPem {
            path: path.to_owned(),
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

    fn pki(home: &Path) -> PathBuf {
        let directory = home.join(USER_DIRECTORY);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("ca.crt"), CERTIFICATE).unwrap();
        fs::write(directory.join("proxy.crt"), CERTIFICATE).unwrap();
        fs::write(directory.join("proxy.key"), KEY).unwrap();
        directory
    }

    #[test]
    fn files_are_found_in_the_users_directory() {
        let home = tempfile::tempdir().unwrap();
        pki(home.path());
        let places = Places::new(None, Some(home.path().to_owned()));
        assert!(Credentials::load(&CredentialPaths::default(), &places).is_ok());
    }

    #[test]
    fn a_named_directory_is_the_only_one() {
        let home = tempfile::tempdir().unwrap();
        pki(home.path());
        let empty = tempfile::tempdir().unwrap();
        let places = Places::new(Some(empty.path().to_owned()), Some(home.path().to_owned()));
        let error = Credentials::load(&CredentialPaths::default(), &places)
            .err()
            .unwrap();
        assert!(
            matches!(&error, ConnectError::NoCredentials { places, .. }
            if *places == empty.path().display().to_string()),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_is_not_sought_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        let directory = pki(home.path());
        fs::remove_file(directory.join("proxy.key")).unwrap();
        let places = Places::new(None, Some(home.path().to_owned()));
        let error = Credentials::load(&CredentialPaths::default(), &places)
            .err()
            .unwrap();
        assert!(matches!(&error, ConnectError::Read { path, .. } if path.ends_with("proxy.key")));
    }

    #[test]
    fn a_key_where_a_certificate_belongs_is_told() {
        let home = tempfile::tempdir().unwrap();
        let directory = pki(home.path());
        let paths = CredentialPaths {
            ca: Some(directory.join("proxy.key")),
            ..Default::default()
        };
        let places = Places::new(Some(directory), None);
        let error = Credentials::load(&paths, &places).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("holds no certificate in PEM form"),
            "{error}"
        );
    }
}
