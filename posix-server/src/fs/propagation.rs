//! How mounts spread between peers, and from masters to slaves (`mount_namespaces(7)`).
//!
//! A mount with a *group* is a peer of all mounts of that group: what is mounted in one appears in each. A mount with a
//! *master* group hears of that group's changes and keeps its own to itself, unless it has a group of its own, too.

use super::mount::{Location, Mount, Propagation};
use super::namespace::{Namespace, Unbindable, copy_tree};
use crate::errno::{Errno, Result};
use alloc::rc::Rc;
use alloc::vec::Vec;

/// How a mount is to spread from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// To its peers, and from them (`MS_SHARED`).
    Shared,
    /// Not at all (`MS_PRIVATE`).
    Private,
    /// From its former peers only (`MS_SLAVE`).
    Slave,
    /// Not at all, nor can it be bound (`MS_UNBINDABLE`).
    Unbindable,
}

/// Changes how a mount spreads.
pub fn change(namespace: &Namespace, mount: &Rc<Mount>, change: Change) {
    let before = mount.propagation();
    let after = match change {
        Change::Shared => {
            let group = before.group.or_else(|| Some(namespace.new_group()));
            Propagation { group, is_unbindable: false, ..before }
        }
        Change::Private => Propagation::default(),
        Change::Unbindable => Propagation { is_unbindable: true, ..Propagation::default() },
        Change::Slave => Propagation { group: None, master: former_peers(namespace, mount), ..before },
    };
    mount.set_propagation(after);
}

/// The group that a mount hears of when it leaves its own: that, if somebody is left in it.
fn former_peers(namespace: &Namespace, mount: &Rc<Mount>) -> Option<u64> {
    let before = mount.propagation();
    let group = before.group?;
    let has_peers = namespace
        .all_mounts()
        .iter()
        .any(|other| !Rc::ptr_eq(other, mount) && other.propagation().group == Some(group));
    if has_peers { Some(group) } else { before.master }
}

/// The mounts that hear of what happens in one, without it.
fn hearers(namespace: &Namespace, mount: &Rc<Mount>) -> Vec<Rc<Mount>> {
    let Some(first) = mount.propagation().group else { return Vec::new() };
    let mut rest: Vec<Rc<Mount>> =
        namespace.all_mounts().into_iter().filter(|other| !Rc::ptr_eq(other, mount)).collect();
    let mut groups = Vec::from([first]);
    let mut found = Vec::new();
    while let Some(group) = groups.pop() {
        let hears = |other: &Rc<Mount>| {
            let Propagation { group: own, master, .. } = other.propagation();
            own == Some(group) || master == Some(group)
        };
        let (hearing, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(hears);
        groups.extend(hearing.iter().filter_map(|other| other.propagation().group).filter(|other| *other != group));
        found.extend(hearing);
        rest = others;
    }
    found
}

/// The places where what happens at one is to happen, too.
fn places(namespace: &Namespace, at: &Location) -> Vec<Location> {
    let hearers = hearers(namespace, &at.mount).into_iter();
    let shows = hearers.filter(|mount| at.dentry.is_within(mount.root()));
    shows.map(|mount| Location { mount, dentry: at.dentry.clone() }).collect()
}

/// What is mounted at the counterparts of a place.
pub fn counterparts(namespace: &Namespace, at: &Location) -> Vec<Rc<Mount>> {
    places(namespace, at).into_iter().filter_map(|place| place.mount.child_at(&place.dentry)).collect()
}

/// A tree is about to be mounted at a place: makes the copies that appear elsewhere, and has the tree's mounts spread as
/// those at the place do. `EINVAL` if one of the tree can't be bound and would have to be; `ENOSPC`.
pub fn copies_for(namespace: &Namespace, tree: &Rc<Mount>, at: &Location) -> Result<Vec<(Rc<Mount>, Location)>> {
    if at.mount.propagation().group.is_none() {
        return Ok(Vec::new());
    }
    if tree.tree().iter().any(|mount| mount.propagation().is_unbindable) {
        return Err(Errno::EINVAL);
    }
    for mount in tree.tree() {
        change(namespace, &mount, Change::Shared);
    }
    let own = at.mount.propagation().group;
    let mut copies = Vec::new();
    for place in places(namespace, at) {
        let pairs = copy_tree(tree, tree.root(), Unbindable::Copied)?;
        if place.mount.propagation().group != own {
            for (original, copy) in &pairs {
                let group = place.mount.propagation().group.map(|_| namespace.new_group());
                copy.set_propagation(Propagation { group, master: original.propagation().group, is_unbindable: false });
            }
        }
        copies.extend(pairs.first().map(|(_, copy)| (copy.clone(), place)));
    }
    Ok(copies)
}
