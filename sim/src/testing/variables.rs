//! The environment variables that steer a run of `cargo test`; the table in the parent module says what each does.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Names the plan to run.
pub const PLAN: &str = "HOLDFAST_SIM_PLAN";
/// Names the file that a [`Record`](super::Record) is written to.
pub const RECORD: &str = "HOLDFAST_SIM_RECORD";
/// How many lines of the event log the record has.
pub const LINES: &str = "HOLDFAST_SIM_LINES";

/// What to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// So many seeds from a first one on; as many as the test says if none are given.
    Seeds { start: u64, count: Option<u64> },
    /// One seed.
    Seed(u64),
    /// One plan.
    Plan(PathBuf),
}

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Variables {
    pub(super) what: What,
    pub(super) shrink: bool,
    pub(super) trace: usize,
    pub(super) jobs: usize,
    pub(super) patience: Duration,
    pub(super) record: Option<PathBuf>,
    pub(super) lines: usize,
}

impl Variables {
    /// Reads them; `value_of` gives the value of a variable that is set.
    ///
    /// # Errors
    /// In words: the name of one that cannot be understood.
    pub(super) fn read(value_of: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        fn number<T: FromStr>(name: &str, value: Option<String>) -> Result<Option<T>, String> {
            let parse = |text: String| text.parse().map_err(|_| format!("{name}={text:?} is no number"));
            value.map(parse).transpose()
        }
        let number_of = |name: &str| number::<u64>(name, value_of(name));
        let seed = number_of("HOLDFAST_SIM_SEED")?;
        let what = match (value_of(PLAN), seed) {
            (Some(_), Some(_)) => return Err(format!("{PLAN} and HOLDFAST_SIM_SEED are both set; give one")),
            (Some(plan), None) => What::Plan(plan.into()),
            (None, Some(seed)) => What::Seed(seed),
            (None, None) => What::Seeds {
                start: number_of("HOLDFAST_SIM_START")?.unwrap_or(0),
                count: match number_of("HOLDFAST_SIM_SEEDS")? {
                    Some(0) => return Err("HOLDFAST_SIM_SEEDS=0: no seed would be run".to_owned()),
                    count => count,
                },
            },
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shrink = match value_of("HOLDFAST_SIM_SHRINK").as_deref() {
            None | Some("0" | "") => false,
            Some("1") => true,
            Some(other) => return Err(format!("HOLDFAST_SIM_SHRINK={other:?} is neither 0 nor 1")),
        };
        Ok(Self {
            what,
            shrink,
            trace: number("HOLDFAST_SIM_TRACE", value_of("HOLDFAST_SIM_TRACE"))?.unwrap_or(0),
            jobs: number("HOLDFAST_SIM_JOBS", value_of("HOLDFAST_SIM_JOBS"))?.unwrap_or(cores).max(1),
            patience: Duration::from_secs(number_of("HOLDFAST_SIM_PATIENCE")?.unwrap_or(60).max(1)),
            record: value_of(RECORD).map(PathBuf::from),
            lines: number(LINES, value_of(LINES))?.unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Variables, String> {
        Variables::read(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_set_counts_and_nonsense_is_refused_by_name() {
        assert_eq!(read(&[]).expect("nothing").what, What::Seeds { start: 0, count: None });
        assert_eq!(read(&[("HOLDFAST_SIM_SEED", "17")]).expect("a seed").what, What::Seed(17));
        assert_eq!(read(&[(PLAN, "a.json")]).expect("a plan").what, What::Plan("a.json".into()));
        for (name, value) in [
            ("HOLDFAST_SIM_SEED", "x"),
            ("HOLDFAST_SIM_SEEDS", "-1"),
            ("HOLDFAST_SIM_SEEDS", "0"),
            ("HOLDFAST_SIM_SHRINK", "yes"),
        ] {
            let refused = read(&[(name, value)]).expect_err("nonsense");
            assert!(refused.contains(name) && refused.contains(value), "{refused}");
        }
        assert!(read(&[(PLAN, "a.json"), ("HOLDFAST_SIM_SEED", "1")]).is_err());
    }
}
