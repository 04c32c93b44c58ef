//! Where the packages are, and what their own tools say of them. It builds none.

use std::path::{Path, PathBuf};
use std::process::Command;

use vmconsole_tests::{image, setup};

/// The one package of this kind.
pub(crate) fn package(extension: &str) -> PathBuf {
    let cache = image::cache_dir();
    let target = cache.parent().expect("the cache lies in the target");
    let dir = target.join("packages-test");
    let mut found: Vec<_> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    let package = found.pop().unwrap_or_else(|| {
        panic!(
            "no .{extension} in {}; run: packaging/build.sh --test",
            dir.display()
        )
    });
    assert!(found.is_empty(), "more than one .{extension}: {found:?}");
    package
}

/// What `program` prints about `package`.
pub(crate) fn ask(program: &str, args: &[&str], package: &Path) -> String {
    let output = Command::new(setup::program(program))
        .args(args)
        .arg(package)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
