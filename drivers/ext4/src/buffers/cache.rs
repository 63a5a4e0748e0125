//! Which blocks are in memory, and which of them make way for others.

use super::Block;
use crate::sync::Signal;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;

/// Blocks looked at per insertion to find some that can go.
const GLANCES: usize = 4;

/// A block's place in the cache.
#[derive(Clone)]
pub(super) enum Slot {
    /// Somebody reads it from the device: raised when that is over, well or badly.
    Loading(Rc<Signal>),
    /// Here.
    Present(Block),
}

/// The blocks in memory: at most `capacity` that nobody needs, and those that somebody does.
pub(super) struct Cache {
    slots: BTreeMap<u64, Slot>,
    /// All blocks in `slots`, from the one to look at next, and some that have left.
    round: VecDeque<Block>,
    capacity: usize,
}

impl Cache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: BTreeMap::new(), round: VecDeque::new(), capacity: capacity.max(1) }
    }

    pub(super) fn get(&self, number: u64) -> Option<&Slot> {
        self.slots.get(&number)
    }

    pub(super) fn begin_loading(&mut self, number: u64) -> Rc<Signal> {
        let signal = Rc::new(Signal::default());
        self.slots.insert(number, Slot::Loading(signal.clone()));
        signal
    }

    /// Ends a load that came to nothing, unless the block has appeared by other means.
    pub(super) fn give_up_loading(&mut self, number: u64, signal: &Rc<Signal>) {
        if matches!(self.slots.get(&number), Some(Slot::Loading(loading)) if Rc::ptr_eq(loading, signal)) {
            self.slots.remove(&number);
        }
    }

    pub(super) fn insert(&mut self, block: Block) {
        let number = block.number();
        self.slots.insert(number, Slot::Present(block.clone()));
        self.round.push_back(block);
        self.trim();
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Block> {
        match self.slots.remove(&number)? {
            Slot::Present(block) => Some(block),
            Slot::Loading(_) => None,
        }
    }

    /// Blocks in memory or on the way there.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Gives up blocks that nobody has asked for during a whole round.
    fn trim(&mut self) {
        for _ in 0..GLANCES {
            if self.round.len() <= self.capacity {
                return;
            }
            let Some(block) = self.round.pop_front() else { return };
            let here = matches!(self.slots.get(&block.number()), Some(Slot::Present(present)) if present.is(&block));
            if here && (block.take_referenced() || !block.is_idle()) {
                self.round.push_back(block);
            } else if here {
                self.slots.remove(&block.number());
            }
        }
    }
}
