//! Stops a build without madsim's flag, before it fails in less plain ways.
//!
//! Without the flag madsim is a thin layer over the real runtime, and nothing of the simulated world is there.

use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_MADSIM").is_some() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "The simulated world needs madsim's flag. Put these two lines into .cargo/config.toml of your package or workspace,"
    );
    eprintln!("and set no RUSTFLAGS in the environment, which would replace them:\n");
    eprintln!("[build]");
    eprintln!("rustflags = [\"--cfg\", \"madsim\"]");
    ExitCode::FAILURE
}
