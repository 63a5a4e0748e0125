//! Calls on identities: of processes, groups, sessions, users.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::cred::{Credentials, Gid, Uid};
use crate::errno::{Errno, Result};
use crate::process::tree::Tree;
use crate::process::{Pid, Thread};
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_getpid, |t, _| number(t.process.pid)),
    SystemCall::new(linux::__NR_gettid, |t, _| number(t.tid)),
    SystemCall::new(linux::__NR_getppid, |t, _| number(t.process.parent())),
    SystemCall::new(linux::__NR_getpgrp, |t, _| number(t.process.group())),
    SystemCall::new(linux::__NR_getpgid, |t, a| getpgid(t, a[0] as Pid).into()),
    SystemCall::new(linux::__NR_getsid, |t, a| getsid(t, a[0] as Pid).into()),
    SystemCall::new(linux::__NR_setpgid, |t, a| setpgid(t, a[0] as Pid, a[1] as Pid).into()),
    SystemCall::new(linux::__NR_setsid, |t, _| setsid(t).into()),
    SystemCall::new(linux::__NR_getuid, |t, _| id(t.process.credentials().uid)),
    SystemCall::new(linux::__NR_geteuid, |t, _| id(t.process.credentials().euid)),
    SystemCall::new(linux::__NR_getgid, |t, _| id(t.process.credentials().gid)),
    SystemCall::new(linux::__NR_getegid, |t, _| id(t.process.credentials().egid)),
    SystemCall::new(linux::__NR_setuid, |t, a| change(t, |c| setuid(c, a[0] as Uid)).into()),
    SystemCall::new(linux::__NR_setgid, |t, a| change(t, |c| setgid(c, a[0] as Gid)).into()),
    SystemCall::new(linux::__NR_setreuid, |t, a| change(t, |c| setreuid(c, a[0] as Uid, a[1] as Uid)).into()),
    SystemCall::new(linux::__NR_setregid, |t, a| change(t, |c| setregid(c, a[0] as Gid, a[1] as Gid)).into()),
    SystemCall::new(linux::__NR_setresuid, |t, a| {
        change(t, |c| setresuid(c, [a[0], a[1], a[2]].map(|id| id as Uid))).into()
    }),
    SystemCall::new(linux::__NR_setresgid, |t, a| {
        change(t, |c| setresgid(c, [a[0], a[1], a[2]].map(|id| id as Gid))).into()
    }),
    SystemCall::new(linux::__NR_getresuid, |t, a| getres(t, a, |c| [c.uid, c.euid, c.suid]).into()),
    SystemCall::new(linux::__NR_getresgid, |t, a| getres(t, a, |c| [c.gid, c.egid, c.sgid]).into()),
    SystemCall::new(linux::__NR_setfsuid, |t, a| setfsuid(t, a[0] as Uid)),
    SystemCall::new(linux::__NR_setfsgid, |t, a| setfsgid(t, a[0] as Gid)),
    SystemCall::new(linux::__NR_getgroups, |t, a| getgroups(t, a).into()),
    SystemCall::new(linux::__NR_setgroups, |t, a| setgroups(t, a).into()),
    SystemCall::new(linux::__NR_capget, |t, a| capget(t, a).into()),
    SystemCall::new(linux::__NR_capset, |t, a| capset(t, a).into()),
];

/// An id that means "leave it".
const UNCHANGED: u32 = u32::MAX;

fn number(pid: Pid) -> Outcome {
    Outcome::Return(Ok(pid as u64))
}

fn id(id: u32) -> Outcome {
    Outcome::Return(Ok(u64::from(id)))
}

fn or_self(thread: &Thread, pid: Pid) -> Pid {
    if pid == 0 { thread.process.pid } else { pid }
}

fn getpgid(thread: &Thread, pid: Pid) -> Result<u64> {
    thread.server().tree.look(Tree::group, or_self(thread, pid)).map(|group| group as u64)
}

fn getsid(thread: &Thread, pid: Pid) -> Result<u64> {
    thread.server().tree.look(Tree::session, or_self(thread, pid)).map(|session| session as u64)
}

fn setpgid(thread: &Thread, pid: Pid, group: Pid) -> Result<()> {
    let pid = or_self(thread, pid);
    let group = if group == 0 { pid } else { group };
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    thread
        .server()
        .tree
        .change(|tree, (caller, pid, group)| tree.set_group(caller, pid, group), (thread.process.pid, pid, group))
}

fn setsid(thread: &Thread) -> Result<u64> {
    thread.server().tree.change(Tree::set_session, thread.process.pid).map(|session| session as u64)
}

/// Replaces the credentials by what a function makes of them.
fn change(thread: &Thread, with: impl FnOnce(&Credentials) -> Result<Credentials>) -> Result<()> {
    let changed = with(&thread.process.credentials())?;
    thread.process.set_credentials(changed);
    Ok(())
}

fn setuid(old: &Credentials, uid: Uid) -> Result<Credentials> {
    if uid == UNCHANGED {
        Err(Errno::EINVAL)
    } else if old.is_privileged() {
        Ok(Credentials { uid, euid: uid, suid: uid, fsuid: uid, ..old.clone() })
    } else if uid == old.uid || uid == old.suid {
        Ok(Credentials { euid: uid, fsuid: uid, ..old.clone() })
    } else {
        Err(Errno::EPERM)
    }
}

fn setgid(old: &Credentials, gid: Gid) -> Result<Credentials> {
    if gid == UNCHANGED {
        Err(Errno::EINVAL)
    } else if old.is_privileged() {
        Ok(Credentials { gid, egid: gid, sgid: gid, fsgid: gid, ..old.clone() })
    } else if gid == old.gid || gid == old.sgid {
        Ok(Credentials { egid: gid, fsgid: gid, ..old.clone() })
    } else {
        Err(Errno::EPERM)
    }
}

/// The new value of an id, one of `allowed` unless privileged.
fn chosen(privileged: bool, wanted: u32, old: u32, allowed: &[u32]) -> Result<u32> {
    if wanted == UNCHANGED {
        Ok(old)
    } else if privileged || allowed.contains(&wanted) {
        Ok(wanted)
    } else {
        Err(Errno::EPERM)
    }
}

fn setreuid(old: &Credentials, real: Uid, effective: Uid) -> Result<Credentials> {
    let privileged = old.is_privileged();
    let uid = chosen(privileged, real, old.uid, &[old.uid, old.euid])?;
    let euid = chosen(privileged, effective, old.euid, &[old.uid, old.euid, old.suid])?;
    let keeps_saved = real == UNCHANGED && (effective == UNCHANGED || euid == old.uid);
    let suid = if keeps_saved { old.suid } else { euid };
    Ok(Credentials { uid, euid, suid, fsuid: euid, ..old.clone() })
}

fn setregid(old: &Credentials, real: Gid, effective: Gid) -> Result<Credentials> {
    let privileged = old.is_privileged();
    let gid = chosen(privileged, real, old.gid, &[old.gid, old.egid])?;
    let egid = chosen(privileged, effective, old.egid, &[old.gid, old.egid, old.sgid])?;
    let keeps_saved = real == UNCHANGED && (effective == UNCHANGED || egid == old.gid);
    let sgid = if keeps_saved { old.sgid } else { egid };
    Ok(Credentials { gid, egid, sgid, fsgid: egid, ..old.clone() })
}

fn setresuid(old: &Credentials, [real, effective, saved]: [Uid; 3]) -> Result<Credentials> {
    let privileged = old.is_privileged();
    let all = [old.uid, old.euid, old.suid];
    let uid = chosen(privileged, real, old.uid, &all)?;
    let euid = chosen(privileged, effective, old.euid, &all)?;
    let suid = chosen(privileged, saved, old.suid, &all)?;
    Ok(Credentials { uid, euid, suid, fsuid: euid, ..old.clone() })
}

fn setresgid(old: &Credentials, [real, effective, saved]: [Gid; 3]) -> Result<Credentials> {
    let privileged = old.is_privileged();
    let all = [old.gid, old.egid, old.sgid];
    let gid = chosen(privileged, real, old.gid, &all)?;
    let egid = chosen(privileged, effective, old.egid, &all)?;
    let sgid = chosen(privileged, saved, old.sgid, &all)?;
    Ok(Credentials { gid, egid, sgid, fsgid: egid, ..old.clone() })
}

fn getres(thread: &Rc<Thread>, arguments: &Arguments, ids: fn(&Credentials) -> [u32; 3]) -> Result<()> {
    let ids = ids(&thread.process.credentials());
    for (address, id) in arguments.iter().zip(ids) {
        pointer(thread, *address).write(&id)?;
    }
    Ok(())
}

fn setfsuid(thread: &Thread, wanted: Uid) -> Outcome {
    let old = thread.process.credentials();
    let allowed = old.is_privileged() || [old.uid, old.euid, old.suid, old.fsuid].contains(&wanted);
    if wanted != UNCHANGED && allowed {
        thread.process.set_credentials(Credentials { fsuid: wanted, ..(*old).clone() });
    }
    id(old.fsuid)
}

fn setfsgid(thread: &Thread, wanted: Gid) -> Outcome {
    let old = thread.process.credentials();
    let allowed = old.is_privileged() || [old.gid, old.egid, old.sgid, old.fsgid].contains(&wanted);
    if wanted != UNCHANGED && allowed {
        thread.process.set_credentials(Credentials { fsgid: wanted, ..(*old).clone() });
    }
    id(old.fsgid)
}

fn getgroups(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [size, list, ..] = *arguments;
    let size = size as i32;
    let groups = thread.process.credentials().groups.clone();
    if size < 0 || size > 0 && (size as usize) < groups.len() {
        return Err(Errno::EINVAL);
    }
    if size > 0 {
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_le_bytes()).collect();
        pointer(thread, list).write_bytes(&bytes)?;
    }
    Ok(groups.len() as u64)
}

fn setgroups(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [size, list, ..] = *arguments;
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    if size > u64::from(linux::NGROUPS_MAX) {
        return Err(Errno::EINVAL);
    }
    let groups: Vec<Gid> = pointer(thread, list).read_array(size as usize)?;
    change(thread, |old| Ok(Credentials { groups: Rc::from(groups), ..old.clone() }))
}

/// The version of the capability records that is spoken (`_LINUX_CAPABILITY_VERSION_3`).
const CAPABILITY_VERSION: u32 = 0x2008_0522;
/// Capabilities 0 to 40 exist.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// The superuser has all capabilities, others none.
fn capget(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [header, data, ..] = *arguments;
    let header = pointer(thread, header);
    let [version, pid]: [u32; 2] = header.read()?;
    if version != CAPABILITY_VERSION {
        header.write(&[CAPABILITY_VERSION, pid])?;
        return if data == 0 { Ok(()) } else { Err(Errno::EINVAL) };
    }
    let pid = pid as Pid;
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let process = thread.server().process(or_self(thread, pid)).ok_or(Errno::ESRCH)?;
    let all = if process.credentials().is_privileged() { ALL_CAPABILITIES } else { 0 };
    let (low, high) = (all as u32, (all >> 32) as u32);
    pointer(thread, data).write_if_given(&[low, low, 0, high, high, 0])
}

/// Capabilities follow the user: what is there already may be asked for.
fn capset(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [header, data, ..] = *arguments;
    let header = pointer(thread, header);
    let [version, pid]: [u32; 2] = header.read()?;
    if version != CAPABILITY_VERSION {
        header.write(&CAPABILITY_VERSION)?;
        return Err(Errno::EINVAL);
    }
    if pid as Pid != 0 && pid as Pid != thread.process.pid {
        return Err(Errno::EPERM);
    }
    let wanted: [u32; 6] = pointer(thread, data).read()?;
    let is_more = wanted.iter().any(|word| *word != 0);
    if is_more && !thread.process.credentials().is_privileged() { Err(Errno::EPERM) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gives_its_rights_up_for_good() {
        let lowered = setuid(&Credentials::root(), 7).unwrap();
        assert_eq!((lowered.uid, lowered.euid, lowered.suid), (7, 7, 7));
        assert_eq!(setuid(&lowered, 0), Err(Errno::EPERM));
        assert_eq!(setresuid(&lowered, [UNCHANGED, 0, UNCHANGED]), Err(Errno::EPERM));
    }

    #[test]
    fn a_saved_id_can_be_taken_up_again() {
        let lowered = setresuid(&Credentials::root(), [7, 7, 0]).unwrap();
        assert_eq!(setuid(&lowered, 0).unwrap().euid, 0);
        assert_eq!(setreuid(&lowered, UNCHANGED, 0).unwrap().euid, 0);
        assert_eq!(setreuid(&Credentials::user(7, 7), 8, UNCHANGED), Err(Errno::EPERM));
    }

    #[test]
    fn setreuid_saves_the_effective_id() {
        let changed = setreuid(&Credentials::root(), 5, 6).unwrap();
        assert_eq!((changed.uid, changed.euid, changed.suid, changed.fsuid), (5, 6, 6, 6));
    }
}
