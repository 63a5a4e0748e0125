//! Doubly linked lists over ids: O(1) to append, take and remove, and no memory of their own, so that nothing that has to
//! wait in a line can fail to get into it.
//!
//! The links are in the objects. A list is two ids; whoever owns it copies it out, changes it, and writes it back,
//! because the objects that hold lists are in the same pools as those that stand in them.

/// The place of one object in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links<N> {
    next: Option<N>,
    previous: Option<N>,
}

impl<N> Links<N> {
    /// In no list.
    pub const fn new() -> Self {
        Self { next: None, previous: None }
    }

    /// Whether there are no neighbours.
    #[inline(always)]
    pub(crate) fn is_clear(&self) -> bool {
        self.next.is_none() && self.previous.is_none()
    }

    /// Forgets the neighbours.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }
}

impl<N> Default for Links<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the objects with their links live.
pub trait Arena<N> {
    /// The links of `node`, which is alive.
    fn links(&mut self, node: N) -> &mut Links<N>;
}

/// A list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<N> {
    head: Option<N>,
    tail: Option<N>,
}

impl<N> Default for List<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<N> List<N> {
    /// An empty list.
    pub const fn new() -> Self {
        Self { head: None, tail: None }
    }

    /// Empties it, when it has one member at most, who is taken to know.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Whether nothing is in it.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.head.is_none()
    }
}

impl<N: Copy + PartialEq> List<N> {
    /// Makes `node` the only one in an empty list. Its links must be clear.
    #[inline(always)]
    pub(crate) fn set_single(&mut self, node: N) {
        *self = Self { head: Some(node), tail: Some(node) };
    }

    /// The first.
    #[inline]
    pub fn front(&self) -> Option<N> {
        self.head
    }

    /// The last.
    pub fn back(&self) -> Option<N> {
        self.tail
    }

    /// The one after `node`, which is in this list.
    pub fn after(&self, arena: &mut impl Arena<N>, node: N) -> Option<N> {
        arena.links(node).next
    }

    /// Puts `node`, which is in no list, at the end.
    #[inline]
    pub fn push_back(&mut self, arena: &mut impl Arena<N>, node: N) {
        *arena.links(node) = Links { next: None, previous: self.tail };
        match self.tail {
            Some(tail) => arena.links(tail).next = Some(node),
            None => self.head = Some(node),
        }
        self.tail = Some(node);
    }

    /// Puts `node`, which is in no list, at the start.
    #[inline]
    pub fn push_front(&mut self, arena: &mut impl Arena<N>, node: N) {
        *arena.links(node) = Links { next: self.head, previous: None };
        match self.head {
            Some(head) => arena.links(head).previous = Some(node),
            None => self.tail = Some(node),
        }
        self.head = Some(node);
    }

    /// Takes the first out and puts `node`, which is in no list, at the end.
    #[inline(always)]
    pub fn exchange_first(&mut self, arena: &mut impl Arena<N>, node: N) -> Option<N> {
        let first = self.head?;
        if self.tail == Some(first) {
            // Neither has neighbours.
            self.set_single(node);
        } else {
            self.push_back(arena, node);
            self.pop_front(arena);
        }
        Some(first)
    }

    /// Takes `node` out, which is in this list.
    #[inline]
    pub fn remove(&mut self, arena: &mut impl Arena<N>, node: N) {
        let Links { next, previous } = core::mem::take(arena.links(node));
        debug_assert!(previous.is_some() || self.head == Some(node), "taken out of a list that it is not in");
        match previous {
            Some(previous) => arena.links(previous).next = next,
            None => self.head = next,
        }
        match next {
            Some(next) => arena.links(next).previous = previous,
            None => self.tail = previous,
        }
    }

    /// Takes the first out.
    #[inline]
    pub fn pop_front(&mut self, arena: &mut impl Arena<N>) -> Option<N> {
        let node = self.head?;
        self.remove(arena, node);
        Some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    impl Arena<usize> for Vec<Links<usize>> {
        fn links(&mut self, node: usize) -> &mut Links<usize> {
            &mut self[node]
        }
    }

    fn content(list: &List<usize>, arena: &mut Vec<Links<usize>>) -> Vec<usize> {
        let mut found = Vec::new();
        let mut cursor = list.front();
        while let Some(node) = cursor {
            found.push(node);
            cursor = list.after(arena, node);
        }
        found
    }

    #[test]
    fn a_list_keeps_order_and_lets_anybody_out() {
        let mut arena = std::vec![Links::new(); 5];
        let mut list = List::new();
        for node in 0..4 {
            list.push_back(&mut arena, node);
        }
        list.push_front(&mut arena, 4);
        assert_eq!(content(&list, &mut arena), [4, 0, 1, 2, 3]);
        list.remove(&mut arena, 1);
        list.remove(&mut arena, 4);
        list.remove(&mut arena, 3);
        assert_eq!(content(&list, &mut arena), [0, 2]);
        assert_eq!(list.exchange_first(&mut arena, 1), Some(0));
        assert_eq!(content(&list, &mut arena), [2, 1]);
        assert_eq!(list.pop_front(&mut arena), Some(2));
        assert_eq!(list.exchange_first(&mut arena, 3), Some(1));
        assert_eq!(content(&list, &mut arena), [3]);
        assert_eq!(list.pop_front(&mut arena), Some(3));
        assert_eq!(list.pop_front(&mut arena), None);
        assert!(list.is_empty());
    }
}
