//! A full disk, for real: fill until `DiskFull`, keep reading, free space, go on, lose nothing.
//!
//! With `--quick` the disk is a tmpfs of 64 MiB inside a mount namespace of our own, which needs no root. Without it
//! the same runs on loop-mounted ext4, xfs and btrfs images, which needs root and the tools that make them; what is
//! missing is installed with apt, or named.
//!
//! What is judged, on each disk:
//! - a database with default options opens, works, closes and opens again;
//! - a commit that finds no room says `DiskFull`, or `CommitUnknown` if it met the full disk in its sync; nothing of it
//!   is visible, not after reopening either once a later one succeeded; everything acknowledged is read while the disk
//!   is full;
//! - once space appears (a file removed; keys removed and compacted; inodes freed), commits succeed again within a
//!   second (a target) or at all (a wrong answer if not), in the same opening. Removing keys frees space only where
//!   compaction has room for what stays of the tables it merges, so a fifth of the disk is given back before;
//! - at the end, before and after reopening, every acknowledged record is there with its value and nothing else is.

mod load;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use holdfast::Options;
use holdfast::env::linux::block_on;
use holdfast_workloads::random::fill;
use holdfast_workloads::scratch::bytes_of;
use holdfast_workloads::{Report, Scratch, SelfTest};

use load::Load;

const QUICK_MIB: u64 = 64;
const IMAGE_MIB: u64 = 320;
/// Writes that do not resume by then never will.
const PATIENCE: Duration = Duration::from_secs(30);
/// Inodes of the disk that runs out of them.
const INODES: u64 = 64;

/// Fills a small disk with a database, frees space, and verifies that writes resume and nothing is lost.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  disk_full --quick\n  disk_full                 (as root: ext4, xfs, btrfs)\n  disk_full --file-system xfs\n  disk_full --self-test"
)]
struct Arguments {
    /// On a tmpfs of 64 MiB only; needs no root.
    #[arg(long)]
    quick: bool,
    /// Only this file system, on a loop-mounted image; as root. All three if not given.
    #[arg(long, value_enum, conflicts_with_all = ["quick", "self_test"])]
    file_system: Option<FileSystem>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Plant defects and succeed only if each is reported.
    #[arg(long)]
    self_test: bool,
    /// Work on the file systems mounted under this directory, inside the namespace.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// A file system whose images are made and mounted.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

impl FileSystem {
    /// Its name, and the Debian package of the tool that makes it.
    fn kind_and_package(self) -> (&'static str, &'static str) {
        match self {
            Self::Ext4 => ("ext4", "e2fsprogs"),
            Self::Xfs => ("xfs", "xfsprogs"),
            Self::Btrfs => ("btrfs", "btrfs-progs"),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(mounts) = &arguments.inside {
        return inside(&arguments, mounts);
    }
    if arguments.quick || arguments.self_test {
        return enter_namespace(&arguments);
    }
    let mut report = Report::new("disk_full", arguments.json);
    for system in FileSystem::value_variants() {
        if arguments.file_system.is_some_and(|only| only != *system) {
            continue;
        }
        let (kind, package) = system.kind_and_package();
        report.say(&format!("{kind}, {IMAGE_MIB} MiB:"));
        if let Err(failure) = on_image(kind, package, &mut report) {
            report.wrong(format!("{kind}: {failure}"));
        }
    }
    report.finish()
}

/// Starts this program again in user and mount namespaces of its own, with two small disks mounted.
fn enter_namespace(arguments: &Arguments) -> ExitCode {
    let scratch = match Scratch::new("disk-full", None) {
        Ok(scratch) => scratch,
        Err(error) => {
            eprintln!("no scratch directory: {error}");
            return ExitCode::from(2);
        }
    };
    let script = format!(
        "mkdir -p \"$1/bytes\" \"$1/inodes\" && mount -t tmpfs -o size={QUICK_MIB}m tmpfs \"$1/bytes\" && \
         mount -t tmpfs -o size={QUICK_MIB}m,nr_inodes={INODES} tmpfs \"$1/inodes\" && shift && exec \"$@\""
    );
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("this program's own path is unknown: {error}");
            return ExitCode::from(2);
        }
    };
    let mut command = Command::new("unshare");
    command.args(["-rUm", "sh", "-c", &script, "sh"]).arg(scratch.path()).arg(program);
    command.arg("--inside").arg(scratch.path());
    command.args(arguments.json.then_some("--json")).args(arguments.self_test.then_some("--self-test"));
    match command.status() {
        Ok(status) => ExitCode::from(status.code().map_or(1, |code| code.clamp(0, 255) as u8)),
        Err(error) => {
            eprintln!("`unshare` could not be started: {error}; it comes with the package util-linux");
            ExitCode::from(1)
        }
    }
}

fn inside(arguments: &Arguments, mounts: &Path) -> ExitCode {
    if arguments.self_test {
        return self_test(arguments, &mounts.join("bytes"));
    }
    let mut report = Report::new("disk_full", arguments.json);
    report.say(&format!("tmpfs, {QUICK_MIB} MiB:"));
    let outcome = works_by_default(&mounts.join("bytes"), &mut report)
        .and_then(|()| out_of_bytes(&mounts.join("bytes"), QUICK_MIB, None, &mut report))
        .and_then(|()| {
            report.say(&format!("tmpfs, {INODES} inodes:"));
            out_of_inodes(&mounts.join("inodes"), &mut report)
        });
    if let Err(failure) = outcome {
        report.wrong(failure);
    }
    report.finish()
}

/// The run on a loop-mounted image of one kind of file system.
fn on_image(kind: &str, package: &str, report: &mut Report) -> Result<(), String> {
    let tool = format!("mkfs.{kind}");
    if !is_there(&tool) {
        let installed = Command::new("apt-get").args(["install", "--yes", "--quiet", package]).output();
        if !installed.is_ok_and(|output| output.status.success()) || !is_there(&tool) {
            return Err(format!(
                "{tool} is missing and could not be installed: install the package {package}"
            ));
        }
    }
    let scratch = Scratch::new("disk-full", None).map_err(|error| error.to_string())?;
    let (image, mount) = (scratch.path().join("image"), scratch.path().join("mount"));
    std::fs::create_dir(&mount).map_err(|error| error.to_string())?;
    let file = File::create(&image).map_err(|error| error.to_string())?;
    file.set_len(IMAGE_MIB << 20).map_err(|error| error.to_string())?;
    drop(file);
    let quiet: &[&str] = if kind == "ext4" { &["-q", "-m", "0"] } else { &["-q"] };
    succeed(Command::new(&tool).args(quiet).arg(&image))?;
    succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mount))?;
    let outcome =
        works_by_default(&mount, report).and_then(|()| out_of_bytes(&mount, IMAGE_MIB, None, report));
    let unmounted = unmount(&mount);
    outcome.and(unmounted)
}

/// Unmounts, with patience: the tasks of a database that was dropped and not closed end by themselves, but later.
fn unmount(mount: &Path) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match succeed(Command::new("umount").arg(mount)) {
            Err(busy) if began.elapsed() > PATIENCE => return Err(busy),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(()) => return Ok(()),
        }
    }
}

fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/sbin", "/usr/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).any(|dir| dir.join(tool).is_file())
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A default database opens and works in little space.
fn works_by_default(disk: &Path, report: &mut Report) -> Result<(), String> {
    let dir = disk.join("default");
    let mut load = Load::open(&dir, Options::default())?;
    load.fill_up(2000, report)?;
    load.verify("a default database", report)?;
    block_on(load.db.compact()).map_err(|error| format!("compacting: {error}"))?;
    load.fill_up(200, report)?;
    let load = load.reopen()?;
    load.verify("a default database, reopened", report)?;
    load.close()?;
    let bytes = bytes_of(&dir).map_err(|error| error.to_string())?;
    report.figure("a default database of 8.4 MiB, closed", bytes as f64 / 1_048_576.0, "MiB");
    std::fs::remove_dir_all(&dir).map_err(|error| error.to_string())
}

/// A defect to plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    /// The ledger holds a record that was never written.
    InventedRecord,
    /// A record is removed behind the ledger's back.
    LostRecord,
    /// A record of which the ledger knows nothing is there, as if a refused commit had been made.
    ExtraRecord,
    /// The space is never freed, so writes cannot resume.
    SpaceStaysTaken,
}

impl Defect {
    /// What the report must say of it; anything else shows that something else is broken.
    fn words(self) -> &'static str {
        match self {
            Self::InventedRecord | Self::LostRecord => "LOST: get does not give record",
            Self::ExtraRecord => "1 records are there that were never acknowledged",
            Self::SpaceStaysTaken => "writes did not resume",
        }
    }
}

/// Fills the disk, frees a file, fills again, frees keys; reads all the time.
fn out_of_bytes(
    disk: &Path,
    mebibytes: u64,
    defect: Option<Defect>,
    report: &mut Report,
) -> Result<(), String> {
    let (first, second) = (disk.join("ballast-1"), disk.join("ballast-2"));
    take_space(&first, 6 << 20)?;
    take_space(&second, (mebibytes << 20) / 5)?;
    let mut load = Load::open(&disk.join("db"), Options::default())?;
    if defect == Some(Defect::LostRecord) {
        load.lose_one()?;
    }
    let began = Instant::now();
    let written = load.fill_up(u64::MAX, report)?;
    report.figure("filled: records acknowledged", written as f64, "");
    report.figure("filled: rate", written as f64 / began.elapsed().as_secs_f64(), "/s");
    match defect {
        Some(Defect::InventedRecord) => drop(load.kept.insert(u64::MAX, 0)),
        Some(Defect::ExtraRecord) => drop(load.kept.pop_first()),
        _ => {}
    }
    load.verify("while the disk is full", report)?;
    if defect != Some(Defect::SpaceStaysTaken) {
        std::fs::remove_file(&first).map_err(|error| error.to_string())?;
    }
    let patience = if defect.is_some() { Duration::from_secs(1) } else { PATIENCE };
    load.resume("after a file was removed", patience, report)?;
    load.fill_up(u64::MAX, report)?;
    load.verify("while the disk is full again", report)?;

    // Removing keys takes room in the log, and compacting takes room for what stays.
    std::fs::remove_file(&second).map_err(|error| error.to_string())?;
    load.resume("after a second file was removed", patience, report)?;
    let before = bytes_of(&disk.join("db")).map_err(|error| error.to_string())?;
    load.remove_most(report)?;
    let began = Instant::now();
    load.compact(report)?;
    report.figure("compaction on a nearly full disk", began.elapsed().as_secs_f64() * 1e3, "ms");
    // Files that a compaction has replaced are removed behind it; only an idle database has let all of them go.
    block_on(load.db.wait_idle()).map_err(|error| format!("becoming idle: {error}"))?;
    let after = bytes_of(&disk.join("db")).map_err(|error| error.to_string())?;
    report.figure("freed by removing three quarters", (before as f64 - after as f64) / 1_048_576.0, "MiB");
    load.resume("after keys were removed", patience, report)?;
    let more = load.fill_up(written / 4, report)?;
    report.check(more == written / 4, || {
        format!("only {more} of {} records found room where {written} had been", written / 4)
    });
    load.verify("after keys were removed", report)?;
    report.figure("commits answered CommitUnknown", load.unknown as f64, "");
    let load = load.reopen()?;
    load.verify("reopened", report)?;
    load.close()?;
    std::fs::remove_dir_all(disk.join("db")).map_err(|error| error.to_string())
}

/// Takes all inodes, waits for `DiskFull`, and gives them back.
fn out_of_inodes(disk: &Path, report: &mut Report) -> Result<(), String> {
    let options = Options {
        memtable_bytes: 64 << 10,
        memory_limit_bytes: 8 << 20,
        log_segment_bytes_max: 256 << 10,
        log_bytes_max: 1 << 20,
        ..Options::default()
    };
    let mut load = Load::open(&disk.join("db"), options)?;
    load.fill_up(100, report)?;
    let mut taken = Vec::new();
    loop {
        let path = disk.join(format!("inode-{}", taken.len()));
        match File::create(&path) {
            Ok(_) => taken.push(path),
            Err(_) if !taken.is_empty() => break,
            Err(error) => return Err(format!("taking inodes: {error}")),
        }
    }
    // The records together fit the disk well, so only the inodes can stop them.
    let written = load.fill_up(8000, report)?;
    report.check(written < 8000, || "writes went on though the disk had no inode left".to_string());
    report.figure("records acknowledged without inodes", written as f64, "");
    load.verify("while the disk has no inodes", report)?;
    for path in &taken {
        std::fs::remove_file(path).map_err(|error| error.to_string())?;
    }
    load.resume("after inodes were freed", PATIENCE, report)?;
    let more = load.fill_up(1000, report)?;
    report.check(more == 1000, || format!("only {more} of 1000 records found an inode"));
    let load = load.reopen()?;
    load.verify("reopened", report)?;
    load.close()
}

/// Writes a file that takes real space.
fn take_space(path: &Path, bytes: u64) -> Result<(), String> {
    let mut content = vec![0; bytes as usize];
    fill(bytes, &mut content);
    let written = File::create(path).and_then(|mut file| {
        file.write_all(&content)?;
        file.sync_all()
    });
    written.map_err(|error| format!("taking space: {error}"))
}

/// Plants each defect into a run of its own, after a run without any.
fn self_test(arguments: &Arguments, disk: &Path) -> ExitCode {
    let mut test = SelfTest::new("disk_full", arguments.json);
    let sound = wrongs_of(disk, None);
    if let Some(wrong) = sound.first() {
        eprintln!("disk_full --self-test: a run without a defect fails, so nothing can be shown: {wrong}");
        return ExitCode::from(2);
    }
    for defect in [Defect::InventedRecord, Defect::LostRecord, Defect::ExtraRecord, Defect::SpaceStaysTaken] {
        let mut found = wrongs_of(disk, Some(defect));
        found.retain(|wrong| wrong.contains(defect.words()));
        test.planted(&format!("{defect:?}"), &found);
    }
    test.finish()
}

/// What a run with this defect reports.
fn wrongs_of(disk: &Path, defect: Option<Defect>) -> Vec<String> {
    let mut report = Report::silent("disk_full");
    if let Err(failure) = out_of_bytes(disk, QUICK_MIB, defect, &mut report) {
        report.wrong(failure);
    }
    for name in ["db", "ballast-1", "ballast-2"] {
        let path = disk.join(name);
        drop(std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path)));
    }
    report.wrongs().to_vec()
}
