//! Whether the operations on one register can have taken effect one at a time, each between its start and its end.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", JPDC 1993): whatever started before
//! the earliest end that is still to come can be next. Where it has been (which operations took effect, and what the
//! register holds) is remembered, as Lowe does ("Testing for linearizability", CCPE 2017), so that no situation is
//! searched twice. A read that fits is taken at once, without trying anything else: it changes nothing, so whatever
//! can come later can still come. The problem is NP-complete (Gibbons and Korach, 1997), hence the limit.

use std::collections::HashSet;

/// What the register holds: 0 for nothing, else one of the values.
pub(super) type State = u32;

/// An operation on the register.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Not before.
    pub from: u64,
    /// Not after; `u64::MAX` if there is no end.
    pub to: u64,
    /// What it saw, if it read.
    pub saw: Option<State>,
    /// What it left, if it wrote.
    pub left: Option<State>,
}

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// There is such an order.
    Order,
    /// There is none: how far it came, and what could not follow there.
    Stuck {
        /// What the register holds there.
        state: State,
        /// Those of the steps that would have to come next.
        next: Vec<usize>,
    },
    /// The limit was reached.
    Undecided,
}

/// A situation: the first step that is missing, those behind it that took effect, the optional ones that did.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Situation {
    first: usize,
    ahead: Vec<u32>,
    used: Vec<u32>,
    state: State,
}

impl Situation {
    fn is_done(&self, step: usize) -> bool {
        step < self.first || self.ahead.binary_search(&(step as u32)).is_ok()
    }

    fn done(&self) -> usize {
        self.first + self.ahead.len()
    }

    fn take(&mut self, step: usize, state: Option<State>) {
        if let Err(place) = self.ahead.binary_search(&(step as u32)) {
            self.ahead.insert(place, step as u32);
        }
        while self.ahead.first() == Some(&(self.first as u32)) {
            self.ahead.remove(0);
            self.first += 1;
        }
        self.state = state.unwrap_or(self.state);
    }
}

/// Looks for an order of `steps`, which are sorted by their start, with any of the `optional` ones between them, and
/// looks at no more than `limit` situations.
pub(super) fn search(steps: &[Step], optional: &[Step], limit: usize) -> Found {
    let start = Situation { first: 0, ahead: Vec::new(), used: Vec::new(), state: 0 };
    let mut seen = HashSet::from([start.clone()]);
    let mut open = vec![start.clone()];
    let mut furthest = start;
    while let Some(situation) = open.pop() {
        if situation.first == steps.len() {
            return Found::Order;
        }
        if situation.done() > furthest.done() {
            furthest = situation.clone();
        }
        for next in following(steps, optional, &situation) {
            if !seen.contains(&next) {
                if seen.len() >= limit {
                    return Found::Undecided;
                }
                seen.insert(next.clone());
                open.push(next);
            }
        }
    }
    let (next, _) = candidates(steps, &furthest);
    Found::Stuck { state: furthest.state, next }
}

/// The steps that may come next by their times, and the time before which the next one must have started.
fn candidates(steps: &[Step], situation: &Situation) -> (Vec<usize>, u64) {
    let mut candidates = Vec::new();
    let mut earliest_end = u64::MAX;
    for (at, step) in steps.iter().enumerate().skip(situation.first) {
        if step.from > earliest_end {
            break;
        }
        if !situation.is_done(at) {
            earliest_end = earliest_end.min(step.to);
            candidates.push(at);
        }
    }
    candidates.retain(|at| steps[*at].from <= earliest_end);
    (candidates, earliest_end)
}

fn following(steps: &[Step], optional: &[Step], situation: &Situation) -> Vec<Situation> {
    let fits = |step: &Step| step.saw.is_none_or(|saw| saw == situation.state);
    let (mut candidates, earliest_end) = candidates(steps, situation);
    candidates.retain(|at| fits(&steps[*at]));
    if let Some(read) = candidates.iter().find(|at| steps[**at].left.is_none()) {
        candidates = vec![*read];
    }
    let is_read = candidates.first().is_some_and(|at| steps[*at].left.is_none());
    let mut following = Vec::new();
    for (at, step) in optional.iter().enumerate().filter(|_| !is_read) {
        let at = at as u32;
        if let Err(place) = situation.used.binary_search(&at)
            && step.from <= earliest_end
            && fits(step)
            && step.left != Some(situation.state)
        {
            let mut next = situation.clone();
            next.used.insert(place, at);
            next.state = step.left.unwrap_or(next.state);
            following.push(next);
        }
    }
    // What is pushed last is looked at first: the step that must end first.
    candidates.sort_by_key(|at| std::cmp::Reverse(steps[*at].to));
    for at in candidates {
        let mut next = situation.clone();
        next.take(at, steps[at].left);
        following.push(next);
    }
    following
}
