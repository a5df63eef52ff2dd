//! The commit since which a plan fails.
//!
//! Each revision on the way is built as it was, with its own crashlab, and runs the plan. One that does not build, or whose
//! crashlab does not understand the plan, says nothing: it is skipped, and where the first failing revision lies behind
//! skipped ones, all of them are named.

use std::path::Path;

use crate::workshop::{Workshop, git};

/// What a revision says of the plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Says {
    /// The plan passes.
    Good,
    /// It fails.
    Bad,
    /// Nothing, and why.
    Nothing(String),
}

/// What came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The oldest revision known to fail.
    pub bad: String,
    /// Between it and the newest one known to pass: revisions that say nothing. Any of them may be guilty as well.
    pub unknown: Vec<String>,
    /// Revisions that were asked.
    pub asked: usize,
}

/// Finds the commit in `good..bad` that made the plan fail. `told` is called with each revision and what it says.
///
/// # Errors
/// Revisions that there are not, one called good that is not, one called bad that passes.
pub fn bisect(
    repository: &Path,
    plan: &Path,
    (good, bad): (&str, &str),
    mut told: impl FnMut(&str, &Says),
) -> Result<Found, String> {
    let plan = plan.canonicalize().map_err(|error| format!("{}: {error}", plan.display()))?;
    let workshop = Workshop::prepare(repository, "bisect", "dev")?;
    let ask = |revision: &str| -> Result<Says, String> {
        workshop.check_out(revision)?;
        let program = match workshop.build()? {
            Ok(program) => program,
            Err(error) => return Ok(Says::Nothing(format!("it does not build: {error}"))),
        };
        let answer = workshop.ask(&program, &["replay", &plan.to_string_lossy(), "--json"]);
        Ok(match answer {
            Ok(answer) if answer.code == 0 => Says::Good,
            Ok(answer) if answer.code == 1 => Says::Bad,
            Ok(answer) => Says::Nothing(format!("its crashlab ends with code {}", answer.code)),
            Err(error) => Says::Nothing(error),
        })
    };
    let commit_of =
        |revision: &str| git(repository, &["rev-parse", "--verify", &format!("{revision}^{{commit}}")]);
    let (good, bad) = (commit_of(good)?, commit_of(bad)?);
    let between = git(repository, &["rev-list", "--reverse", "--ancestry-path", &format!("{good}..{bad}")])?;
    let revisions: Vec<String> = between.lines().map(str::to_owned).collect();
    if revisions.is_empty() {
        return Err(format!("{good} is no ancestor of {bad}"));
    }
    let mut asked_of = |revision: &str| -> Result<Says, String> {
        let says = ask(revision)?;
        told(revision, &says);
        Ok(says)
    };
    match asked_of(&good)? {
        Says::Good => {}
        Says::Bad => return Err(format!("the plan fails at {good} already")),
        Says::Nothing(why) => return Err(format!("{good} says nothing of the plan: {why}")),
    }
    search(&revisions, |revision| asked_of(revision))
}

/// The first bad one of revisions from old to new, the last of which has to be.
fn search(revisions: &[String], mut ask: impl FnMut(&str) -> Result<Says, String>) -> Result<Found, String> {
    let last = revisions.len() - 1;
    let mut says: Vec<Option<Says>> = vec![None; revisions.len()];
    let mut asked = 1;
    match ask(&revisions[last])? {
        Says::Bad => says[last] = Some(Says::Bad),
        Says::Good => return Err(format!("the plan passes at {}", revisions[last])),
        Says::Nothing(why) => return Err(format!("{} says nothing of the plan: {why}", revisions[last])),
    }
    // Everything before `from` is good, `bad` is bad.
    let (mut from, mut bad) = (0, last);
    loop {
        let open: Vec<usize> = (from..bad).filter(|at| says[*at].is_none()).collect();
        let Some(middle) = open.get(open.len() / 2).copied() else { break };
        let answer = ask(&revisions[middle])?;
        asked += 1;
        match &answer {
            Says::Good => from = middle + 1,
            Says::Bad => bad = middle,
            Says::Nothing(_) => {}
        }
        says[middle] = Some(answer);
    }
    let unknown = revisions[from..bad].to_vec();
    Ok(Found { bad: revisions[bad].clone(), unknown, asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(count: usize) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }

    #[test]
    fn the_first_bad_revision_is_found_in_few_steps() {
        for guilty in 0..100 {
            let found = search(&revisions(100), |revision| {
                let number: usize = revision.parse().expect("a number");
                Ok(if number >= guilty { Says::Bad } else { Says::Good })
            });
            let found = found.expect("the last one is bad");
            assert_eq!((found.bad, found.unknown), (guilty.to_string(), Vec::new()));
            assert!(found.asked <= 9, "{}", found.asked);
        }
    }

    #[test]
    fn revisions_that_say_nothing_are_named_where_they_matter() {
        let found = search(&revisions(20), |revision| {
            let number: usize = revision.parse().expect("a number");
            Ok(match number {
                8..=10 | 15 => Says::Nothing("it does not build".to_owned()),
                0..=7 => Says::Good,
                _ => Says::Bad,
            })
        });
        let found = found.expect("the last one is bad");
        assert_eq!(found.bad, "11");
        assert_eq!(found.unknown, ["8", "9", "10"]);
    }

    #[test]
    fn a_last_revision_that_passes_is_refused() {
        assert!(search(&revisions(3), |_| Ok(Says::Good)).is_err());
    }
}
