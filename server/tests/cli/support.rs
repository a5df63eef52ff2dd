//! Drives the built binary as a user does. Each test file takes what it needs of this.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

/// How a run ended.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().expect("it ended by itself"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Standard output of a run that must have gone well.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// Standard error of a run that must have ended with this code.
    #[track_caller]
    pub fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        assert!(self.err.starts_with("error: ") || self.err.contains("\nerror: "), "{}", self.err);
        self.err
    }

    /// Each line of standard output as JSON.
    #[track_caller]
    pub fn json(self) -> Vec<serde_json::Value> {
        let out = self.good();
        out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

/// The binary, to be run in `dir`.
pub fn holdfast(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.current_dir(dir).stdin(Stdio::null()).env_remove("HOLDFAST_LOG");
    command
}

/// The same, with the signals as `env` is told to set them. What a shell starts in the background ignores SIGINT, and so
/// does what the tests start then.
pub fn with_signals(dir: &Path, signals: &str) -> Command {
    let mut command = Command::new("env");
    command.args([signals, env!("CARGO_BIN_EXE_holdfast")]);
    command.current_dir(dir).stdin(Stdio::null()).env_remove("HOLDFAST_LOG");
    command
}

/// Runs it with these arguments.
pub fn run<A: AsRef<OsStr>>(dir: &Path, arguments: impl IntoIterator<Item = A>) -> Run {
    Run::of(holdfast(dir).args(arguments).output().unwrap())
}

/// Runs it with a line of arguments that hold no spaces.
pub fn line(dir: &Path, arguments: &str) -> Run {
    run(dir, arguments.split_whitespace())
}

/// Runs it with `input` on standard input.
pub fn piped(dir: &Path, arguments: &str, input: &str) -> Run {
    let mut child = holdfast(dir)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_string();
    let feeder = std::thread::spawn(move || pipe.write_all(input.as_bytes()));
    let run = Run::of(child.wait_with_output().unwrap());
    // The program may end before it has read everything.
    let _ = feeder.join().unwrap();
    run
}

/// A shell at the other end of two pipes.
pub fn converse(dir: &Path) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut shell = holdfast(dir)
        .args(["shell", "db"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, results) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    (shell, input, BufReader::new(results))
}

/// Sends a line and waits for a line.
pub fn ask(input: &mut ChildStdin, results: &mut BufReader<ChildStdout>, line: &str) -> String {
    input.write_all(format!("{line}\n").as_bytes()).unwrap();
    let mut result = String::new();
    results.read_line(&mut result).unwrap();
    result
}

/// Every file under a directory with its bytes.
pub fn image(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut image = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                image.insert(path.clone(), Vec::new());
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                image.insert(path, bytes);
            }
        }
    }
    image
}
