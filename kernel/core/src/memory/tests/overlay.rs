//! Overlays against maps that share nothing.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::super::tests::MockMachine;
use super::*;
use crate::account::Usage;
use proptest::prelude::*;

/// Stores of our own, and overlays in them.
struct Rig {
    m: MockMachine,
    accounts: Accounts,
    frames: FrameTable,
    nodes: Nodes,
    payer: Id<Account>,
}

impl Rig {
    fn new() -> Self {
        let mut accounts = Accounts::new();
        let payer = accounts.create(None, Usage::UNLIMITED).unwrap();
        let mut frames = FrameTable::new(Frame(4000)).unwrap();
        frames.add(Frame(0), 4000);
        Self { m: MockMachine::new(4000), accounts, frames, nodes: Nodes::new(), payer }
    }

    fn stores(&mut self) -> Stores<'_> {
        Stores { accounts: &mut self.accounts, frames: &mut self.frames, nodes: &mut self.nodes }
    }

    fn put(&mut self, overlay: &mut Overlay, index: u64) -> Frame {
        let frame = self.frames.allocate(&mut self.m, &mut self.accounts, self.payer).unwrap();
        let payer = self.payer;
        let old = overlay.insert(&mut self.stores(), payer, index, frame).unwrap();
        if let Some(old) = old {
            self.frames.release(&mut self.accounts, old);
        }
        frame
    }

    /// Removes with exactly what was computed to be needed.
    fn remove(&mut self, overlay: &mut Overlay, start: u64, end: u64) {
        let mut prepaid = Prepaid::new(self.payer);
        let needed = overlay.removal_nodes(&self.nodes, start, end);
        assert!(needed <= REMOVAL_NODES);
        let mut stores = self.stores();
        prepaid.add(&mut stores, needed).unwrap();
        overlay.remove(&mut stores, &mut prepaid, start, end);
        prepaid.refund(&mut stores);
    }

    fn relocate(&mut self, overlay: &mut Overlay, start: u64, pages: u64, target: u64) {
        let mut prepaid = Prepaid::new(self.payer);
        let resident = overlay.count(&self.nodes, start, start + pages);
        let mut stores = self.stores();
        prepaid.add(&mut stores, Overlay::moving_nodes(pages, resident)).unwrap();
        overlay.relocate(&mut stores, &mut prepaid, (start, start + pages), target);
        prepaid.refund(&mut stores);
    }
}

type Model = BTreeMap<u64, Frame>;

fn content(rig: &Rig, overlay: &Overlay) -> Vec<(u64, Frame)> {
    let mut cursor = 0;
    core::iter::from_fn(|| {
        let found = overlay.next(&rig.nodes, cursor, MAX_PAGES)?;
        cursor = found.0 + 1;
        Some(found)
    })
    .collect()
}

#[derive(Clone, Debug)]
enum Op {
    Put(usize, u64),
    Remove(usize, u64, u64),
    Snapshot(usize),
    Drop(usize),
    Relocate(usize, u64, u64, u64),
}

/// Indices near the edges of nodes of every height.
fn index() -> impl Strategy<Value = u64> {
    (prop_oneof![Just(0), Just(64), Just(4096), Just(1 << 18), Just(1 << 24), Just(MAX_PAGES - 200)], 0..140u64)
        .prop_map(|(base, offset)| base + offset)
}

fn op() -> impl Strategy<Value = Op> {
    let which = || 0..4usize;
    prop_oneof![
        6 => (which(), index()).prop_map(|(which, index)| Op::Put(which, index)),
        2 => (which(), index(), index()).prop_map(|(which, one, two)| Op::Remove(which, one.min(two), one.max(two))),
        1 => (which(), index(), 1..100u64).prop_map(|(which, start, len)| Op::Remove(which, start, start + len)),
        2 => which().prop_map(Op::Snapshot),
        1 => which().prop_map(Op::Drop),
        1 => (which(), index(), 1..60u64, index())
            .prop_map(|(which, from, pages, to)| Op::Relocate(which, from, pages, to)),
    ]
}

fn apply(rig: &mut Rig, overlays: &mut Vec<(Overlay, Model)>, op: &Op) {
    let (Op::Put(which, ..) | Op::Remove(which, ..) | Op::Snapshot(which) | Op::Drop(which) | Op::Relocate(which, ..)) =
        *op;
    if which >= overlays.len() {
        return overlays.push((Overlay::new(), Model::new()));
    }
    let count = overlays.len();
    let (overlay, model) = &mut overlays[which];
    match *op {
        Op::Put(_, index) => {
            let frame = rig.put(overlay, index);
            model.insert(index, frame);
        }
        Op::Remove(_, start, end) => {
            rig.remove(overlay, start, end);
            model.retain(|index, _| *index < start || *index >= end);
        }
        Op::Snapshot(_) if count < 4 => {
            let copy = (overlay.snapshot(&mut rig.nodes), model.clone());
            overlays.push(copy);
        }
        Op::Snapshot(_) => {}
        Op::Drop(_) => {
            let (mut overlay, _) = overlays.swap_remove(which);
            overlay.clear(&mut rig.stores());
        }
        Op::Relocate(_, from, pages, to) => {
            let apart = from + pages <= to || to + pages <= from;
            if apart && to + pages <= MAX_PAGES && model.range(to..to + pages).next().is_none() {
                rig.relocate(overlay, from, pages, to);
                let moved: Vec<_> = model.range(from..from + pages).map(|(index, frame)| (*index, *frame)).collect();
                for (index, frame) in moved {
                    model.remove(&index);
                    model.insert(index - from + to, frame);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn overlays_agree_with_maps_that_share_nothing(ops in proptest::collection::vec(op(), 1..120)) {
        let mut rig = Rig::new();
        let mut overlays = Vec::new();
        for op in &ops {
            apply(&mut rig, &mut overlays, op);
        }
        for (overlay, model) in &overlays {
            prop_assert_eq!(content(&rig, overlay), model.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(overlay.count(&rig.nodes, 0, MAX_PAGES), model.len() as u64);
            for (index, frame) in model {
                prop_assert_eq!(overlay.lookup(&rig.nodes, *index), Some(*frame));
                // Shared exactly if another overlay has the same frame.
                let holders = overlays.iter().filter(|(_, other)| other.values().any(|it| it == frame)).count();
                let page = overlay.page(&rig.nodes, &rig.frames, *index);
                prop_assert_eq!(page, if holders > 1 { Page::Shared(*frame) } else { Page::Owned(*frame) });
            }
        }
        for (mut overlay, _) in overlays {
            overlay.clear(&mut rig.stores());
        }
        prop_assert_eq!(rig.nodes.len(), 0);
        prop_assert_eq!(rig.frames.free(), rig.frames.total());
        prop_assert_eq!(rig.accounts.get(rig.payer).unwrap().used(), Usage::default());
    }
}

#[test]
fn a_small_overlay_has_one_node_and_a_page_at_the_top_of_the_address_space_six() {
    let mut rig = Rig::new();
    let mut overlay = Overlay::new();
    rig.put(&mut overlay, 63);
    assert_eq!(rig.nodes.len(), 1);
    rig.put(&mut overlay, 64);
    assert_eq!(rig.nodes.len(), 3);
    overlay.clear(&mut rig.stores());
    rig.put(&mut overlay, MAX_PAGES - 1);
    assert_eq!(rig.nodes.len(), 6);
}

#[test]
fn the_sole_owner_never_copies() {
    let mut rig = Rig::new();
    let mut overlay = Overlay::new();
    for index in 0..1000 {
        rig.put(&mut overlay, index);
    }
    let mut copy = overlay.snapshot(&mut rig.nodes);
    let nodes = rig.nodes.len();
    copy.clear(&mut rig.stores());
    assert!((0..1000).all(|index| overlay.insertion_nodes(&rig.nodes, index) == 0));
    assert_eq!(rig.nodes.len(), nodes);
}

#[test]
fn a_write_after_a_snapshot_copies_one_path() {
    let mut rig = Rig::new();
    let mut overlay = Overlay::new();
    for index in (0..5000).step_by(7) {
        rig.put(&mut overlay, index);
    }
    let _copy = overlay.snapshot(&mut rig.nodes);
    let nodes = rig.nodes.len();
    rig.put(&mut overlay, 2000);
    assert_eq!(rig.nodes.len(), nodes + 3);
}

#[test]
fn who_cannot_pay_changes_nothing() {
    let mut rig = Rig::new();
    let mut overlay = Overlay::new();
    rig.put(&mut overlay, 0);
    let used = rig.accounts.get(rig.payer).unwrap().used();
    let frame = rig.frames.allocate(&mut rig.m, &mut rig.accounts, rig.payer).unwrap();
    rig.accounts.set_limit(rig.payer, Usage { frames: u64::MAX, kernel_bytes: used.kernel_bytes + 100 });
    let payer = rig.payer;
    let result = overlay.insert(&mut rig.stores(), payer, MAX_PAGES - 1, frame);
    assert_eq!(result, Err(Exhausted::AccountLimit));
    assert_eq!(content(&rig, &overlay).len(), 1);
    assert_eq!(rig.nodes.len(), 1);
}
