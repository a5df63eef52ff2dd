//! The program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let start: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let count: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10);
    let choice = holdfast_crashlab::Choice::default();
    let began = std::time::Instant::now();
    let mut failed = 0;
    let (mut operations, mut crashes, mut idle) = (0, 0, 0);
    for seed in start..start + count {
        let plan = holdfast_crashlab::draw::plan(seed, &choice);
        match holdfast_crashlab::run::run_caught(&plan, 0) {
            Ok(verdict) => {
                operations += verdict.counts.operations;
                crashes += verdict.crashes;
                idle += u64::from(verdict.is_idle());
                if !verdict.violations.is_empty() {
                    failed += 1;
                    if let Ok(key) = std::env::var("KEY") {
                        for (n, t) in verdict.history.transactions.iter().enumerate() {
                            let text = format!("{t:?}");
                            if text.contains(&key) && t.writes() {
                                println!("T{n}: {text}");
                            }
                        }
                    }
                    if std::env::var("SHOW").is_ok() {
                        for word in verdict.violations[0].what.split(|c: char| !c.is_alphanumeric()) {
                            if let Some(n) = word.strip_prefix('T').and_then(|n| n.parse::<usize>().ok()) {
                                println!("T{n}: {:?}", verdict.history.transactions[n]);
                            }
                        }
                    }
                    println!(
                        "seed {seed} {:?} steps {}: {}",
                        plan.workload, verdict.counts.steps, verdict.violations[0]
                    );
                }
            }
            Err(violation) => {
                failed += 1;
                println!("seed {seed}: {violation}");
            }
        }
    }
    let ms = began.elapsed().as_millis();
    println!("{failed} of {count} failed; {operations} operations, {crashes} crashes, {idle} idle, {ms} ms");
    ExitCode::from(u8::from(failed > 0))
}
