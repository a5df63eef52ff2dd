//! Counters and histograms that cost a few nanoseconds, and their stable names.
//!
//! Every metric is named `holdfast_<what>_<unit>[_total]`; the names and units are part of the public interface. They are read
//! through [`Db::metrics`](crate::Db::metrics) as a [`Metrics`] value.
//!
//! A histogram has eight buckets for each power of two, so a quantile is at most 12.5 % above the truth.

use crate::sync::atomic::{AtomicU64, Ordering};

const SUB_BITS: u32 = 3;
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

/// A number that only grows.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// Durations in nanoseconds, by how often they occurred.
pub(crate) struct Histogram {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record_ns(&self, ns: u64) {
        self.buckets[bucket(ns)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(ns, Ordering::Relaxed);
        self.max.fetch_max(ns, Ordering::Relaxed);
    }

    /// The state of now.
    pub fn summary(&self) -> Summary {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_ns = self.max.load(Ordering::Relaxed);
        let quantile = |numerator: u64, denominator: u64| {
            let rank = (count * numerator).div_ceil(denominator);
            let mut passed = 0;
            let at = counts.iter().position(|count| {
                passed += count;
                passed >= rank && rank > 0
            });
            at.map_or(0, |at| upper_bound(at).min(max_ns))
        };
        Summary {
            count,
            sum_ns: self.sum.load(Ordering::Relaxed),
            p50_ns: quantile(50, 100),
            p90_ns: quantile(90, 100),
            p99_ns: quantile(99, 100),
            p999_ns: quantile(999, 1000),
            max_ns,
        }
    }
}

fn bucket(ns: u64) -> usize {
    let top = 63 - (ns | 1).leading_zeros();
    if top < SUB_BITS {
        return ns as usize;
    }
    let shift = top - SUB_BITS;
    let sub = (ns >> shift) as usize & ((1 << SUB_BITS) - 1);
    ((shift as usize + 1) << SUB_BITS) + sub
}

/// The greatest duration that falls into the bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (group, sub) = (bucket >> SUB_BITS, (bucket & ((1 << SUB_BITS) - 1)) as u64);
    match group.checked_sub(1) {
        None => sub,
        Some(shift) => (((1 << SUB_BITS) + sub) << shift) + ((1u64 << shift) - 1),
    }
}

/// A histogram in figures. All durations in nanoseconds; quantiles are at most 12.5 % too high.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Number of occurrences.
    pub count: u64,
    /// Sum of all.
    pub sum_ns: u64,
    /// Half are at most this long.
    pub p50_ns: u64,
    /// Nine in ten are.
    pub p90_ns: u64,
    /// Ninety-nine in a hundred are.
    pub p99_ns: u64,
    /// 999 in a thousand are.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// What the kernel counts while it runs.
#[derive(Default)]
pub(crate) struct Recorder {
    pub commit: Histogram,
    pub sync: Histogram,
    pub get: Histogram,
    pub stall: Histogram,
    pub commits: Counter,
    pub conflicts: Counter,
    pub groups: Counter,
    pub user_bytes_written: Counter,
    pub user_bytes_read: Counter,
    pub log_bytes_written: Counter,
    pub flushes: Counter,
    pub flush_bytes_written: Counter,
    pub compactions: Counter,
    pub compaction_bytes_read: Counter,
    pub compaction_bytes_written: Counter,
    pub versions_dropped: Counter,
}

/// One value of [`Metrics`].
#[derive(Clone, PartialEq, Debug)]
pub enum MetricValue {
    /// Grows while the database is open; 0 at opening.
    Counter(u64),
    /// The state of now.
    Gauge(u64),
    /// A ratio in thousandths.
    Ratio(u64),
    /// Durations.
    Histogram(Summary),
}

/// A named value.
#[derive(Clone, PartialEq, Debug)]
pub struct Metric {
    /// Stable name with its unit, as `holdfast_commit_ns`.
    pub name: &'static str,
    /// One sentence of what it means.
    pub help: &'static str,
    /// Labels, as `level = "3"`.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: MetricValue,
}

/// All metrics of a database at one moment.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metrics {
    /// In a stable order.
    pub all: Vec<Metric>,
}

impl Metrics {
    /// The first metric of this name.
    pub fn get(&self, name: &str) -> Option<&Metric> {
        self.all.iter().find(|metric| metric.name == name)
    }

    /// Counter, gauge or ratio of this name; 0 if there is none.
    pub fn number(&self, name: &str) -> u64 {
        match self.get(name).map(|metric| &metric.value) {
            Some(MetricValue::Counter(number) | MetricValue::Gauge(number) | MetricValue::Ratio(number)) => {
                *number
            }
            _ => 0,
        }
    }

    pub(crate) fn push(&mut self, name: &'static str, help: &'static str, value: MetricValue) {
        self.push_labelled(name, help, Vec::new(), value);
    }

    pub(crate) fn push_labelled(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Vec<(&'static str, String)>,
        value: MetricValue,
    ) {
        self.all.push(Metric { name, help, labels, value });
    }

    /// The Prometheus text exposition format, version 0.0.4. Histograms are given as summaries.
    pub fn to_prometheus(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        let mut last = "";
        for metric in &self.all {
            let kind = match metric.value {
                MetricValue::Counter(_) => "counter",
                MetricValue::Gauge(_) | MetricValue::Ratio(_) => "gauge",
                MetricValue::Histogram(_) => "summary",
            };
            if metric.name != last {
                // Writing to a String cannot fail.
                let _ =
                    writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
                last = metric.name;
            }
            let _ = write_samples(&mut out, metric);
        }
        out
    }
}

/// As the text format demands: a name may hold any character.
fn escaped_label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn write_samples(out: &mut String, metric: &Metric) -> std::fmt::Result {
    use std::fmt::Write;
    let labels = |extra: Option<(&str, &str)>| {
        let all: Vec<String> = metric
            .labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain(extra)
            .map(|(name, value)| format!("{name}=\"{}\"", escaped_label(value)))
            .collect();
        if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
    };
    let name = metric.name;
    match &metric.value {
        MetricValue::Counter(number) | MetricValue::Gauge(number) => {
            writeln!(out, "{name}{} {number}", labels(None))
        }
        MetricValue::Ratio(thousandths) => {
            writeln!(out, "{name}{} {}.{:03}", labels(None), thousandths / 1000, thousandths % 1000)
        }
        MetricValue::Histogram(summary) => {
            let quantiles = [
                ("0.5", summary.p50_ns),
                ("0.9", summary.p90_ns),
                ("0.99", summary.p99_ns),
                ("0.999", summary.p999_ns),
            ];
            for (quantile, ns) in quantiles {
                writeln!(out, "{name}{} {ns}", labels(Some(("quantile", quantile))))?;
            }
            writeln!(out, "{name}_sum{} {}", labels(None), summary.sum_ns)?;
            writeln!(out, "{name}_count{} {}", labels(None), summary.count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn a_bucket_is_at_most_an_eighth_too_high(ns: u64, shift: u8) -> bool {
            let ns = ns >> (shift % 64);
            let upper = upper_bound(bucket(ns));
            upper >= ns && upper - ns <= ns / 8
        }
    }

    #[test]
    fn a_label_may_hold_anything() {
        assert_eq!(escaped_label("a\nb\"c\\d"), r#"a\nb\"c\\d"#);
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|ns| histogram.record_ns(ns));
        let summary = histogram.summary();
        assert_eq!((summary.count, summary.sum_ns, summary.max_ns), (1000, 500_500, 1000));
        assert!((500..=563).contains(&summary.p50_ns), "{summary:?}");
        assert!((990..=1000).contains(&summary.p99_ns), "{summary:?}");
    }
}
