//! Every planted bug can still be planted.

use std::path::Path;
use std::process::Command;

use holdfast_crashlab::mutants::Mutant;

#[test]
fn every_patch_applies_to_the_sources_of_now() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all = Mutant::load_all(&root.join("crashlab/mutants")).expect("their headers are whole");
    assert!(!all.is_empty());
    // A clone of the sources without their history will do, but it must not be taken for a part of another one.
    let refused = all.iter().filter(|mutant| {
        let git = Command::new("git")
            .current_dir(&root)
            .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(&root))
            .args(["apply", "--check"])
            .arg(&mutant.file)
            .output()
            .expect("git is there");
        !git.status.success()
    });
    let refused: Vec<&str> = refused.map(|mutant| mutant.name.as_str()).collect();
    assert!(refused.is_empty(), "make these anew, for the lines under them have changed: {refused:?}");
}
