//! What the database holds and does: for people, as JSON, or for Prometheus.

use std::time::Duration;

use holdfast::{KeyspaceInfo, Metric, MetricValue, Metrics};
use indicatif::HumanBytes;
use serde_json::{Map, Value as Json, json};

use super::keyspaces;
use crate::cli::{Database, Global};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::store::{Store, open_to_read, open_to_watch};
use crate::visible::path_text;

/// In which form, and how often.
pub(super) struct Show {
    pub watch: Option<Duration>,
    pub prometheus: bool,
}

pub(super) fn run(
    database: &Database,
    global: &Global,
    show: Show,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let store = match show.watch {
        Some(_) => open_to_watch(database, global)?,
        None => open_to_read(database, global)?,
    };
    loop {
        let metrics = store.metrics();
        if show.prometheus {
            out.bytes(metrics.to_prometheus().as_bytes())?;
        } else {
            print(database, &store, &metrics, out)?;
        }
        let Some(pause) = show.watch else { break };
        out.flush()?;
        std::thread::sleep(pause);
        store.refresh().map_err(|failure| gone(database, failure))?;
        out.line("")?;
    }
    store.close()?;
    Ok(Exit::Good)
}

/// Why a look cannot go on. That there was a database has been seen, so it was not asked for wrongly.
fn gone(database: &Database, failure: Failure) -> Failure {
    match failure {
        Failure::Kernel(holdfast::Error::NotFound { .. }) => Failure::Problem(format!(
            "{} holds no database any more: it was removed, moved or replaced meanwhile; look where it is now",
            database.path.display()
        )),
        other => other,
    }
}

fn print(database: &Database, store: &Store, metrics: &Metrics, out: &mut Output) -> Result<(), Failure> {
    let infos = store.keyspaces()?;
    if out.as_json() {
        let keyspaces: Vec<Json> = infos.iter().map(keyspaces::object).collect();
        return out.say(
            "",
            json!({
                "directory": path_text(&database.path),
                "read_only": store.is_beside(),
                "last_sequence": metrics.number("holdfast_last_sequence"),
                "keyspaces": keyspaces,
                "metrics": metrics_as_json(metrics),
            }),
        );
    }
    out.line(format_args!("{}", database.path.display()))?;
    if store.is_beside() {
        out.line("  a read-only view; of the process that may be writing it only the results are known")?;
    }
    out.line(format_args!("  newest commit  {}", metrics.number("holdfast_last_sequence")))?;
    for info in &infos {
        out.line(format_args!("\n  {}", keyspaces::line(info)))?;
        levels(info, out)?;
    }
    out.line("")?;
    for metric in metrics.all.iter().filter(|metric| metric.labels.is_empty() && !is_zero(metric)) {
        out.line(format_args!("  {:<42} {}", metric.name, shown(metric)))?;
    }
    Ok(())
}

fn levels(info: &KeyspaceInfo, out: &mut Output) -> Result<(), Failure> {
    for (number, level) in info.levels.iter().enumerate().filter(|(_, level)| level.tables > 0) {
        out.line(format_args!(
            "    level {number}  {:>4} tables  {:>12}  {} entries, {} deletes",
            level.tables,
            HumanBytes(level.bytes).to_string(),
            level.entries,
            level.deletes
        ))?;
    }
    Ok(())
}

/// Nothing of it has happened since the opening: for people that is not worth a line.
fn is_zero(metric: &Metric) -> bool {
    match &metric.value {
        MetricValue::Counter(number) | MetricValue::Gauge(number) | MetricValue::Ratio(number) => {
            *number == 0
        }
        MetricValue::Histogram(summary) => summary.count == 0,
    }
}

fn shown(metric: &Metric) -> String {
    match &metric.value {
        MetricValue::Counter(number) | MetricValue::Gauge(number) if metric.name.contains("bytes") => {
            HumanBytes(*number).to_string()
        }
        MetricValue::Counter(number) | MetricValue::Gauge(number) => number.to_string(),
        MetricValue::Ratio(thousandths) => format!("{}.{:03}", thousandths / 1000, thousandths % 1000),
        MetricValue::Histogram(summary) => format!(
            "{} times, half within {}, 99 % within {}, longest {}",
            summary.count,
            nanoseconds(summary.p50_ns),
            nanoseconds(summary.p99_ns),
            nanoseconds(summary.max_ns)
        ),
    }
}

/// A duration with a unit that suits it.
pub(crate) fn nanoseconds(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} µs", ns / 1000),
        _ => format!("{} ms", ns / 1_000_000),
    }
}

/// One member for each name; metrics with labels become arrays.
fn metrics_as_json(metrics: &Metrics) -> Json {
    let mut all = Map::new();
    for metric in &metrics.all {
        let value = match &metric.value {
            MetricValue::Counter(number) | MetricValue::Gauge(number) => json!(number),
            MetricValue::Ratio(thousandths) => json!(*thousandths as f64 / 1000.0),
            MetricValue::Histogram(summary) => json!({
                "count": summary.count, "sum_ns": summary.sum_ns, "p50_ns": summary.p50_ns,
                "p90_ns": summary.p90_ns, "p99_ns": summary.p99_ns, "p999_ns": summary.p999_ns,
                "max_ns": summary.max_ns,
            }),
        };
        if metric.labels.is_empty() {
            all.insert(metric.name.to_string(), value);
            continue;
        }
        let mut sample: Map<String, Json> =
            metric.labels.iter().map(|(name, label)| (name.to_string(), json!(label))).collect();
        sample.insert("value".to_string(), value);
        let samples = all.entry(metric.name).or_insert_with(|| json!([]));
        if let Json::Array(samples) = samples {
            samples.push(Json::Object(sample));
        }
    }
    Json::Object(all)
}
