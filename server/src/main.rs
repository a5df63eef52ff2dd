//! The binary `holdfast`: reads the arguments, runs the command, ends with its exit code.

use std::process::ExitCode;

use holdfast_server::cli::{Cli, wrong_use_as_json, wrong_use_as_text};
use holdfast_server::exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            let as_json = wrong_use_as_json(&error, std::env::args_os());
            let Some(message) = as_json.or_else(|| wrong_use_as_text(&error)) else { error.exit() };
            eprintln!("{message}");
            return Exit::WrongUse.into();
        }
    };
    let as_json = cli.global.json;
    holdfast_server::signals::fail_writes_past_the_limit();
    holdfast_server::log::start(cli.log_level(), as_json);
    let exit = holdfast_server::commands::run(cli).unwrap_or_else(|failure| {
        if let Some(message) = failure.message(as_json) {
            holdfast_server::stderr::line(&message);
        }
        failure.exit()
    });
    exit.into()
}
