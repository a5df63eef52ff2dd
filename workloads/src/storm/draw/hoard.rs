//! `hoard`: values of up to a megabyte, and whoever reads or writes them takes his time.
//!
//! ```text
//! large batches           memtables that are small each, and too much together
//! walks that rest         old memtables and blocks that somebody holds
//! transactions that rest  buffers, up to more than all may have together
//! ```
//! Most steps are those of `mixed`, in small: they are the writers that are slowed down and stopped. Late in the script most
//! clients write more than there is room for, walk over it, and hold it for longer than a stopped writer waits;
//! then the others are told that it is too much.

use super::Mix;
use crate::Random;
use crate::storm::script::{Action, Call, Hold, Level, Script, Step, View, Walk};

/// How long somebody rests, in microseconds.
const RESTS_US: [u64; 4] = [1000, 1000, 100_000, 5_000_000];
/// Longer than a stopped writer waits.
const LONG_REST_US: u64 = 45_000_000;
/// The keyspace that most large values go to.
const SLOT: u8 = 0;

impl Mix {
    pub(super) fn hoard(&self, random: &mut Random) -> Call {
        match random.below(40) {
            0 => {
                let actions = (0..1 + random.below(3)).map(|_| self.put_large(random)).collect();
                Call::Batch { durable: self.durable(random), actions }
            }
            1 | 4 => {
                let mut actions: Vec<Action> =
                    (0..1 + random.below(7)).map(|_| self.put_large(random)).collect();
                let at = random.below(actions.len() as u64 + 1) as usize;
                actions.insert(at, Action::Pause(rest_us(random)));
                self.transact(Self::level(random), actions, random)
            }
            2 => {
                let walk = resting(*random.of(&[0, 10, 100, 255]), rest_us(random), random);
                Call::Read { view: View::Snapshot, actions: vec![Action::Scan(self.slot(random), walk)] }
            }
            3 => {
                let slot = self.slot(random);
                let walk = resting(random.below(40) as u8, rest_us(random), random);
                let actions = vec![Action::Scan(slot, walk), self.put(slot, random)];
                self.transact(Level::Serializable, actions, random)
            }
            _ => self.mixed(random),
        }
    }

    /// Lets most clients write much, and hold it for long, so late in the script that hardly a crash comes after
    /// it.
    pub(super) fn gather(&self, script: &mut Script, random: &mut Random) {
        for steps in &mut script.clients {
            if !random.one_in(3) {
                let put = |random: &mut Random| {
                    Action::Put(SLOT, self.key(random), (1 << 19) + random.below(1 << 19) as u32)
                };
                let puts = (0..6).map(|_| put(random)).collect();
                let walk = resting(u8::MAX, (LONG_REST_US + random.below(LONG_REST_US / 3)) as u32, random);
                let calls = [
                    Call::Batch { durable: self.durable(random), actions: puts },
                    Call::Read { view: View::Snapshot, actions: vec![Action::Scan(SLOT, walk)] },
                ];
                let count = steps.len() as u64;
                let at = (count * 9 / 10 + random.below(count / 20 + 1)) as usize;
                steps.splice(at..at, calls.map(Step::patient));
            }
        }
    }

    fn put_large(&self, random: &mut Random) -> Action {
        let slot = if random.one_in(3) { self.slot(random) } else { SLOT };
        let most = *random.of(&[100_000, 1 << 20, 1 << 20]);
        Action::Put(slot, self.key(random), random.below(most) as u32)
    }
}

fn rest_us(random: &mut Random) -> u32 {
    let longest = *random.of(&RESTS_US);
    (longest / 2 + random.below(longest)) as u32
}

fn resting(entries: u8, us: u32, random: &mut Random) -> Walk {
    Walk { reverse: random.one_in(2), hold: Some(Hold { entries, us }), ..Walk::WHOLE }
}
