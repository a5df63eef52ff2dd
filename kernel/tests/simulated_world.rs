//! The kernel's traits as the simulator implements them: the smallest proof that a test of the kernel can run in it.

use holdfast::env::{Buf, OpenOptions};
use holdfast_sim::NothingSurvives;

#[test]
fn synced_bytes_survive_and_unsynced_ones_need_not() {
    let outcome = holdfast_sim::run(1, |world| async move {
        let process = world.process("db");
        let env = process.env();
        world.set_survivors(Some(Box::new(NothingSurvives)));
        let run = process.run(async move {
            let file = env.disk().open("/log".as_ref(), OpenOptions::create()).await?;
            file.write_at(0, Buf::copy_of(b"durable")).await.0?;
            file.sync_data().await?;
            env.disk().sync_dir("/".as_ref()).await?;
            file.write_at(7, Buf::copy_of(b" lost")).await.0
        });
        run.await.expect("nobody killed it").expect("no fault was asked for");
        let before = process.disk().read_file("/log");
        process.power_loss();
        (before, process.disk().read_file("/log"))
    });
    assert_eq!(outcome.result, (b"durable lost".to_vec(), b"durable".to_vec()));
}
