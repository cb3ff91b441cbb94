//! Scores items against weights over the feature vectors in memory: pure CPU on shared data.

use crate::{errors::Failure, store::ItemVectors};
use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

pub const FEATURES: usize = 32;

/// Rows between two looks at the clock: some tens of microseconds.
const ROWS_PER_LOOK: usize = 4096;

/// The `first` items of the highest score, best first, as (score, item id). Ties go to the lower id. Scores are within
/// 32 bits: 32 × 1000 × 127.
pub fn rank_items(
    vectors: &ItemVectors,
    weights: &[i32; FEATURES],
    first: usize,
    area_id: Option<i32>,
    deadline: Instant,
    late: impl Fn() -> Failure,
) -> Result<Vec<(i32, i32)>, Failure> {
    // The worst of the best so far is on top.
    let mut best: BinaryHeap<Reverse<(i32, Reverse<i32>)>> = BinaryHeap::with_capacity(first + 1);
    for (row, features) in vectors.features.iter().enumerate() {
        if row % ROWS_PER_LOOK == ROWS_PER_LOOK - 1 && Instant::now() >= deadline {
            return Err(late());
        }
        if first == 0 || area_id.is_some_and(|area| vectors.area_ids[row] != area) {
            continue;
        }
        let score = features.iter().zip(weights).map(|(feature, weight)| i32::from(*feature) * weight).sum();
        let candidate = (score, Reverse(vectors.item_ids[row]));
        if best.len() < first {
            best.push(Reverse(candidate));
        } else if best.peek().is_some_and(|worst| candidate > worst.0) {
            best.pop();
            best.push(Reverse(candidate));
        }
    }
    Ok(best.into_sorted_vec().into_iter().map(|Reverse((score, Reverse(id)))| (score, id)).collect())
}
