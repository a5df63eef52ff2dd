//! How fast the simulator is: real nanoseconds per simulated call. `cargo run --release -p holdfast-sim --example speed`.

use std::path::Path;

use holdfast::env::{Buf, OpenOptions};

const CALLS: u64 = 200_000;

/// Writes `CALLS` pages in a row to a file of 64 MiB, with a sync after every `sync_every`; 0 is never.
fn measure(what: &str, options: OpenOptions, sync_every: u64) {
    let start = std::time::Instant::now();
    let outcome = holdfast_sim::run(1, move |world| async move {
        let process = world.process("db");
        let env = process.env();
        let run = process.run(async move {
            let file = env.disk().open(Path::new("/a"), options).await.expect("free");
            file.zero_range(0, 64 << 20).await.expect("no fault");
            file.sync_data().await.expect("no fault");
            let mut buf = Buf::zeroed(4096);
            for call in 0..CALLS {
                buf[..8].copy_from_slice(&call.to_le_bytes());
                buf[2048..2056].copy_from_slice(&call.to_le_bytes());
                let (result, back) = file.write_at(call % 16384 * 4096, buf).await;
                result.expect("no fault");
                buf = back;
                if sync_every > 0 && call % sync_every == 0 {
                    file.sync_data().await.expect("no fault");
                }
            }
        });
        run.await.expect("alive");
    });
    let nanos = start.elapsed().as_nanos() / u128::from(CALLS);
    println!("{what}: {nanos} ns a call, {} events, hash {:016x}", outcome.events, outcome.hash);
}

fn main() {
    measure("cached 4 KiB, sync every 64th", OpenOptions::create(), 64);
    measure("direct dsync 4 KiB", OpenOptions::create().direct().dsync(), 0);
    measure("direct 4 KiB, sync every 8th", OpenOptions::create().direct(), 8);
}
