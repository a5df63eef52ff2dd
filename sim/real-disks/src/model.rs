//! The same sequence on the simulated disk: an image before, within and after each operation, and what a power loss
//! leaves of each when somebody else chooses what survives.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use holdfast::env::Env;
use holdfast::sync::Mutex;
use holdfast_sim::{DiskImage, Process, SimDisk, SurvivorChoice, World};

use crate::perform::{Handles, perform, reopen};
use crate::seen::Seen;
use crate::sequence::{Operation, Sequence};
use crate::wrong::Wrong;

/// The images of a sequence, and which changes of the disk belong to which operation.
#[derive(Clone, Default)]
pub struct Images {
    /// `after[n]` when n operations were answered.
    pub after: Vec<DiskImage>,
    /// `within[n]` when operation n was begun and not answered.
    pub within: Vec<DiskImage>,
    /// Number of the first change, number and operation, in their order.
    pub changes: Vec<(u64, u16, Operation)>,
    /// Number of the file in each slot.
    pub files: BTreeMap<usize, u64>,
}

impl Images {
    /// The operation that made a change, with its number.
    pub fn maker(&self, change: u64) -> Option<(u16, &Operation)> {
        let position = self.changes.partition_point(|(first, ..)| *first <= change);
        let (_, number, operation) = self.changes.get(position.checked_sub(1)?)?;
        Some((*number, operation))
    }
}

/// Runs a sequence in a process of the simulated world, as far as `until` operations of its second part.
pub async fn images(
    process: &Process,
    sequence: &Sequence,
    wrong: Option<Wrong>,
    until: usize,
) -> Result<(Images, Arc<dyn Env>, Handles), String> {
    let (env, disk, sequence) = (process.env(), process.disk(), sequence.clone());
    let seed = sequence.seed;
    let running = process.run(async move {
        let mut images = Images::default();
        let mut handles = Handles::new();
        let root = Path::new("/");
        let before = sequence.before.len();
        for (number, operation) in sequence.all().take(before + until) {
            let position = usize::from(number) - 1;
            if position == before {
                begin(&disk, &env, &sequence, &mut handles, &mut images).await?;
            }
            let first = disk.next_change();
            let begun = Arc::new(Mutex::new(None));
            let note = Arc::clone(&begun);
            let looked = disk.clone();
            perform(&*env, root, &mut handles, number, operation, &mut || {
                *note.lock() = Some(looked.snapshot());
            })
            .await
            .map_err(|error| format!("seed {}, on the model: {operation}: {error}", sequence.seed))?;
            if let Operation::Create { slot, path, .. } = operation
                && let Some(file) = disk.number_of(format!("/{path}"))
            {
                images.files.insert(*slot, file);
            }
            images.changes.push((first, number, operation.clone()));
            if position >= before {
                if let Some(wrong) = wrong {
                    wrong.after(&*env, &sequence, &mut handles, number, operation).await;
                }
                let within = begun.lock().take();
                images.within.extend(within);
                images.after.push(disk.snapshot());
            }
        }
        if images.after.is_empty() {
            begin(&disk, &env, &sequence, &mut handles, &mut images).await?;
        }
        Ok((images, env, handles))
    });
    running.await.map_err(|_| format!("seed {seed}: the simulated process died"))?
}

/// What was done so far is durable, as after an orderly unmount, and its files are opened anew.
async fn begin(
    disk: &SimDisk,
    env: &Arc<dyn Env>,
    sequence: &Sequence,
    handles: &mut Handles,
    images: &mut Images,
) -> Result<(), String> {
    handles.clear();
    disk.sync_everything();
    *handles = reopen(&**env, Path::new("/"), &sequence.before)
        .await
        .map_err(|error| format!("seed {}, on the model: {error}", sequence.seed))?;
    images.after.push(disk.snapshot());
    Ok(())
}

/// The power goes, with a choice of what survives; gives the choice back and what is seen afterwards.
pub fn lose<C>(world: &World, process: &Process, image: &DiskImage, mut choice: C) -> (C, Seen)
where
    C: SurvivorChoice + Clone + 'static,
{
    let disk = process.disk();
    disk.restore(image);
    world.survivors_from(&mut choice, || process.power_loss());
    (choice, Seen::on_model(&disk))
}
