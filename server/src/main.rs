//! The binary `holdfast`: reads the arguments, runs the command, ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use holdfast_server::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_json = cli.global.json;
    let exit = holdfast_server::commands::run(cli).unwrap_or_else(|failure| {
        if let Some(message) = failure.message(as_json) {
            eprintln!("{message}");
        }
        failure.exit()
    });
    exit.into()
}
