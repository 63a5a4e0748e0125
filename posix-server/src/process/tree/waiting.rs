//! What a `wait` finds (`wait(2)`, `waitid(2)`).

use super::{ChildEvent, Node, Pid, State, Tree};
use crate::cred::Uid;
use crate::errno::{Errno, Result};
use crate::process::usage::Usage;
use crate::signal::Signal;

/// Which children a `wait` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Any child.
    Any,
    /// This one.
    Process(Pid),
    /// Those in this group.
    Group(Pid),
}

/// What a `wait` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitEvents {
    /// Children that ended.
    pub ended: Want,
    /// Children that stopped.
    pub stopped: Want,
    /// Children that go on.
    pub continued: Want,
}

/// Whether something is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl Want {
    /// `Yes` if a flag is set.
    pub fn if_set(flags: u32, flag: u32) -> Self {
        if flags & flag != 0 { Self::Yes } else { Self::No }
    }
}

/// Whether what a `wait` reports is taken, or left for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is taken: a zombie is gone afterwards.
    Yes,
    /// `WNOWAIT`.
    Peek,
}

/// Which children count, by the signal that tells of their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kin {
    /// Those that tell by `SIGCHLD`.
    Ordinary,
    /// `__WCLONE`: the others.
    Clones,
    /// `__WALL`: all.
    All,
}

/// A whole `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitRequest {
    /// For whom.
    pub which: WaitFor,
    /// Of which kind.
    pub kin: Kin,
    /// `__WNOTHREAD`: only those that this thread has made.
    pub creator: Option<Pid>,
    /// What about them.
    pub events: WaitEvents,
    /// Whether it is taken.
    pub take: Take,
}

/// A child with something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The child.
    pub pid: Pid,
    /// What it tells.
    pub event: ChildEvent,
    /// Whose it was and what it has used, if it has ended; else the caller knows.
    pub remains: Option<(Uid, Usage)>,
}

impl Tree {
    /// Looks for a child that has something to tell. `None`: none has, yet. `ECHILD`: there is no such child.
    pub fn wait(&mut self, parent: Pid, request: &WaitRequest) -> Result<Option<Found>> {
        let children = &self.node(parent)?.children;
        let mut is_hopeless = true;
        let mut found = None;
        for child in children {
            let Some(node) = self.nodes.get(child).filter(|node| matches(node, *child, request)) else { continue };
            is_hopeless = false;
            if let Some(event) = news(node, request.events) {
                found = Some((*child, event));
                break;
            }
        }
        let Some((pid, event)) = found else {
            return if is_hopeless { Err(Errno::ECHILD) } else { Ok(None) };
        };
        let remains = self.remains(pid).map(|remains| (remains.uid, remains.usage));
        if request.take == Take::Yes {
            self.take(pid, event);
        }
        Ok(Some(Found { pid, event, remains }))
    }

    fn take(&mut self, child: Pid, event: ChildEvent) {
        match event {
            ChildEvent::Ended(_) => self.reap(child),
            ChildEvent::Stopped(_) | ChildEvent::Continued | ChildEvent::Trapped(_) => {
                if let Some(node) = self.nodes.get_mut(&child) {
                    node.news = None;
                }
            }
        }
    }
}

/// Whether a child counts. A zombie that nobody asks for tells nothing ever more, so it does not.
fn matches(node: &Node, pid: Pid, request: &WaitRequest) -> bool {
    let is_named = match request.which {
        WaitFor::Any => true,
        WaitFor::Process(wanted) => pid == wanted,
        WaitFor::Group(group) => node.group == group,
    };
    let is_ordinary = node.exit_signal == Some(Signal::CHLD);
    let is_kin = match request.kin {
        Kin::Ordinary => is_ordinary,
        Kin::Clones => !is_ordinary,
        Kin::All => true,
    };
    let is_own = request.creator.is_none_or(|creator| node.creator == creator);
    let is_past = matches!(node.state, State::Zombie(_)) && request.events.ended == Want::No;
    is_named && is_kin && is_own && !is_past
}

fn news(node: &Node, events: WaitEvents) -> Option<ChildEvent> {
    if let State::Zombie(remains) = node.state {
        if node.stranger().is_some() {
            // Whoever traces it is told first.
            return None;
        }
        return (events.ended == Want::Yes).then_some(ChildEvent::Ended(remains.status));
    }
    let wanted = match node.news? {
        // A parent that traces it hears of its stops as a tracer does.
        ChildEvent::Stopped(_) | ChildEvent::Trapped(_) if node.tracer == Some(node.parent) => Want::No,
        ChildEvent::Stopped(_) | ChildEvent::Trapped(_) => events.stopped,
        ChildEvent::Continued => events.continued,
        ChildEvent::Ended(_) => events.ended,
    };
    (wanted == Want::Yes).then_some(node.news).flatten()
}
