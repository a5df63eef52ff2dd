//! Measurements by sensor and time: typed keys, the newest first, and old days forgotten in constant time.
//!
//! The day leads the key, so that forgetting all that is older is one range delete, however much lies in it; the space
//! comes back when compaction meets it.

use holdfast::blocking::Db;
use holdfast::key::{Descending, EncodeKey};
use holdfast::{Durability, Options, Result, Scan, StoredValue, WriteBatch};

/// Day, sensor, minute of the day from the latest to the first.
type Key = (u32, String, Descending<u32>);

const DAYS: u32 = 10;
const DAYS_KEPT: u32 = 7;
const MINUTES: u32 = 24 * 60;
const SENSORS: [&str; 2] = ["kitchen", "roof"];

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("holdfast-series-{}", std::process::id()));
    let db = Db::open(&dir, Options::default())?;
    let raw = db.default_keyspace()?;
    let degrees = raw.typed::<Key, f64>();

    for day in 0..DAYS {
        let mut batch = WriteBatch::new();
        for sensor in SENSORS {
            for minute in 0..MINUTES {
                let key = (day, sensor, Descending(minute)).encode_key();
                let value = 15.0 + f64::from(day) + f64::from(minute) / 1000.0;
                batch.put(&raw, &key, &value.to_bytes())?;
            }
        }
        // Losing the last moments in a power cut is fine for measurements; a torn day is not, and cannot happen.
        db.write(batch, Durability::Flush)?;
    }

    let latest = degrees.with_prefix(&(DAYS - 1, "roof"))?.take(3).collect::<Result<Vec<_>>>()?;
    for ((day, sensor, Descending(minute)), value) in &latest {
        println!("day {day} {:02}:{:02} {sensor} {value:.2} °C", minute / 60, minute % 60);
    }
    assert_eq!(latest[0], ((9, "roof".into(), Descending(1439)), 25.439));

    let before = raw.scan(Scan::all())?.count()?;
    let oldest_kept = (DAYS - DAYS_KEPT,).encode_key();
    raw.delete_range(0u32.encode_key(), oldest_kept)?;
    let after = raw.scan(Scan::all())?.count()?;
    println!("{before} measurements, {after} of the last {DAYS_KEPT} days kept");
    assert_eq!(before, u64::from(DAYS * MINUTES) * SENSORS.len() as u64);
    assert_eq!(after, u64::from(DAYS_KEPT * MINUTES) * SENSORS.len() as u64);
    assert_eq!(degrees.with_prefix(&(2u32,))?.count(), 0);
    db.close()?;
    std::fs::remove_dir_all(&dir).expect("the example's own directory can be removed");
    Ok(())
}
