//! Every example in the help parses, and arguments become the values they mean.

use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::Path;

use clap::CommandFactory;

use super::arguments::{duration, memory_size, row_count};
use super::*;
use crate::exit::{Exit, Failure};
use crate::formats::{Format, Layout};

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("holdfast").chain(arguments.iter().copied()))
}

/// Splits as a shell does, as far as our examples need: spaces, and single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_leaves_out_global_options_without_meaning() {
    let mut all = Cli::definition();
    let mut help = |name: &str| all.find_subcommand_mut(name).unwrap().render_long_help().to_string();
    for name in ["tour", "bench", "verify", "completions"] {
        let text = help(name);
        for option in ["--keyspace", "--key-format", "--value-format", "--retain-commits"] {
            assert!(!text.contains(option), "{name} {option}: {text}");
        }
        assert_eq!(text.contains("--json"), name != "completions", "{name}: {text}");
    }
    for option in [
        "--json",
        "--keyspace",
        "--key-format",
        "--value-format",
        "--retain-commits",
        "--memory-limit",
        "--log",
    ] {
        assert!(help("get").contains(option), "{option}");
    }
    for (name, opens_by_it) in [("bench", true), ("restore", true), ("verify", false), ("tour", false)] {
        assert_eq!(help(name).contains("--memory-limit"), opens_by_it, "{name}");
    }
    // They are still taken, before the command and behind it.
    for arguments in
        [["holdfast", "-k", "people", "verify", "db"], ["holdfast", "verify", "db", "-k", "people"]]
    {
        let matches = Cli::definition().try_get_matches_from(arguments).unwrap();
        assert_eq!(Cli::from_arg_matches(&matches).unwrap().global.keyspace, "people");
    }
    Cli::definition().debug_assert();
}

#[test]
fn a_size_of_memory_is_bytes_or_has_a_unit() {
    for (text, bytes) in [
        ("67108864", 64 << 20),
        ("67_108_864", 64 << 20),
        ("64MiB", 64 << 20),
        ("2GiB", 2 << 30),
        ("1024GiB", 1 << 40),
    ] {
        assert_eq!(memory_size(text), Ok(bytes), "{text}");
    }
    for text in ["", "0", "63MiB", "67108863", "1025GiB", "MiB", "99999999999999999999", "99999999999999GiB"]
    {
        assert!(memory_size(text).unwrap_err().contains("between 64MiB and 1024GiB"), "{text}");
    }
    for text in ["64M", "64 MiB", "64mib", "-1", "1.5GiB"] {
        assert!(memory_size(text).unwrap_err().contains("with a unit"), "{text}");
    }
}

#[test]
fn every_command_has_examples_and_each_of_them_parses() {
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let help = command.get_after_help().unwrap_or_else(|| panic!("{name} has no examples")).to_string();
        let examples: Vec<_> = help.lines().filter(|line| line.contains(" holdfast ")).collect();
        assert!(!examples.is_empty(), "{name} has no examples");
        for example in examples {
            // Pipes and redirections around the call belong to the shell.
            let call = example.split('|').find(|part| part.contains(" holdfast ")).unwrap();
            let call = call.split('>').next().unwrap();
            let words = words(call);
            assert_eq!(words[1], name, "{example}");
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{example}\n{error}");
            }
        }
    }
}

#[test]
fn every_public_argument_says_what_it_is() {
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
    }
}

#[test]
fn wrong_use_ends_with_2() {
    for arguments in [
        &["get", "db"][..],
        &["put", "db", "key"],
        &["put", "db", "key", "value", "--file", "f"],
        &["delete", "db"],
        &["delete", "db", "key", "--prefix", "p"],
        &["scan", "db", "--prefix", "p", "--from", "a"],
        &["scan", "db", "--limit", "0"],
        &["stats", "db", "--watch", "2"],
        &["stats", "db", "--prometheus", "--json"],
        &["import", "db", "f.csv", "--delimiter", "ab"],
        &["bench", "--rows", "0"],
        &["frobnicate"],
    ] {
        let error = parse(arguments).expect_err(&arguments.join(" "));
        assert_eq!(error.exit_code(), i32::from(Exit::WrongUse as u8), "{arguments:?}");
    }
}

fn bounds(arguments: &[&str]) -> Result<KeyBounds, Failure> {
    let cli = parse(&[&["count", "db"], arguments].concat()).unwrap();
    let Command::Count { range, .. } = cli.command else { panic!("count was asked") };
    range.bounds(&cli.global)
}

#[test]
fn ranges_become_bounds() {
    let key = |bytes: &[u8]| bytes.to_vec();
    assert_eq!(bounds(&[]).unwrap(), (Unbounded, Unbounded));
    assert_eq!(bounds(&["--prefix", "ab"]).unwrap(), (Included(key(b"ab")), Excluded(key(b"ac"))));
    assert_eq!(bounds(&["-p", r"a\xff\xff"]).unwrap(), (Included(key(b"a\xff\xff")), Excluded(key(b"b"))));
    assert_eq!(bounds(&["-p", r"\xff"]).unwrap(), (Included(key(b"\xff")), Unbounded));
    assert_eq!(bounds(&["--from", "a"]).unwrap(), (Included(key(b"a")), Unbounded));
    assert_eq!(bounds(&["--to", "6162", "--key-format", "hex"]).unwrap(), (Unbounded, Excluded(key(b"ab"))));
    let (start, end) = holdfast::key::prefix_range(&(42u8, "x"));
    let tuple = bounds(&["--key-format", "tuple", "--prefix", "(42, \"x\")"]).unwrap();
    assert_eq!(tuple, (Included(start), Excluded(end)));
    let reversed = bounds(&["--from", "b", "--to", "a"]).unwrap_err().to_string();
    assert_eq!(reversed, "--from b sorts behind --to a");
    let bad = bounds(&["--prefix", "a\\q"]).unwrap_err();
    assert!(bad.exit() == Exit::WrongUse && bad.to_string().contains("at byte 1"), "{bad}");
}

fn layout(file: &str, arguments: &[&str]) -> Result<Layout, Failure> {
    let cli = parse(&[&["import", "db", file], arguments].concat()).unwrap();
    let Command::Import { file_layout, .. } = cli.command else { panic!("import was asked") };
    file_layout.layout(Path::new(file), &cli.global)
}

#[test]
fn names_and_options_become_layouts() {
    assert_eq!(layout("a.jsonl", &[]).unwrap(), Layout::default());
    let tabs = layout("a.TSV", &["--no-header"]).unwrap();
    assert_eq!(tabs, Layout { format: Format::Csv, delimiter: b'\t', header: false, ..Layout::default() });
    assert_eq!(layout("-", &["--format", "csv", "--delimiter", "tab"]).unwrap().delimiter, b'\t');
    assert_eq!(layout("a.tsv", &["--delimiter", ";"]).unwrap().delimiter, b';');
    assert!(layout("-", &[]).unwrap_err().to_string().contains("--format"));
    assert!(layout("a.jsonl", &["--no-header"]).unwrap_err().to_string().contains("CSV only"));
    let two = ["--key-column", "a", "--key-column", "b"];
    assert!(layout("a.csv", &two).unwrap_err().to_string().contains("--key-format tuple"));
    let tuple = layout("a.csv", &[&two[..], &["--key-format", "tuple"]].concat()).unwrap();
    assert_eq!(tuple.key_columns, ["a", "b"]);
}

#[test]
fn times_have_units_and_limits() {
    use std::time::Duration;
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    for bad in ["", "2", "s", "1h", "0s", "99999999999999999999m", "1441m"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
    assert_eq!(row_count("1_000_000"), Ok(1_000_000));
}
