//! What a seed means under the defaults: hashes of a few seeds, kept.
//!
//! A hash changes only when the simulator itself decides otherwise than it did, so that every seed in every report
//! means something else. Nothing that can be switched on may change one while it is off. If one has to change, the
//! commit that changes it says why.

use holdfast::env::{Buf, LockKind, OpenOptions};
use holdfast_sim::{FaultClass, Ratio, SimOptions, World};

/// Bytes and names, cached and direct, late and early, with every fault class that lets the work go on.
async fn work(world: World) {
    for name in ["a", "b"] {
        let process = world.process(name);
        let classes = [
            FaultClass::ReadError,
            FaultClass::WriteError,
            FaultClass::SyncError,
            FaultClass::NoSpace,
            FaultClass::TooManyFiles,
            FaultClass::ShortRead,
            FaultClass::ShortWrite,
            FaultClass::TransientRead,
            FaultClass::LostSector,
            FaultClass::BitRot,
            FaultClass::StaleRead,
            FaultClass::MisdirectedRead,
            FaultClass::PhantomWrite,
            FaultClass::MisdirectedWrite,
            FaultClass::LyingSync,
            FaultClass::Stall,
            FaultClass::ClockJump,
        ];
        for class in classes {
            process.disk().set_fault_rate(class, Ratio::new(1, 16));
        }
        process.disk().set_delayed_allocation(name == "b");
    }
    world.set_rare(Ratio::new(1, 3));
    for round in 0..4u64 {
        let mut tasks = Vec::new();
        for (name, writer) in [("a", 0), ("a", 1), ("a", 2), ("b", 3), ("b", 4)] {
            let env = world.process(name).env();
            let task = async move { writes(&*env, round, writer).await };
            tasks.push(world.process(name).spawn("writer", task));
        }
        world.sleep(world.random_below(3_000_000)).await;
        world.process("a").power_loss();
        world.process("b").kill();
        for task in tasks {
            task.await.ok();
        }
        world.process("a").restart();
        world.process("b").restart();
    }
}

/// Each refusal is a part of the work, so no result is looked at.
async fn writes(env: &dyn holdfast::env::Env, round: u64, writer: u64) {
    let path = std::path::PathBuf::from(format!("/{writer}"));
    let mut options = if round == 0 { OpenOptions::create() } else { OpenOptions::write() };
    options.direct = writer.is_multiple_of(2);
    options.dsync = writer == 2;
    let lock = env.disk().lock("/".as_ref(), "LOCK", LockKind::Shared).await;
    let Ok(file) = env.disk().open(&path, options).await else {
        return;
    };
    for number in 0..24 {
        let mut buf = Buf::zeroed(1536);
        buf.fill(env.random_u64() as u8);
        file.write_at(number * 1024, buf).await.0.ok();
        env.slice(1024).await;
        env.wall_now();
        if env.rare("sync") {
            file.sync_data().await.ok();
        }
        let half = Buf::zeroed(2048);
        file.read_at(number * 512, half).await.0.ok();
        match number % 8 {
            1 => drop(file.truncate(number * 1024).await),
            2 => drop(file.punch_hole(512, 4096).await),
            3 => drop(env.disk().sync_dir("/".as_ref()).await),
            4 => drop(env.disk().hard_link(&path, format!("/{writer}-{number}").as_ref()).await),
            5 => drop(env.disk().rename(&path, format!("/{writer}+").as_ref()).await),
            6 => drop(env.disk().rename(format!("/{writer}+").as_ref(), &path).await),
            _ => drop(file.allocate(number * 2048, 4096).await),
        }
    }
    drop(lock);
}

#[test]
fn a_seed_means_what_it_meant() {
    let kept: [(u64, u64, u64); 5] = [
        (0, 1033, 0x8fb1_f9de_c24f_886e),
        (1, 1412, 0x5f27_5044_e098_6319),
        (2, 1146, 0x3c89_4a61_b484_b066),
        (42, 1251, 0xb574_5f29_bb3f_88aa),
        (0xdead_beef, 1105, 0x741b_6373_1140_4d4d),
    ];
    let found = kept.map(|(seed, ..)| {
        let outcome = holdfast_sim::run(SimOptions::new(seed), work);
        (seed, outcome.events, outcome.hash)
    });
    assert_eq!(found, kept, "the same seed, its events and its hash");
}
