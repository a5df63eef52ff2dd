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
    cut_ahead(whole, parts, |whole, cuts| {
        cuts.iter().enumerate().find_map(|(number, cut)| {
            let smaller = without(whole, cut);
            keeps(&smaller).then_some((number, smaller))
        })
    });
}

/// The same, with all cuts that come next given at once, as long as none succeeds: `first` takes them from the whole one at
/// a time, and gives the first that is to be kept, with its number. So it may try several side by side.
pub fn cut_ahead<W, P>(
    whole: &mut W,
    parts: impl Fn(&W) -> Vec<P>,
    mut first: impl FnMut(&W, &[&[P]]) -> Option<(usize, W)>,
) {
    let mut size = parts(whole).len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        loop {
            let all = parts(whole);
            let cuts: Vec<&[P]> = all.get(at..).unwrap_or_default().chunks(size).collect();
            let Some((number, smaller)) = first(whole, &cuts) else { break };
            // What comes behind a cut stands where it was.
            at += number * size;
            *whole = smaller;
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

        fn what_is_tried_ahead_changes_nothing(numbers: Vec<u8>, needed: Vec<u8>, ahead: u8) -> bool {
            let holds = |left: &Vec<u8>| needed.iter().all(|one| !numbers.contains(one) || left.contains(one));
            let without = |left: &Vec<u8>, gone: &[(usize, u8)]| {
                without_places(left, |at| gone.iter().any(|(place, _)| *place == at))
            };
            let parts = |left: &Vec<u8>| left.iter().copied().enumerate().collect::<Vec<_>>();
            let (mut one, mut several) = (numbers.clone(), numbers.clone());
            cut(&mut one, parts, without, holds);
            cut_ahead(&mut several, parts, |left, cuts| {
                // All of a batch are tried before the first of them is taken.
                cuts.chunks(usize::from(ahead) + 1).enumerate().find_map(|(batch, cuts)| {
                    let tried: Vec<Vec<u8>> = cuts.iter().map(|cut| without(left, cut)).collect();
                    let found = tried.iter().position(holds)?;
                    Some((batch * (usize::from(ahead) + 1) + found, tried[found].clone()))
                })
            });
            one == several
        }

        fn smaller_numbers_are_smaller(number: u64, least: u64) -> bool {
            smaller(number, least).iter().all(|one| (least..number).contains(one))
        }
    }
}
