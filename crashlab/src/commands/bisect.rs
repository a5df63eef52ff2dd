//! `bisect`: since which commit a plan fails.

use std::path::Path;

use holdfast_crashlab::bisect::bisect;
use holdfast_crashlab::workshop::repository_of;
use serde_json::json;

/// Names the commit.
pub(crate) fn run(plan: &Path, between: (&str, &str), as_json: bool) -> Result<bool, String> {
    let here = std::env::current_dir().map_err(|error| format!("the current directory: {error}"))?;
    let found = bisect(&repository_of(&here)?, plan, between, |revision, says| {
        if !as_json {
            println!("{revision} {says:?}");
        }
    })?;
    if as_json {
        println!("{}", json!({ "bad": found.bad, "unknown": found.unknown, "asked": found.asked }));
    } else {
        println!("the plan fails since {}", found.bad);
        found.unknown.iter().for_each(|revision| println!("or since {revision}, which says nothing"));
    }
    Ok(true)
}
