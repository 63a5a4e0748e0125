//! Names of flags, for people.

use alloc::format;
use alloc::string::String;
use linux_raw_sys::general as linux;

type Names = &'static [(u32, &'static str)];

const OPEN: Names = &[
    (linux::O_CREAT, "O_CREAT"),
    (linux::O_EXCL, "O_EXCL"),
    (linux::O_NOCTTY, "O_NOCTTY"),
    (linux::O_TRUNC, "O_TRUNC"),
    (linux::O_APPEND, "O_APPEND"),
    (linux::O_NONBLOCK, "O_NONBLOCK"),
    // Before the flags whose bits are among theirs.
    (linux::O_SYNC, "O_SYNC"),
    (linux::O_DSYNC, "O_DSYNC"),
    (linux::FASYNC, "O_ASYNC"),
    (linux::O_DIRECT, "O_DIRECT"),
    (linux::O_LARGEFILE, "O_LARGEFILE"),
    (linux::O_TMPFILE, "O_TMPFILE"),
    (linux::O_DIRECTORY, "O_DIRECTORY"),
    (linux::O_NOFOLLOW, "O_NOFOLLOW"),
    (linux::O_NOATIME, "O_NOATIME"),
    (linux::O_CLOEXEC, "O_CLOEXEC"),
    (linux::O_PATH, "O_PATH"),
];

/// The flags with which `open` may make a file.
pub(super) const MAKES_A_FILE: u32 = linux::O_CREAT | (linux::O_TMPFILE & !linux::O_DIRECTORY);

const PROTECTION: Names =
    &[(linux::PROT_READ, "PROT_READ"), (linux::PROT_WRITE, "PROT_WRITE"), (linux::PROT_EXEC, "PROT_EXEC")];

const MAPPING: Names = &[
    (linux::MAP_SHARED_VALIDATE, "MAP_SHARED_VALIDATE"),
    (linux::MAP_SHARED, "MAP_SHARED"),
    (linux::MAP_PRIVATE, "MAP_PRIVATE"),
    (linux::MAP_FIXED, "MAP_FIXED"),
    (linux::MAP_ANONYMOUS, "MAP_ANONYMOUS"),
    (linux::MAP_GROWSDOWN, "MAP_GROWSDOWN"),
    (linux::MAP_DENYWRITE, "MAP_DENYWRITE"),
    (linux::MAP_LOCKED, "MAP_LOCKED"),
    (linux::MAP_NORESERVE, "MAP_NORESERVE"),
    (linux::MAP_POPULATE, "MAP_POPULATE"),
    (linux::MAP_STACK, "MAP_STACK"),
    (linux::MAP_HUGETLB, "MAP_HUGETLB"),
    (linux::MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"),
];

const AT: Names = &[
    (linux::AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"),
    (linux::AT_REMOVEDIR, "AT_REMOVEDIR"),
    (linux::AT_SYMLINK_FOLLOW, "AT_SYMLINK_FOLLOW"),
    (linux::AT_NO_AUTOMOUNT, "AT_NO_AUTOMOUNT"),
    (linux::AT_EMPTY_PATH, "AT_EMPTY_PATH"),
];

const CLONE: Names = &[
    (linux::CLONE_VM, "CLONE_VM"),
    (linux::CLONE_FS, "CLONE_FS"),
    (linux::CLONE_FILES, "CLONE_FILES"),
    (linux::CLONE_SIGHAND, "CLONE_SIGHAND"),
    (linux::CLONE_PIDFD, "CLONE_PIDFD"),
    (linux::CLONE_PTRACE, "CLONE_PTRACE"),
    (linux::CLONE_VFORK, "CLONE_VFORK"),
    (linux::CLONE_PARENT, "CLONE_PARENT"),
    (linux::CLONE_THREAD, "CLONE_THREAD"),
    (linux::CLONE_NEWNS, "CLONE_NEWNS"),
    (linux::CLONE_SYSVSEM, "CLONE_SYSVSEM"),
    (linux::CLONE_SETTLS, "CLONE_SETTLS"),
    (linux::CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"),
    (linux::CLONE_CHILD_CLEARTID, "CLONE_CHILD_CLEARTID"),
    (linux::CLONE_CHILD_SETTID, "CLONE_CHILD_SETTID"),
];

/// Joins the names of the flags in `bits`; what has no name is shown in hexadecimal. `empty` stands for no flag at all.
fn join(bits: u32, names: Names, empty: &str) -> String {
    let mut text = String::new();
    let mut rest = bits;
    let mut add = |name: &str| {
        if !text.is_empty() {
            text.push('|');
        }
        text.push_str(name);
    };
    for (flag, name) in names {
        if rest & flag == *flag {
            rest &= !flag;
            add(name);
        }
    }
    if rest != 0 {
        add(&format!("{rest:#x}"));
    }
    if text.is_empty() { String::from(empty) } else { text }
}

/// The flags of `open`.
pub(super) fn open(bits: u32) -> String {
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"];
    let mode = access.get((bits & linux::O_ACCMODE) as usize).copied().unwrap_or_default();
    match bits & !linux::O_ACCMODE {
        0 => String::from(mode),
        rest => format!("{mode}|{}", join(rest, OPEN, "")),
    }
}

/// The protection of `mmap`.
pub(super) fn protection(bits: u32) -> String {
    join(bits, PROTECTION, "PROT_NONE")
}

/// The flags of `mmap`.
pub(super) fn mapping(bits: u32) -> String {
    join(bits, MAPPING, "0")
}

/// The flags of the `*at` calls.
pub(super) fn at(bits: u32) -> String {
    join(bits, AT, "0")
}

/// The flags of `clone`, whose lowest byte is a signal.
pub(super) fn clone(bits: u32) -> String {
    let flags = join(bits & !0xff, CLONE, "");
    match (bits & 0xff, flags.is_empty()) {
        (0, true) => String::from("0"),
        (0, false) => flags,
        (signal, true) => super::format::signal(signal),
        (signal, false) => format!("{flags}|{}", super::format::signal(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_and_unknown_bits_are_shown() {
        assert_eq!(open(linux::O_RDONLY), "O_RDONLY");
        assert_eq!(open(linux::O_RDWR | linux::O_CREAT | linux::O_SYNC), "O_RDWR|O_CREAT|O_SYNC");
        assert_eq!(protection(0), "PROT_NONE");
        assert_eq!(mapping(linux::MAP_PRIVATE | 1 << 30), "MAP_PRIVATE|0x40000000");
        assert_eq!(clone(linux::CLONE_VM | 17), "CLONE_VM|SIGCHLD");
    }
}
