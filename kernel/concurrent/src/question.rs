//! A question that one asks of several, who must have acted on it before the asker goes on. One is asked at a time.

use crate::word::Word;
use core::sync::atomic::Ordering;

/// What is asked, in words. Only the asker writes them, while nobody is marked.
#[derive(Debug)]
pub struct Question<W, const N: usize>([W; N]);

impl<W, const N: usize> Question<W, N> {
    /// The words.
    pub const fn new(words: [W; N]) -> Self {
        Self(words)
    }

    /// Writes it down. Nobody may be marked.
    pub fn put<T>(&self, values: [T; N])
    where
        W: Word<T>,
    {
        for (word, value) in self.0.iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// What is asked; for whoever is marked.
    pub fn read<T>(&self) -> [T; N]
    where
        W: Word<T>,
    {
        core::array::from_fn(|index| self.0[index].load(Ordering::Relaxed))
    }
}

/// The mark of one of those who are asked.
#[derive(Debug)]
pub struct Asked<W>(W);

impl<W> Asked<W> {
    /// A word that is false.
    pub const fn new(mark: W) -> Self {
        Self(mark)
    }
}

impl<W: Word<bool>> Asked<W> {
    /// The asker: sets the mark. The question is written down, and so is all that the answer depends on.
    pub fn mark(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the mark is set. Once it is not any more, the asker sees what the answer was; and whoever sees it set sees the
    /// question.
    #[inline]
    pub fn is_marked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whoever is asked: it is done.
    pub fn done(&self) {
        self.0.store(false, Ordering::Release);
    }
}
