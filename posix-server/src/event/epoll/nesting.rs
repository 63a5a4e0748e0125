//! Instances that watch instances: never in a circle, and never deep.
//!
//! A wake-up climbs from instance to instance, and asking one whether it is ready may ask those below. Both are recursive,
//! so that the depth is limited, as in Linux; and both stop at an item that is in its list already, so that they look at each
//! link once, however many paths there are.

use super::Epoll;
use super::item::Item;
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;

/// How many links a chain of instances has at most (`EP_MAX_NESTS` of Linux).
const MAX_LINKS: usize = 4;

/// Neighbours by number, and how many items make them so.
type Neighbours = RefCell<BTreeMap<u64, (Weak<Epoll>, usize)>>;

/// The instances that one watches, and by which it is watched.
#[derive(Default)]
pub(super) struct Links {
    inner: Neighbours,
    outer: Neighbours,
}

fn count(neighbours: &Neighbours, epoll: &Rc<Epoll>) {
    let mut neighbours = neighbours.borrow_mut();
    neighbours.entry(epoll.id).or_insert_with(|| (Rc::downgrade(epoll), 0)).1 += 1;
}

fn uncount(neighbours: &Neighbours, id: u64) {
    let mut neighbours = neighbours.borrow_mut();
    if let Some((_, items)) = neighbours.get_mut(&id) {
        *items -= 1;
        if *items == 0 {
            neighbours.remove(&id);
        }
    }
}

/// Notes what an item links, if it watches an instance.
pub(super) fn link(outer: &Rc<Epoll>, item: &Item) {
    if let Some(inner) = item.inner().and_then(|(_, inner)| inner.upgrade()) {
        count(&outer.links.inner, &inner);
        count(&inner.links.outer, outer);
    }
}

/// Takes that back. The inner one may be about to go: then nobody asks any more.
pub(super) fn unlink(outer: u64, links: &Links, item: &Item) {
    let Some((id, inner)) = item.inner() else { return };
    uncount(&links.inner, *id);
    if let Some(inner) = inner.upgrade() {
        uncount(&inner.links.outer, outer);
    }
}

/// The longest way from an instance, in links. `ELOOP` if it is too long, or comes by `forbidden`.
fn depth(
    epoll: &Rc<Epoll>,
    side: fn(&Links) -> &Neighbours,
    forbidden: u64,
    known: &mut BTreeMap<u64, usize>,
    above: usize,
) -> Result<usize> {
    if epoll.id == forbidden || above > MAX_LINKS {
        return Err(Errno::ELOOP);
    }
    if let Some(depth) = known.get(&epoll.id) {
        return Ok(*depth);
    }
    let neighbours: Vec<_> = side(&epoll.links).borrow().values().filter_map(|(epoll, _)| epoll.upgrade()).collect();
    let mut deepest = 0;
    for neighbour in neighbours {
        deepest = deepest.max(1 + depth(&neighbour, side, forbidden, known, above + 1)?);
    }
    known.insert(epoll.id, deepest);
    Ok(deepest)
}

/// Whether `outer` may watch `inner`. `ELOOP`.
pub(super) fn check(outer: &Rc<Epoll>, inner: &Rc<Epoll>) -> Result<()> {
    let below = depth(inner, |links| &links.inner, outer.id, &mut BTreeMap::new(), 0)?;
    // No instance has the number 0.
    let above = depth(outer, |links| &links.outer, 0, &mut BTreeMap::new(), 0)?;
    if above + 1 + below > MAX_LINKS { Err(Errno::ELOOP) } else { Ok(()) }
}
