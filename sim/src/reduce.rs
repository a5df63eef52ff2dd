//! Delta debugging: lets parts of something that fails go as long as it fails in the same way.
//!
//! After Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (TSE 2002): halves of the parts,
//! then quarters, down to single ones. It knows nothing of what it cuts: that is said by functions over it.

/// Lets parts of `whole` go, many at a time at first. `parts` lists them, `without` takes some away, and `keeps` says
/// whether what is left is to be kept, which it then is in `whole`; it may also say no because the time is over.
///
/// When `keeps` has said no to each single part in the last round, none of them can go alone.
pub fn cut<W, P: Clone>(
    whole: &mut W,
    parts: impl Fn(&W) -> Vec<P>,
    without: impl Fn(&W, &[P]) -> W,
    mut keeps: impl FnMut(&W) -> bool,
) {
    let mut size = parts(whole).len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        loop {
            let all = parts(whole);
            if at >= all.len() {
                break;
            }
            let smaller = without(whole, &all[at..all.len().min(at + size)]);
            // What comes behind a cut stands where it was.
            if keeps(&smaller) {
                *whole = smaller;
            } else {
                at += size;
            }
        }
        if size == 1 {
            return;
        }
        size = size.div_ceil(2);
    }
}

/// Smaller numbers to try in place of one, from the least on.
pub fn smaller(number: u64, least: u64) -> Vec<u64> {
    let mut all: Vec<u64> = [least, number / 8, number / 2, number.saturating_sub(1)].into();
    all.retain(|smaller| *smaller >= least && *smaller < number);
    all.dedup();
    all
}

/// A list without what stands at some of its places.
pub fn without_places<T: Clone>(all: &[T], is_cut: impl Fn(usize) -> bool) -> Vec<T> {
    let kept = all.iter().enumerate().filter(|(at, _)| !is_cut(*at));
    kept.map(|(_, one)| one.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    quickcheck::quickcheck! {
        fn what_is_needed_stays_and_nothing_else(numbers: Vec<u8>, needed: Vec<u8>) -> bool {
            let needed: Vec<u8> = needed.into_iter().filter(|number| numbers.contains(number)).collect();
            let mut left: Vec<usize> = (0..numbers.len()).collect();
            let holds = |left: &Vec<usize>| needed.iter().all(|one| left.iter().any(|at| numbers[*at] == *one));
            cut(
                &mut left,
                |left| left.clone(),
                |left, gone| left.iter().copied().filter(|at| !gone.contains(at)).collect(),
                holds,
            );
            let single = |at: usize| {
                let fewer = left.iter().copied().filter(|other| *other != at).collect();
                !holds(&fewer)
            };
            holds(&left) && left.iter().all(|at| single(*at))
        }

        fn smaller_numbers_are_smaller(number: u64, least: u64) -> bool {
            smaller(number, least).iter().all(|one| (least..number).contains(one))
        }
    }
}
