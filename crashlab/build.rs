//! Tells the program of which commit and of which files it is built, for what it prints beside a failure and what it keeps.
//!
//! `CRASHLAB_COMMIT` is git's name of the commit, with `+dirty` behind it if something that the program is built from was
//! changed since; `unknown` where there is no git, or the sources are in no repository of their own. `CRASHLAB_SOURCES` says
//! what it is built from. Both are made anew when the commit moves, or one of the sources.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the program is built from, and how, seen from the root of the repository.
const SOURCES: [&str; 14] = [
    "kernel/src",
    "kernel/Cargo.toml",
    "sim/src",
    "sim/macros",
    "sim/build.rs",
    "sim/Cargo.toml",
    "workloads/src",
    "workloads/Cargo.toml",
    "crashlab/src",
    "crashlab/build.rs",
    "crashlab/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/config.toml",
];
/// Where git keeps what the commit is read from: which branch, where each branch stands, and where those stand that have no
/// file of their own.
const STATE: [&str; 3] = ["HEAD", "refs/heads", "packed-refs"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let commit = commit_of(&root).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=CRASHLAB_COMMIT={commit}");
    println!("cargo::rustc-env=CRASHLAB_SOURCES={}", SOURCES.join(" "));
}

fn commit_of(root: &Path) -> Option<String> {
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let mut watched: Vec<PathBuf> = SOURCES.iter().map(|path| root.join(path)).collect();
    for state in STATE {
        watched.push(root.join(git(root, &["rev-parse", "--git-path", state])?));
    }
    for path in watched.iter().filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let commit = git(root, &["rev-parse", "HEAD"])?;
    let status = ["status", "--porcelain", "--untracked-files=no", "--"];
    let changes = git(root, &[&status[..], &SOURCES].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit}+dirty") })
}

/// What git prints, if it is there and succeeds. It is not to write anything that is watched here.
fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").arg("--no-optional-locks").current_dir(root).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
