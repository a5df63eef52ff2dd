//! Every plan that once failed passes, and keeps passing.

use std::path::Path;

use holdfast_crashlab::plan::Plan;
use holdfast_crashlab::run::run;

#[test]
fn plans_that_once_failed_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the plans are there")
        .map(|entry| entry.expect("a name").path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let plan = Plan::load(&file).expect("a plan of this version");
        let violations = run(&plan).violations;
        assert!(violations.is_empty(), "{}: {violations:?}", file.display());
    }
}
