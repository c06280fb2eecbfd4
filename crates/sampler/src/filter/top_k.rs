use std::cmp::Ordering;

/// Room for at least as many logits, so that few are parted seldom.
const ROOM_MIN: usize = 64;

/// Keeps the `k` largest logits, each with the id of its token ([Fan et al. 2018](https://arxiv.org/abs/1805.04833),
/// section 5.1), in ascending order of id. `k` must be at least 1, and no logit NaN; with no more than `k` of them, all
/// stay.
///
/// They are those of the most probable tokens, whatever the temperature. Takes time linear in the number of logits, of
/// which most are looked at once: those that are no match for the largest so far.
pub fn top_k(logits: impl IntoIterator<Item = (u32, f32)>, k: usize) -> Vec<(u32, f32)> {
    let room = k.saturating_mul(2).max(ROOM_MIN);
    let mut largest = Vec::new();
    let mut at_least = f32::NEG_INFINITY;
    for (id, logit) in logits {
        if logit >= at_least {
            largest.push((id, logit));
        }
        if largest.len() == room {
            part(&mut largest, k);
            at_least = largest[k - 1].1;
        }
    }
    part(&mut largest, k);
    largest.sort_unstable_by_key(|&(id, _)| id);
    largest
}

/// Leaves the `k` largest, of which the smallest comes last.
fn part(logits: &mut Vec<(u32, f32)>, k: usize) {
    if k < logits.len() {
        logits.select_nth_unstable_by(k - 1, largest_first);
        logits.truncate(k);
    }
}

/// The larger logit first; among equals, the lower id.
fn largest_first(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    // Not `total_cmp`, which tells 0 from -0: a softmax does not.
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}
