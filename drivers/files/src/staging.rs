//! Regions of the staging memory, of which pieces are taken and given back.

use crate::platform::PAGE_BYTES;
use crate::signal::Signal;
use crate::turns::{Turns, Use};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// The most pages in one piece: 512 KiB, the longest transfer of a disk.
pub const MAX_PIECE_PAGES: u64 = 128;

/// A region of the staging memory.
#[derive(Debug)]
pub struct Region {
    first_page: u64,
    is_taken: RefCell<Vec<bool>>,
    /// Where to look first: what was given last ends there.
    next: Cell<usize>,
    line: Rc<Turns>,
    changed: Signal,
}

impl Region {
    /// The region of so many pages from one on.
    pub fn new(first_page: u64, pages: u64) -> Rc<Self> {
        let is_taken = RefCell::new(vec![false; pages as usize]);
        Rc::new(Self { first_page, is_taken, next: Cell::new(0), line: Rc::default(), changed: Signal::default() })
    }

    /// How many pages a piece has at most.
    pub fn max_pages(&self) -> u64 {
        (self.is_taken.borrow().len() as u64).clamp(1, MAX_PIECE_PAGES)
    }

    /// Waits for so many pages one after the other, in the order of asking; at most [`max_pages`](Self::max_pages).
    pub async fn take(self: &Rc<Self>, pages: u64) -> Piece {
        let count = pages.min(self.max_pages()) as usize;
        let turn = self.line.take(Use::Exclusive).await;
        let first = self.changed.until(|| self.take_now(count)).await;
        drop(turn);
        Piece { region: self.clone(), first, count }
    }

    /// A run of free pages that is long enough: the next one, or the first.
    fn take_now(&self, count: usize) -> Option<usize> {
        let mut is_taken = self.is_taken.borrow_mut();
        let first = find(&is_taken, self.next.get(), count).or_else(|| find(&is_taken, 0, count))?;
        is_taken.iter_mut().skip(first).take(count).for_each(|page| *page = true);
        self.next.set(first + count);
        Some(first)
    }
}

/// Where the first run of free pages begins that has this length, from a page on.
fn find(is_taken: &[bool], from: usize, count: usize) -> Option<usize> {
    let mut run = 0;
    for (index, taken) in is_taken.iter().enumerate().skip(from) {
        run = if *taken { 0 } else { run + 1 };
        if run >= count {
            return Some((index + 1).saturating_sub(count));
        }
    }
    None
}

/// Pages of a region, until this is dropped.
#[derive(Debug)]
pub struct Piece {
    region: Rc<Region>,
    first: usize,
    count: usize,
}

impl Piece {
    /// Where it begins in the staging memory, in bytes.
    pub fn offset(&self) -> u64 {
        (self.region.first_page + self.first as u64) * PAGE_BYTES
    }

    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        self.count as u64
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut is_taken = self.region.is_taken.borrow_mut();
        is_taken.iter_mut().skip(self.first).take(self.count).for_each(|page| *page = false);
        drop(is_taken);
        self.region.changed.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    fn take(region: &Rc<Region>, pages: u64) -> Option<Piece> {
        match pin!(region.take(pages)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(piece) => Some(piece),
            Poll::Pending => None,
        }
    }

    #[test]
    fn pieces_do_not_overlap_and_come_back() {
        let region = Region::new(8, 4);
        let one = take(&region, 2).unwrap();
        let two = take(&region, 1).unwrap();
        assert_eq!((one.offset(), two.offset(), two.pages()), (8 * PAGE_BYTES, 10 * PAGE_BYTES, 1));
        assert!(take(&region, 2).is_none());
        drop(one);
        let again = take(&region, 2).unwrap();
        assert_eq!(again.offset(), 8 * PAGE_BYTES);
        drop(again);
        assert!(take(&region, 3).is_none());
        drop(two);
        assert_eq!(take(&region, 99).unwrap().pages(), 4);
    }
}
