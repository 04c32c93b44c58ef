//! What is in the packages, read on this host: nothing is installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::built::{ask, package};

/// What a host needs to run the agent, with modes. All of it is root's.
const FILES: &[(&str, &str)] = &[
    ("/etc/vmconsole-agent/config.toml", "-rw-r--r--"),
    ("/usr/bin/vmconsole-agent", "-rwxr-xr-x"),
    ("/usr/bin/vmconsolectl", "-rwxr-xr-x"),
    (
        "/usr/lib/systemd/system/vmconsole-agent.service",
        "-rw-r--r--",
    ),
    ("/usr/lib/sysusers.d/vmconsole-agent.conf", "-rw-r--r--"),
    ("/usr/lib/tmpfiles.d/vmconsole-agent.conf", "-rw-r--r--"),
    ("/usr/share/doc/vmconsole-agent/copyright", "-rw-r--r--"),
    ("/usr/share/man/man1/vmconsolectl.1.gz", "-rw-r--r--"),
    ("/usr/share/man/man8/vmconsole-agent.8.gz", "-rw-r--r--"),
    (
        "/usr/share/vmconsole-agent/proto/vmconsole/v1/console_service.proto",
        "-rw-r--r--",
    ),
];

/// Where the distributions' own rules differ: names of change logs and licences.
const DOCS: &str = "/usr/share/doc/";
const LICENSES: &str = "/usr/share/licenses/";

/// Mode and owner by path, of everything but directories.
type Listing = BTreeMap<String, (String, String)>;

fn deb_listing() -> Listing {
    let listed = ask("dpkg-deb", &["--contents"], &package("deb"));
    let entry = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [mode, owner, _size, _date, _time, path] = fields[..] else {
            panic!("not a line of dpkg-deb: {line}");
        };
        let path = path.trim_start_matches('.').to_owned();
        let owner = owner.replace("0/0", "root/root");
        (path, (mode.to_owned(), owner))
    };
    listed
        .lines()
        .map(entry)
        .filter(|(_, (mode, _))| !mode.starts_with('d'))
        .collect()
}

fn rpm_listing() -> Listing {
    let format = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\\n]";
    let listed = ask("rpm", &["-qp", "--queryformat", format], &package("rpm"));
    let entry = |line: &str| {
        let mut fields = line.splitn(3, ' ').map(str::to_owned);
        let mut field = || fields.next().unwrap();
        let (mode, owner) = (field(), field());
        (field(), (mode, owner))
    };
    listed.lines().map(entry).collect()
}

/// Unpacks both, and returns where.
fn unpacked(dir: &Path) {
    // rpm2cpio's own status says whether the archive is as long as the package says, which
    // cargo-generate-rpm leaves out.
    let script = "mkdir deb rpm && dpkg-deb --extract \"$1\" deb && cd rpm &&
        rpm2cpio \"$2\" | cpio --extract --quiet --make-directories";
    let status = Command::new("sh")
        .args(["-euc", script, "sh"])
        .args([package("deb"), package("rpm")])
        .current_dir(dir)
        .status();
    assert!(status.unwrap().success(), "the packages cannot be unpacked");
}

#[test]
fn what_a_host_needs_is_in_both_packages_with_safe_modes() {
    let (deb, rpm) = (deb_listing(), rpm_listing());
    for &(path, mode) in FILES {
        let in_deb = deb.get(path).unwrap_or_else(|| panic!("{path}: no DEB"));
        assert_eq!(in_deb, &(mode.to_owned(), "root/root".to_owned()), "{path}");
        let in_rpm = rpm.get(path).unwrap_or_else(|| panic!("{path}: no RPM"));
        assert_eq!(in_rpm, &(mode.to_owned(), "root/root".to_owned()), "{path}");
    }
    for (path, (mode, _)) in deb.iter().chain(&rpm) {
        let world_writable = mode.as_bytes()[8] == b'w';
        assert!(!world_writable && !mode.contains('s'), "{path}: {mode}");
    }
}

#[test]
fn the_packages_hold_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    unpacked(dir.path());
    let programs = |listing: Listing| -> Vec<String> {
        let kept = |path: &String| !path.starts_with(DOCS) && !path.starts_with(LICENSES);
        listing.into_keys().filter(kept).collect()
    };
    let (deb, rpm) = (programs(deb_listing()), programs(rpm_listing()));
    assert_eq!(deb, rpm);
    for path in deb {
        // Each tool compresses manual pages its own way.
        if path.ends_with(".gz") {
            continue;
        }
        let read = |kind: &str| std::fs::read(dir.path().join(format!("{kind}{path}"))).unwrap();
        assert!(read("deb") == read("rpm"), "{path} differs");
    }
}

#[test]
fn each_package_depends_on_what_the_programs_link_and_nothing_of_this_host() {
    let rpm = ask("rpm", &["-qp", "--requires"], &package("rpm"));
    for needed in ["libvirt.so.0()(64bit)", "systemd", "shadow-utils"] {
        assert!(rpm.lines().any(|line| line == needed), "{needed}: {rpm}");
    }
    // What libvirt's library needs is libvirt's to say.
    assert!(!rpm.contains("libcurl"), "{rpm}");
    let deb = ask("dpkg-deb", &["--field"], &package("deb"));
    let depends = deb.lines().find(|line| line.starts_with("Depends:"));
    let depends = depends.unwrap_or_else(|| panic!("no Depends: {deb}"));
    for needed in ["libc6 (>=", "libvirt0 (>=", "passwd", "systemd"] {
        assert!(depends.contains(needed), "{needed}: {depends}");
    }
}

#[test]
fn the_configuration_is_the_operators_in_both_packages() {
    let control = tempfile::tempdir().unwrap();
    let to = control.path().to_str().unwrap();
    let deb = package("deb");
    ask(
        "dpkg-deb",
        &["--control", deb.to_str().unwrap()],
        Path::new(to),
    );
    let conffiles = std::fs::read_to_string(control.path().join("conffiles")).unwrap();
    assert_eq!(conffiles.trim(), "/etc/vmconsole-agent/config.toml");
    let format = "[%{FILEFLAGS:fflags} %{FILENAMES}\\n]";
    let flags = ask("rpm", &["-qp", "--queryformat", format], &package("rpm"));
    // A configuration ("c") that an upgrade does not replace ("n").
    assert!(
        flags.contains("cn /etc/vmconsole-agent/config.toml"),
        "{flags}"
    );
}
