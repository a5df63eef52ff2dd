//! One planted bug as it stands in `crashlab/mutants/`.
//!
//! ```text
//! breaks: the rule that it breaks, in a sentence
//! reveals: fault classes that should show it, separated by commas; also kill, power_loss, none
//! workload: the workload that should show it first
//! seeds: how many seeds it took when it was last measured, the median; not there if that is not known
//!                                       an empty line, then a patch as `git diff` writes it
//! diff --git a/... b/...
//! ```

use std::path::{Path, PathBuf};

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// The file's name without its ending.
    pub name: String,
    /// The rule that it breaks.
    pub breaks: String,
    /// What should show it.
    pub reveals: Vec<String>,
    /// Where it should show first.
    pub workload: String,
    /// How many seeds it took when it was last measured, the median.
    pub seeds: Option<u64>,
    /// The file.
    pub file: PathBuf,
    /// All of its text.
    pub text: String,
}

impl Mutant {
    /// Every patch of a folder, by name.
    ///
    /// # Errors
    /// A folder or a file that cannot be read, or a header that is not as it must be.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>, String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(wrong)? {
            let file = entry.map_err(wrong)?.path();
            if file.extension().is_some_and(|ending| ending == "patch") {
                files.push(file);
            }
        }
        files.sort();
        files.iter().map(|file| Self::load(file)).collect()
    }

    fn load(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        Self::parse(name, file, text).map_err(|wrong| format!("{}: {wrong}", file.display()))
    }

    fn parse(name: &str, file: &Path, text: String) -> Result<Self, String> {
        let Some((header, _)) = text.split_once("\ndiff --git ") else {
            return Err("there is no line that begins with `diff --git`".to_owned());
        };
        let known = |name: &str| {
            let value = header.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let field = |name: &str| known(name).ok_or_else(|| format!("the header has no line `{name}: ...`"));
        let number = |text: String| text.parse().map_err(|_| format!("seeds: {text:?} is no number"));
        let seeds = known("seeds").map(number).transpose()?;
        let (breaks, workload) = (field("breaks")?, field("workload")?);
        let reveals = field("reveals")?.split(',').map(|class| class.trim().to_owned()).collect();
        Ok(Self { name: name.to_owned(), breaks, reveals, workload, seeds, file: file.to_owned(), text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mutant, String> {
        Mutant::parse("name", Path::new("name.patch"), text.to_owned())
    }

    #[test]
    fn a_header_has_all_its_lines() {
        let text = "breaks: a rule\nreveals: kill, sync_error\nworkload: bank\n\ndiff --git a/x b/x\n";
        let mutant = parse(text).expect("it is whole");
        assert_eq!((mutant.breaks.as_str(), mutant.workload.as_str()), ("a rule", "bank"));
        assert_eq!(mutant.reveals, ["kill", "sync_error"]);
        for line in ["breaks: a rule\n", "reveals: kill, sync_error\n", "workload: bank\n", "diff --git "] {
            assert!(parse(&text.replace(line, "")).is_err(), "{line}");
        }
    }

    #[test]
    fn every_planted_bug_has_a_whole_header_and_names_faults_that_there_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
        let all = Mutant::load_all(&folder).expect("they are whole");
        assert!(all.len() >= 40, "only {}", all.len());
        for mutant in all {
            for class in &mutant.reveals {
                let is_known = ["kill", "power_loss", "none"].contains(&class.as_str())
                    || crate::fault::of_name(class).is_some();
                assert!(is_known, "{}: there is no fault {class:?}", mutant.name);
            }
        }
    }
}
