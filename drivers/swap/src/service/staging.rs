//! The staging memory: which of its pages are in use.

/// Pages of the staging memory: 2 MiB.
pub const STAGING_PAGES: u64 = 512;
/// Of these, so many are only for fills.
const FILL_PAGES: u64 = 128;
/// The longest run that is given at once: more gives others less of a turn, and a disk no more to do.
const LONGEST_RUN: u64 = 64;

/// Pages of the staging memory, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Fills,
    Writebacks,
}

/// Who has what.
#[derive(Debug)]
pub(super) struct Staging {
    used: [bool; STAGING_PAGES as usize],
}

impl Part {
    /// Its pages.
    fn range(self) -> (u64, u64) {
        match self {
            Self::Fills => (0, FILL_PAGES),
            Self::Writebacks => (FILL_PAGES, STAGING_PAGES),
        }
    }
}

impl Staging {
    pub(super) fn new() -> Self {
        Self { used: [false; STAGING_PAGES as usize] }
    }

    /// Takes the longest run there is of at most `count` pages; `None` if all are in use.
    pub(super) fn take(&mut self, part: Part, count: u64) -> Option<Run> {
        let wanted = count.min(LONGEST_RUN);
        let (mut at, end) = part.range();
        let mut longest: Option<Run> = None;
        while at < end && longest.is_none_or(|run| run.count < wanted) {
            let free = (at..end).take_while(|page| !self.is_used(*page)).take(wanted as usize).count() as u64;
            if free > longest.map_or(0, |run| run.count) {
                longest = Some(Run { first: at, count: free });
            }
            at += free.max(1);
        }
        self.mark(longest?, true);
        longest
    }

    /// Takes a run back.
    pub(super) fn give_back(&mut self, run: Run) {
        self.mark(run, false);
    }

    fn is_used(&self, page: u64) -> bool {
        self.used.get(page as usize).copied().unwrap_or(true)
    }

    fn mark(&mut self, run: Run, used: bool) {
        for page in self.used.iter_mut().skip(run.first as usize).take(run.count as usize) {
            *page = used;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_do_not_overlap_and_stay_in_their_part() {
        let mut staging = Staging::new();
        let mut runs = alloc::vec::Vec::new();
        while let Some(run) = staging.take(Part::Writebacks, 40) {
            assert!(run.first >= FILL_PAGES && run.first + run.count <= STAGING_PAGES && run.count <= 40);
            runs.push(run);
        }
        assert_eq!(runs.iter().map(|run| run.count).sum::<u64>(), STAGING_PAGES - FILL_PAGES);
        runs.sort_by_key(|run| run.first);
        assert!(runs.windows(2).all(|pair| pair[0].first + pair[0].count <= pair[1].first));
        assert_eq!(staging.take(Part::Fills, 1000), Some(Run { first: 0, count: LONGEST_RUN }));
        let middle = runs[runs.len() / 2];
        staging.give_back(middle);
        assert_eq!(staging.take(Part::Writebacks, middle.count + 1), Some(middle));
        assert_eq!(staging.take(Part::Writebacks, 1), None);
    }
}
