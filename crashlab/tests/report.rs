//! The page is one file that needs nothing else, and says what the trace says.

use holdfast_crashlab::report::{DATA_BEGINS, DATA_ENDS, Shown, page, run_of};
use holdfast_crashlab::{Choice, Watch, draw, run_watched};

#[test]
fn the_page_is_one_file_and_holds_the_whole_trace() {
    for seed in [3, 8] {
        let plan = draw::plan(seed, &Choice { operations: 200, ..Choice::default() });
        let watch = Watch { log_events: 1_000_000, ..Watch::default() };
        let verdict = run_watched(&plan, watch);
        assert!(verdict.log.len() > 200, "only {} lines", verdict.log.len());
        let shown = Shown::of(&plan, &verdict);
        let page = page(&shown);
        let (before, rest) = page.split_once(DATA_BEGINS).expect("the run stands in it");
        let (data, after) = rest.split_once(DATA_ENDS).expect("and ends");
        let data: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
        assert_eq!(data, run_of(&shown));
        let lines = data["lines"].as_array().expect("a list");
        assert_eq!(lines.len(), verdict.log.len());
        for (shown, line) in lines.iter().zip(&verdict.log) {
            assert_eq!(shown[0], line.event);
            assert_eq!(shown[1], line.at_ns);
            assert_eq!(shown[4], line.text.as_str());
        }
        // Nothing in the page itself leads out of it, and no text of the run can end the script.
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest"] {
            assert!(!before.contains(outside) && !after.contains(outside), "{outside}");
        }
        assert!(!page[before.len()..page.len() - after.len()].contains('<'));
    }
}
