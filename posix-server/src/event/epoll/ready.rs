//! The ready list of an instance.

use super::MAX_KEPT;
use super::item::Item;
use alloc::collections::VecDeque;
use alloc::rc::Rc;

/// Empty places are removed together when they are more than half, and more than this.
const MAX_EMPTY: usize = 16;

/// Items that may be ready, in the order in which they came. Each has the number of its place, by which it is found again.
#[derive(Default)]
pub(super) struct ReadyList {
    /// In ascending order of their numbers. The first is never empty.
    places: VecDeque<(u64, Option<Rc<Item>>)>,
    empty: usize,
    next_place: u64,
}

impl ReadyList {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The number of the next place.
    pub(super) fn end(&self) -> u64 {
        self.next_place
    }

    /// The first item and its place.
    pub(super) fn first(&self) -> Option<(u64, Rc<Item>)> {
        self.places.front().and_then(|(place, item)| Some((*place, item.clone()?)))
    }

    /// Adds an item at the end; returns its place.
    pub(super) fn push(&mut self, item: Rc<Item>) -> u64 {
        let place = self.next_place;
        self.next_place += 1;
        self.places.push_back((place, Some(item)));
        place
    }

    /// Puts an item back that was taken from a place before all that are in use.
    pub(super) fn put_back(&mut self, place: u64, item: Rc<Item>) {
        self.places.push_front((place, Some(item)));
    }

    /// Takes the first item, if its place is before `end`.
    pub(super) fn pop_before(&mut self, end: u64) -> Option<(u64, Rc<Item>)> {
        let (place, item) = self.places.pop_front_if(|(place, _)| *place < end)?;
        self.drop_empty_front();
        Some((place, item?))
    }

    /// Takes the item at a place.
    pub(super) fn remove(&mut self, place: u64) -> Option<Rc<Item>> {
        let index = self.places.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        let item = self.places.get_mut(index)?.1.take();
        self.empty += 1;
        self.drop_empty_front();
        if self.empty > MAX_EMPTY && self.empty > self.places.len() / 2 {
            self.places.retain(|(_, item)| item.is_some());
            self.empty = 0;
        }
        item
    }

    fn drop_empty_front(&mut self) {
        while self.places.pop_front_if(|(_, item)| item.is_none()).is_some() {
            self.empty -= 1;
        }
        if self.places.is_empty() && self.places.capacity() > MAX_KEPT {
            self.places = VecDeque::new();
        }
    }
}
