//! The tree as the whole server has it.

use super::Tree;
use core::cell::RefCell;

/// A tree that is looked at and changed by functions that know nothing but the tree and a few numbers: so nobody can hold it borrowed
/// while something else runs that wants it, too.
#[derive(Debug, Default)]
pub struct SharedTree(RefCell<Tree>);

impl SharedTree {
    /// What a function finds in the tree. It can capture nothing.
    pub fn look<A: Copy + 'static, R>(&self, look: fn(&Tree, A) -> R, about: A) -> R {
        look(&self.0.borrow(), about)
    }

    /// What a function says that changes the tree. It can capture nothing.
    pub fn change<A: Copy + 'static, R>(&self, change: fn(&mut Tree, A) -> R, about: A) -> R {
        change(&mut self.0.borrow_mut(), about)
    }
}
