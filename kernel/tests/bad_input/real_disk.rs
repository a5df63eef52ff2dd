//! The refusals that depend on the system, on a real disk.

use holdfast::env::IoErrorKind;
use holdfast::{Error, Options};

use super::says;
use crate::support::scene::{Image, Scratch, assert_same, real_image, small_options};

#[test]
fn a_full_set_of_refusals_on_a_real_disk() {
    let scratch = Scratch::new("bad-input");
    let dir = scratch.path().join("db");
    let open = |options: Options| holdfast::blocking::Db::open(&dir, options);
    let existing = Options { create_if_missing: false, ..small_options() };
    let same =
        |before: &Image, what: &Error| assert_same(before, &real_image(scratch.path()), &what.to_string());

    let nothing = real_image(scratch.path());
    let error = open(existing.clone()).err().unwrap();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    same(&nothing, &error);
    let error = open(Options { at_least: 1, ..small_options() }).err().unwrap();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    same(&nothing, &error);
    let error = holdfast::blocking::Db::open(dir.join("deeper"), small_options()).err().unwrap();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    same(&nothing, &error);

    let db = open(small_options()).unwrap();
    db.default_keyspace().unwrap().put("k", "v").unwrap();
    db.close().unwrap();
    let whole = real_image(scratch.path());
    let error = holdfast::blocking::Db::open(dir.join("CURRENT"), small_options()).err().unwrap();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    says(&error, &["CURRENT", "not a directory"]);
    same(&whole, &error);

    let at = |name: &str| {
        let ends = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with(name);
        whole.keys().find(ends).unwrap_or_else(|| panic!("there is no {name}")).clone()
    };
    for name in [".manifest", ".log", ".table"] {
        let path = at(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let before = real_image(scratch.path());
        let error = open(small_options()).err().unwrap();
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}");
        says(&error, &[name, "missing"]);
        same(&before, &error);
        std::fs::write(&path, bytes).unwrap();
    }
    for name in ["CURRENT", "LOCK", ".manifest", ".log", ".table"] {
        let path = at(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = open(small_options()).err().unwrap();
        says(&error, &[name]);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    // Through a link the lock would be made elsewhere, and keep nobody out of here.
    let (lock, outside) = (at("LOCK"), scratch.path().with_extension("outside"));
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&outside, &lock).unwrap();
    let error = open(small_options()).err().unwrap();
    says(&error, &["LOCK", "symbolic link", "move it away"]);
    assert!(!outside.exists());
    std::fs::remove_file(&lock).unwrap();
    let db = open(existing).unwrap();
    assert!(db.default_keyspace().unwrap().get("k").unwrap().is_some_and(|value| value == "v"));
    db.close().unwrap();
}

/// Permissions bind everybody but the superuser, so this asks the system first whether they bind us.
#[test]
fn a_read_only_directory_on_a_real_disk() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("read-only-directory");
    let dir = scratch.path().join("db");
    let db = holdfast::blocking::Db::open(&dir, small_options()).unwrap();
    db.default_keyspace().unwrap().put("k", "v").unwrap();
    db.close().unwrap();
    let all = |mode: u32, files: u32| {
        for path in real_image(&dir).keys() {
            std::fs::set_permissions(path, PermissionsExt::from_mode(files)).unwrap();
        }
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
    };
    all(0o555, 0o444);
    let before = real_image(&dir);
    let superuser = std::fs::write(dir.join("probe"), b"").is_ok();
    drop(std::fs::remove_file(dir.join("probe")));
    if !superuser {
        let error = holdfast::blocking::Db::open(&dir, small_options()).err().unwrap();
        assert!(matches!(&error, Error::Io(io) if io.kind == IoErrorKind::Permission), "{error}");
        says(&error, &[&dir.display().to_string()]);
    }
    let view = holdfast::blocking::Db::open_read_only(&dir, small_options()).unwrap();
    let value = view.keyspace("default").unwrap().get("k").unwrap();
    assert!(value.is_some_and(|value| value == "v"));
    drop(view);
    assert_same(&before, &real_image(&dir), "a look at a read-only directory");
    all(0o755, 0o644);
}
