//! Arguments that are no command, as JSON.
//!
//! The parser explains itself in paragraphs for people. Who asked for `--json` gets the same in the object that every
//! other error is: what is wrong, the exit code, and what to do.

use clap::error::ErrorKind;
use serde_json::json;

use crate::exit::Exit;
use crate::visible::visible_lines;

/// What standard error gets instead of the parser's own text because an argument that it quotes would disturb a
/// terminal.
pub fn wrong_use_as_text(error: &clap::Error) -> Option<String> {
    let text = error.to_string();
    let shown = visible_lines(&text);
    (error.use_stderr() && shown != text).then(|| shown.trim_end().to_string())
}

/// What standard error gets instead of the parser's own text; `None` if the text stays, because the arguments do not
/// ask for JSON or because it is no error but the help that was asked for.
pub fn wrong_use_as_json(
    error: &clap::Error,
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Option<String> {
    // The parser gave no result, so the arguments themselves must tell.
    let mut options = arguments.into_iter().take_while(|argument| argument != "--");
    if !error.use_stderr() || !options.any(|argument| argument == "--json") {
        return None;
    }
    let text = error.to_string();
    let mut paragraphs =
        text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "no command is given".to_string()
        }
        _ => paragraphs.next().unwrap_or_default().trim_start_matches("error: ").to_string(),
    };
    let tips: Vec<_> = paragraphs.filter_map(|line| line.strip_prefix("tip: ").map(str::to_string)).collect();
    let hint = if tips.is_empty() { "--help shows what can be given".to_string() } else { tips.join("; ") };
    Some(json!({ "error": what, "exit": Exit::WrongUse as u8, "hint": hint }).to_string())
}
