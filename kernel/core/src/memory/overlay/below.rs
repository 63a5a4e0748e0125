//! What happens to the nodes of an overlay below one of them, down to the frames.

use super::{Prepaid, Stores, span};
use crate::machine::Frame;
use crate::memory::nodes::{NodeId, Nodes, SLOT_BITS, SLOTS};

/// The node in a slot of an owned node, made or copied so that it may change.
pub(super) fn own_child(
    stores: &mut Stores<'_>,
    prepaid: &mut Prepaid,
    node: NodeId,
    slot: usize,
    height: u32,
) -> NodeId {
    let child = match stores.nodes[node].child(slot) {
        Some(child) if stores.nodes[child].references == 1 => return child,
        Some(child) => copy_node(stores, prepaid, child, height - 1),
        None => prepaid.take(stores),
    };
    stores.nodes.set(node, slot, child.raw());
    child
}

/// A copy of a shared node; the reference on the original that the caller held goes over to the copy's content.
pub(super) fn copy_node(stores: &mut Stores<'_>, prepaid: &mut Prepaid, original: NodeId, height: u32) -> NodeId {
    let copy = prepaid.take(stores);
    let slots = stores.nodes[original].slots;
    let occupied = stores.nodes[original].occupied;
    for slot in bits(occupied) {
        match height {
            1 => stores.frames.retain(Frame(slots[slot])),
            _ => stores.nodes.retain_raw(slots[slot]),
        }
    }
    let node = &mut stores.nodes[copy];
    node.slots = slots;
    node.occupied = occupied;
    release_node(stores, original, height);
    copy
}

/// Drops a reference on a node, and if it was the last, what the node holds. Recursion is bounded by the height.
pub(super) fn release_node(stores: &mut Stores<'_>, node: NodeId, height: u32) {
    if !stores.nodes.drop_reference(node) {
        return;
    }
    let occupied = stores.nodes[node].occupied;
    if height == 1 {
        let slots = &stores.nodes[node].slots;
        stores.frames.release_all(stores.accounts, bits(occupied).map(|slot| Frame(slots[slot])));
    } else {
        for slot in bits(occupied) {
            release_slot(stores, node, slot, height);
        }
    }
    stores.nodes.free(stores.accounts, node);
}

/// Drops what a slot holds, without clearing the slot.
fn release_slot(stores: &mut Stores<'_>, node: NodeId, slot: usize, height: u32) {
    if height == 1 {
        if let Some(frame) = stores.nodes[node].frame(slot) {
            stores.frames.release(stores.accounts, frame);
        }
    } else if let Some(child) = stores.nodes[node].child(slot) {
        release_node(stores, child, height - 1);
    }
}

/// One slot of a node, as part of a range: the slot, and the range's part relative to what is below the slot.
struct Part {
    slot: usize,
    start: u64,
    end: u64,
    whole: bool,
}

/// The numbers of the bits that are set, ascending.
fn bits(set: u64) -> impl Iterator<Item = usize> {
    let mut rest = set;
    core::iter::from_fn(move || {
        let bit = rest.checked_ilog2().map(|_| rest.trailing_zeros() as usize)?;
        rest &= rest - 1;
        Some(bit)
    })
}

/// The bits of the slots from `first` to `last`.
#[inline]
pub(super) const fn slots_from_to(first: u64, last: u64) -> u64 {
    u64::MAX << first & u64::MAX >> (SLOTS as u64 - 1 - last)
}

/// Cuts a range (relative to the node) into the occupied slots that it touches.
fn parts(occupied: u64, height: u32, start: u64, end: u64) -> impl Iterator<Item = Part> {
    let shift = (height - 1) * SLOT_BITS;
    let unit = 1u64 << shift;
    let end = end.min(unit << SLOT_BITS);
    let touched = if start < end { slots_from_to(start >> shift, (end - 1) >> shift) } else { 0 };
    bits(occupied & touched).map(move |slot| {
        let base = (slot as u64) << shift;
        let (start, end) = (start.max(base) - base, end.min(base + unit) - base);
        Part { slot, start, end, whole: start == 0 && end == unit }
    })
}

pub(super) fn occupied_in(nodes: &Nodes, node: NodeId, height: u32, start: u64, end: u64) -> bool {
    let shift = (height - 1) * SLOT_BITS;
    let end = end.min(span(height));
    if start >= end {
        return false;
    }
    let (first, last) = (start >> shift, (end - 1) >> shift);
    let touched = nodes[node].occupied & slots_from_to(first, last);
    // Of the slots at the two edges, the range may have but a part.
    let within = (1u64 << shift) - 1;
    let first_edge = if start & within != 0 || end < (first + 1) << shift { 1 << first } else { 0 };
    let last_edge = if end & within != 0 { 1 << last } else { 0 };
    if touched & !(first_edge | last_edge) != 0 {
        return true;
    }
    bits(touched).any(|slot| {
        let base = (slot as u64) << shift;
        let below = (start.max(base) - base, end.min(base + within + 1) - base);
        nodes[node].child(slot).is_some_and(|child| occupied_in(nodes, child, height - 1, below.0, below.1))
    })
}

/// How many shared nodes lead to pages of a range; `above`: the path to this one is shared.
pub(super) fn removal_nodes_below(
    nodes: &Nodes,
    node: NodeId,
    height: u32,
    above: bool,
    start: u64,
    end: u64,
) -> usize {
    let shared = above || nodes[node].references > 1;
    if shared && !occupied_in(nodes, node, height, start, end) {
        return 0;
    }
    let edges = parts(nodes[node].occupied, height, start, end).filter(|part| !part.whole);
    let below: usize = edges
        .filter_map(|part| {
            let child = nodes[node].child(part.slot)?;
            Some(removal_nodes_below(nodes, child, height - 1, shared, part.start, part.end))
        })
        .sum();
    below + usize::from(shared)
}

/// Removes a range below an owned node. Leaves no empty node below, but the node itself may be empty afterwards. Tells whether
/// there was anything to remove.
pub(super) fn remove_below(
    stores: &mut Stores<'_>,
    prepaid: &mut Prepaid,
    node: NodeId,
    height: u32,
    (start, end): (u64, u64),
) -> bool {
    let mut removed = false;
    for part in parts(stores.nodes[node].occupied, height, start, end) {
        if !part.whole {
            let range = (part.start, part.end);
            let Some(below) = stores.nodes[node].child(part.slot) else { continue };
            // What is shared is copied only if there is a reason to.
            let is_shared = stores.nodes[below].references > 1;
            if is_shared && !occupied_in(stores.nodes, below, height - 1, range.0, range.1) {
                continue;
            }
            let child = own_child(stores, prepaid, node, part.slot, height);
            removed |= remove_below(stores, prepaid, child, height - 1, range);
            if stores.nodes[child].occupied != 0 {
                continue;
            }
        }
        release_slot(stores, node, part.slot, height);
        stores.nodes.set(node, part.slot, 0);
        removed = true;
    }
    removed
}

pub(super) fn next_below(nodes: &Nodes, node: NodeId, height: u32, start: u64, end: u64) -> Option<(u64, Frame)> {
    let node = &nodes[node];
    parts(node.occupied, height, start, end).find_map(|part| {
        let base = (part.slot as u64) << ((height - 1) * SLOT_BITS);
        if height == 1 {
            return node.frame(part.slot).map(|frame| (base, frame));
        }
        let child = node.child(part.slot)?;
        let (index, frame) = next_below(nodes, child, height - 1, part.start, part.end)?;
        Some((base + index, frame))
    })
}

pub(super) fn count_below(nodes: &Nodes, node: NodeId, height: u32, start: u64, end: u64) -> u64 {
    let node = &nodes[node];
    if height == 1 && start == 0 && end >= SLOTS as u64 {
        return u64::from(node.occupied.count_ones());
    }
    let count = |part: Part| match height {
        1 => 1,
        _ => node.child(part.slot).map_or(0, |child| count_below(nodes, child, height - 1, part.start, part.end)),
    };
    parts(node.occupied, height, start, end).map(count).sum()
}
