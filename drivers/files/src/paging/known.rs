//! What is known of where a file's blocks are, so that the file system is not asked for each page.

use super::{Place, Run};
use alloc::vec::Vec;

/// How many blocks are asked for together.
pub(super) const WINDOW_BLOCKS: u64 = 4096;
/// How many runs are kept.
const MAX_RUNS: usize = 512;

/// Runs of a file, one after the other, as they were when [`generation`](Self::generation) was the present one.
#[derive(Debug, Default)]
pub(super) struct Known {
    runs: Vec<Run>,
    generation: u64,
}

impl Known {
    /// Changes whenever what is known is no longer so.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Blocks have come or gone.
    pub(super) fn forget(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.runs.clear();
    }

    /// Keeps what the file system said when the generation was this one.
    pub(super) fn keep(&mut self, runs: &[Run], generation: u64) {
        if generation == self.generation && runs.len() <= MAX_RUNS {
            self.runs.clear();
            self.runs.extend_from_slice(runs);
        }
    }

    /// The runs of a range, if all of it is known.
    pub(super) fn runs(&self, first: u64, count: u64) -> Option<Vec<Run>> {
        let (start, end) = (self.runs.first()?.first, self.runs.last()?);
        if first < start || first + count > end.first + end.count {
            return None;
        }
        Some(clip(&self.runs, first, count))
    }
}

/// The parts of runs that lie in a range.
pub(super) fn clip(runs: &[Run], first: u64, count: u64) -> Vec<Run> {
    let end = first + count;
    let begin = runs.partition_point(|run| run.first + run.count <= first);
    let inside = runs.iter().skip(begin).take_while(|run| run.first < end);
    inside.map(|run| part(run, first.max(run.first), end.min(run.first + run.count))).collect()
}

fn part(run: &Run, first: u64, end: u64) -> Run {
    let skipped = first - run.first;
    let place = match run.place {
        Place::Hole => Place::Hole,
        Place::Unwritten(block) => Place::Unwritten(block + skipped),
        Place::Written(block) => Place::Written(block + skipped),
        Place::Promised(block) => Place::Promised(block + skipped),
    };
    Run { first, count: end - first, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u64, place: Place) -> Run {
        Run { first, count, place }
    }

    #[test]
    fn what_is_known_is_cut_to_what_is_asked_for() {
        let all = [run(10, 5, Place::Written(100)), run(15, 5, Place::Hole), run(20, 4, Place::Unwritten(7))];
        let mut known = Known::default();
        assert_eq!(known.runs(10, 1), None);
        known.keep(&all, 0);
        assert_eq!(known.runs(12, 2), Some(Vec::from([run(12, 2, Place::Written(102))])));
        let expected = [run(14, 1, Place::Written(104)), run(15, 5, Place::Hole), run(20, 1, Place::Unwritten(7))];
        assert_eq!(known.runs(14, 7), Some(Vec::from(expected)));
        assert_eq!(known.runs(23, 1), Some(Vec::from([run(23, 1, Place::Unwritten(10))])));
        assert_eq!((known.runs(9, 2), known.runs(23, 2)), (None, None));
    }

    #[test]
    fn what_was_asked_before_a_change_is_not_kept() {
        let mut known = Known::default();
        let before = known.generation();
        known.forget();
        known.keep(&[run(0, 5, Place::Hole)], before);
        assert_eq!(known.runs(0, 1), None);
    }
}
