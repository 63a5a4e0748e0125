//! The tree of processes, by example and at random.

use super::*;
use proptest::prelude::*;

fn birth(parent: Pid, pid: Pid) -> Birth {
    Birth { parent, creator: parent, pid, exit_signal: Some(Signal::CHLD) }
}

fn exited(status: u8) -> Remains {
    Remains { status: ExitStatus::Exited(status), uid: 0, usage: Usage::default() }
}

fn wait(
    tree: &mut Tree,
    parent: Pid,
    which: WaitFor,
    events: WaitEvents,
    take: Take,
) -> Result<Option<(Pid, ChildEvent)>> {
    let request = WaitRequest { which, kin: Kin::Ordinary, creator: None, events, take };
    tree.wait(parent, &request).map(|found| found.map(|found| (found.pid, found.event)))
}

const ALL: WaitEvents = WaitEvents { ended: Want::Yes, stopped: Want::Yes, continued: Want::Yes };
const ENDED: WaitEvents = WaitEvents { ended: Want::Yes, stopped: Want::No, continued: Want::No };

fn family() -> Tree {
    let mut tree = Tree::new();
    for parent in [0, 1, 2, 2] {
        let pid = tree.allocate_pid().unwrap();
        if parent == 0 {
            tree.insert_first(pid);
        } else {
            tree.insert_child(birth(parent, pid)).unwrap();
        }
    }
    tree
}

#[test]
fn a_parent_learns_of_each_end_once() {
    let mut tree = family();
    assert_eq!(wait(&mut tree, 2, WaitFor::Any, ENDED, Take::Yes), Ok(None));
    let effects = tree.exit(3, exited(7));
    assert_eq!(effects.notify, Some((2, Some(Signal::CHLD))));
    let end = Some((3, ChildEvent::Ended(ExitStatus::Exited(7))));
    assert_eq!(wait(&mut tree, 2, WaitFor::Any, ENDED, Take::Peek), Ok(end));
    assert_eq!(wait(&mut tree, 2, WaitFor::Process(3), ENDED, Take::Yes), Ok(end));
    assert_eq!(wait(&mut tree, 2, WaitFor::Process(3), ENDED, Take::Yes), Err(Errno::ECHILD));
    assert_eq!(wait(&mut tree, 2, WaitFor::Any, ENDED, Take::Yes), Ok(None), "the other child lives");
}

#[test]
fn init_inherits_orphans_and_their_zombies() {
    let mut tree = family();
    tree.exit(3, exited(1));
    let effects = tree.exit(2, exited(0));
    assert_eq!(effects.adopted, [3, 4].map(|pid| Orphan { pid, parent: 1 }));
    assert_eq!(tree.parent(4), 1);
    assert!(wait(&mut tree, 1, WaitFor::Process(3), ENDED, Take::Yes).unwrap().is_some());
}

#[test]
fn stops_and_continuations_are_told_once_if_asked_for() {
    let mut tree = family();
    assert_eq!(tree.stop(3, Signal::TSTP), Some(2));
    assert_eq!(tree.stop(3, Signal::TSTP), None);
    assert_eq!(wait(&mut tree, 2, WaitFor::Any, ENDED, Take::Yes), Ok(None));
    assert_eq!(wait(&mut tree, 2, WaitFor::Any, ALL, Take::Yes), Ok(Some((3, ChildEvent::Stopped(Signal::TSTP)))));
    assert_eq!(wait(&mut tree, 2, WaitFor::Any, ALL, Take::Yes), Ok(None));
    assert_eq!(tree.resume(3), Some(2));
    assert_eq!(wait(&mut tree, 2, WaitFor::Any, ALL, Take::Yes), Ok(Some((3, ChildEvent::Continued))));
}

#[test]
fn group_rules() {
    let mut tree = family();
    assert_eq!(tree.set_group(3, 3, 3), Ok(()));
    assert_eq!(tree.set_group(2, 4, 3), Ok(()), "a parent may move its child into a group of the session");
    assert_eq!(tree.set_group(2, 4, 99), Err(Errno::EPERM), "no such group");
    assert_eq!(tree.set_group(3, 4, 3), Err(Errno::ESRCH), "not a child");
    tree.set_executed(4);
    assert_eq!(tree.set_group(2, 4, 4), Err(Errno::EACCES));
    assert_eq!(tree.set_group(1, 1, 1), Err(Errno::EPERM), "a session's leader stays");
    assert_eq!(tree.set_session(3), Err(Errno::EPERM), "a group's leader can't make a session");
    assert_eq!(tree.set_session(2), Ok(2));
    assert_eq!(tree.set_group(2, 3, 2), Err(Errno::EPERM), "another session");
    assert_eq!(wait(&mut tree, 2, WaitFor::Group(3), ENDED, Take::Yes), Ok(None));
    assert_eq!(wait(&mut tree, 2, WaitFor::Group(2), ENDED, Take::Yes), Err(Errno::ECHILD));
}

#[test]
fn the_first_process_looks_after_its_own_children_but_not_after_orphans() {
    let mut tree = family();
    tree.set_group(1, 2, 2).unwrap();
    tree.set_group(2, 3, 3).unwrap();
    assert!(!tree.is_orphaned_group(2) && !tree.is_orphaned_group(3));
    tree.exit(2, exited(0));
    assert!(tree.is_orphaned_group(3), "adopted by the first process, in the same session");
}

#[test]
fn a_stopped_group_that_loses_its_last_link_is_hung_up() {
    let mut tree = family();
    tree.set_session(2).unwrap();
    let child = tree.allocate_pid().unwrap();
    tree.insert_child(birth(2, child)).unwrap();
    tree.set_group(child, child, child).unwrap();
    assert!(!tree.is_orphaned_group(child));
    tree.stop(child, Signal::TSTP);
    assert_eq!(tree.exit(2, exited(0)).orphaned_groups, [child]);
}

#[test]
fn numbers_are_not_reused_at_once_and_never_while_a_group_has_them() {
    let mut tree = family();
    tree.set_group(3, 3, 3).unwrap();
    tree.set_group(2, 4, 3).unwrap();
    tree.exit(3, exited(0));
    tree.reap(3);
    assert_eq!(tree.allocate_pid(), Ok(5));
    tree.last_pid = 2;
    assert_eq!(tree.allocate_pid(), Ok(5), "3 is still a group's");
}

#[test]
fn a_subreaper_inherits_the_orphans_among_its_descendants() {
    let mut tree = family();
    let grandchild = tree.allocate_pid().unwrap();
    tree.insert_child(birth(3, grandchild)).unwrap();
    tree.set_subreaper(2, true);
    assert_eq!(tree.exit(3, exited(0)).adopted, [Orphan { pid: grandchild, parent: 2 }]);
    assert_eq!(tree.exit(2, exited(0)).adopted.last(), Some(&Orphan { pid: grandchild, parent: 1 }));
}

#[test]
fn children_without_sigchld_are_waited_for_on_demand_only() {
    let mut tree = family();
    let clone = tree.allocate_pid().unwrap();
    tree.insert_child(Birth { exit_signal: None, creator: 77, ..birth(4, clone) }).unwrap();
    tree.exit(clone, exited(3));
    let request = |kin, creator| WaitRequest { which: WaitFor::Any, kin, creator, events: ENDED, take: Take::Peek };
    assert_eq!(tree.wait(4, &request(Kin::Ordinary, None)), Err(Errno::ECHILD));
    assert_eq!(tree.wait(4, &request(Kin::Clones, Some(4))), Err(Errno::ECHILD), "another thread's");
    for (kin, creator) in [(Kin::Clones, None), (Kin::All, Some(77))] {
        assert!(tree.wait(4, &request(kin, creator)).unwrap().is_some());
    }
    let stopped = WaitEvents { ended: Want::No, ..ALL };
    assert_eq!(wait(&mut tree, 4, WaitFor::Any, stopped, Take::Peek), Err(Errno::ECHILD));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Fork(usize),
    Exit(usize),
    Wait(usize),
    SetGroup(usize, usize, usize),
    SetSession(usize),
    Stop(usize),
    Resume(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<usize>().prop_map(Step::Fork),
        2 => any::<usize>().prop_map(Step::Exit),
        2 => any::<usize>().prop_map(Step::Wait),
        1 => any::<(usize, usize, usize)>().prop_map(|(a, b, c)| Step::SetGroup(a, b, c)),
        1 => any::<usize>().prop_map(Step::SetSession),
        1 => any::<usize>().prop_map(Step::Stop),
        1 => any::<usize>().prop_map(Step::Resume),
    ]
}

/// Children and parents agree, and all live members of a group are in one session.
fn check(tree: &Tree) {
    for (pid, node) in &tree.nodes {
        for child in &node.children {
            assert_eq!(tree.nodes[child].parent, *pid);
        }
        if node.parent != 0 {
            assert!(tree.nodes[&node.parent].children.contains(pid));
        }
        for other in tree.nodes.values().filter(|other| other.group == node.group) {
            assert_eq!(other.session, node.session);
        }
        assert!(tree.groups[&node.group].contains(pid) && tree.sessions[&node.session].contains(pid));
    }
    assert_eq!(tree.groups.values().map(BTreeSet::len).sum::<usize>(), tree.nodes.len());
    assert_eq!(tree.sessions.values().map(BTreeSet::len).sum::<usize>(), tree.nodes.len());
}

proptest! {
    #[test]
    fn the_tree_stays_a_tree(steps in proptest::collection::vec(step(), 0..80)) {
        let mut tree = family();
        for step in steps {
            let pids = tree.pids();
            let at = |index: usize| pids[index % pids.len()];
            match step {
                Step::Fork(parent) => {
                    if !tree.is_zombie(at(parent)) {
                        let pid = tree.allocate_pid().unwrap();
                        tree.insert_child(birth(at(parent), pid)).unwrap();
                    }
                }
                Step::Exit(pid) => {
                    if at(pid) != INIT && !tree.is_zombie(at(pid)) {
                        tree.exit(at(pid), exited(0));
                    }
                }
                Step::Wait(pid) => { let _ = wait(&mut tree, at(pid), WaitFor::Any, ALL, Take::Yes); }
                Step::SetGroup(a, b, c) => { let _ = tree.set_group(at(a), at(b), at(c)); }
                Step::SetSession(pid) => { let _ = tree.set_session(at(pid)); }
                Step::Stop(pid) => { tree.stop(at(pid), Signal::STOP); }
                Step::Resume(pid) => { tree.resume(at(pid)); }
            }
            check(&tree);
        }
    }
}
