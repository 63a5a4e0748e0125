//! Credentials, and what they allow (`credentials(7)`, `path_resolution(7)`).

use alloc::rc::Rc;

/// A user id.
pub type Uid = u32;
/// A group id.
pub type Gid = u32;

/// The superuser.
pub const ROOT: Uid = 0;

bitflags::bitflags! {
    /// What somebody wants to do with a file; the bits are those of one mode triplet and of `access(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Read it, or list it.
        const READ = 4;
        /// Write it, or change the names in it.
        const WRITE = 2;
        /// Run it, or search it.
        const EXECUTE = 1;
    }
}

/// Who a process is. Immutable: a change makes a new one, so that holders keep what they saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Real user.
    pub uid: Uid,
    /// Effective user.
    pub euid: Uid,
    /// Saved user.
    pub suid: Uid,
    /// The user that file accesses are checked for; follows `euid`.
    pub fsuid: Uid,
    /// Real group.
    pub gid: Gid,
    /// Effective group.
    pub egid: Gid,
    /// Saved group.
    pub sgid: Gid,
    /// The group that file accesses are checked for; follows `egid`.
    pub fsgid: Gid,
    /// Supplementary groups.
    pub groups: Rc<[Gid]>,
}

/// Mode bits: set-user-id.
const S_ISUID: u32 = 0o4000;
/// Mode bits: set-group-id.
const S_ISGID: u32 = 0o2000;
/// Mode bits: execution by anybody.
const ANY_EXECUTE: u32 = 0o111;
/// Mode bits: execution by the group; set-group-id means something only with it.
const GROUP_EXECUTE: u32 = 0o010;
/// The type bits of a mode, and directories.
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

impl Credentials {
    /// The superuser's.
    pub fn root() -> Self {
        Self::user(ROOT, 0)
    }

    /// Those of an ordinary user with no supplementary groups.
    pub fn user(uid: Uid, gid: Gid) -> Self {
        Self { uid, euid: uid, suid: uid, fsuid: uid, gid, egid: gid, sgid: gid, fsgid: gid, groups: Rc::from([]) }
    }

    /// Whether it may do what only the superuser may.
    pub fn is_privileged(&self) -> bool {
        self.euid == ROOT
    }

    /// Whether the file system id belongs to a group.
    pub fn is_in_group(&self, gid: Gid) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }

    /// Whether the effective ids belong to a group.
    pub fn is_effectively_in_group(&self, gid: Gid) -> bool {
        self.egid == gid || self.groups.contains(&gid)
    }

    /// Whether `want` is allowed on a file with these attributes. `mode` includes the type bits. The superuser may read and
    /// write everything, search every directory, and run what anybody may run.
    pub fn may(&self, mode: u32, owner: Uid, group: Gid, want: Access) -> bool {
        let triplet = if self.fsuid == owner {
            mode >> 6
        } else if self.is_in_group(group) {
            mode >> 3
        } else {
            mode
        };
        let granted = Access::from_bits_truncate((triplet & 7) as u8);
        if granted.contains(want) {
            return true;
        }
        let executable = mode & ANY_EXECUTE != 0 || mode & S_IFMT == S_IFDIR;
        self.fsuid == ROOT && (executable || !want.contains(Access::EXECUTE))
    }

    /// Whether it owns a file, or may act as if (`chmod`, `utimensat`, sticky directories).
    pub fn is_owner_or_privileged(&self, owner: Uid) -> bool {
        self.fsuid == owner || self.fsuid == ROOT
    }

    /// Whether a process with these credentials may send a signal to one with `target`'s (`kill(2)`). `SIGCONT` within a
    /// session is the caller's business.
    pub fn may_signal(&self, target: &Self) -> bool {
        self.is_privileged()
            || [self.euid, self.uid].iter().any(|sender| *sender == target.uid || *sender == target.suid)
    }

    /// The same, with the real ids in the place of the file system ids (`access(2)`).
    pub fn with_real_ids(&self) -> Self {
        Self { fsuid: self.uid, fsgid: self.gid, ..self.clone() }
    }

    /// What they are after `execve` of a file with these attributes: set-id bits are honoured, saved ids follow.
    pub fn after_exec(&self, mode: u32, owner: Uid, group: Gid) -> Self {
        let euid = if mode & S_ISUID != 0 { owner } else { self.euid };
        let set_gid = S_ISGID | GROUP_EXECUTE;
        let egid = if mode & set_gid == set_gid { group } else { self.egid };
        Self { euid, suid: euid, fsuid: euid, egid, sgid: egid, fsgid: egid, ..self.clone() }
    }

    /// Whether a program started with them runs with more than its user's rights (`AT_SECURE`).
    pub fn is_secure_execution(&self) -> bool {
        self.uid != self.euid || self.gid != self.egid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u32 = 0o100_000;

    #[test]
    fn the_first_triplet_that_applies_decides() {
        let user = Credentials::user(10, 20);
        assert!(user.may(FILE | 0o600, 10, 99, Access::READ | Access::WRITE));
        assert!(!user.may(FILE | 0o077, 10, 20, Access::READ), "the owner's triplet counts, even if others may more");
        assert!(!user.may(FILE | 0o607, 99, 20, Access::READ));
        assert!(user.may(FILE | 0o604, 99, 98, Access::READ));
        let member = Credentials { groups: Rc::from([98]), ..user };
        assert!(member.may(FILE | 0o640, 99, 98, Access::READ));
    }

    #[test]
    fn root_may_all_but_run_what_nobody_may_run() {
        let root = Credentials::root();
        assert!(root.may(FILE, 10, 10, Access::READ | Access::WRITE));
        assert!(!root.may(FILE | 0o666, 10, 10, Access::EXECUTE));
        assert!(root.may(FILE | 0o001, 10, 10, Access::EXECUTE));
        assert!(root.may(S_IFDIR, 10, 10, Access::EXECUTE));
    }

    #[test]
    fn signals_need_a_matching_real_or_saved_user() {
        let user = Credentials::user(10, 10);
        assert!(user.may_signal(&user));
        assert!(!user.may_signal(&Credentials::root()));
        assert!(Credentials::root().may_signal(&user));
        let set_id = Credentials { euid: 0, suid: 0, ..Credentials::user(10, 10) };
        assert!(user.may_signal(&set_id), "the real user started it");
        let lowered = Credentials { uid: 11, suid: 10, ..Credentials::user(11, 11) };
        assert!(user.may_signal(&lowered));
    }

    #[test]
    fn set_id_bits_change_effective_and_saved_ids() {
        let user = Credentials::user(10, 20);
        let after = user.after_exec(FILE | 0o4755, 0, 0);
        assert_eq!((after.uid, after.euid, after.suid, after.fsuid, after.egid), (10, 0, 0, 0, 20));
        assert!(after.is_secure_execution());
        assert!(!user.after_exec(FILE | 0o2745, 0, 0).is_secure_execution(), "without group execution no set-group-id");
    }
}
