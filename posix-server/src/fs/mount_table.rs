//! The mounts as `/proc` shows them: `mounts`, `mountinfo`, `mountstats` (`proc(5)`).

use super::mount::{Mount, MountFlags, Reach, join};
use super::{FsContext, Location};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// The options of a mount itself, in the order in which Linux shows them.
const SHOWN_FLAGS: [(MountFlags, &str); 7] = [
    (MountFlags::NO_SET_ID, ",nosuid"),
    (MountFlags::NO_DEVICES, ",nodev"),
    (MountFlags::NO_EXECUTE, ",noexec"),
    (MountFlags::NO_ACCESS_TIME, ",noatime"),
    (MountFlags::NO_DIRECTORY_ACCESS_TIME, ",nodiratime"),
    (MountFlags::RELATIVE_ACCESS_TIME, ",relatime"),
    (MountFlags::NO_LINKS, ",nosymfollow"),
];

fn flags_of(mount: &Mount) -> String {
    SHOWN_FLAGS.iter().filter(|(flag, _)| mount.flags().contains(*flag)).map(|(_, name)| *name).collect()
}

/// What the file system itself says of its options.
fn options_of(mount: &Mount) -> String {
    let filesystem = mount.filesystem();
    if filesystem.payer().is_some() { filesystem.options().shown() } else { String::new() }
}

fn read_or_write(is_read_only: bool) -> &'static str {
    if is_read_only { "ro" } else { "rw" }
}

/// Writes a string so that it is one field: spaces and their kind as octal numbers.
fn push_escaped(text: &mut Vec<u8>, field: &[u8]) {
    for byte in field {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => text.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => text.push(*byte),
        }
    }
}

/// The mounts that somebody can see, with their paths.
fn visible(context: &FsContext) -> Vec<(Rc<Mount>, Vec<u8>)> {
    let mounts = context.namespace.mounts().into_iter();
    mounts
        .filter_map(|mount| {
            let (path, reach) = mount.place().path_from(&context.root);
            (reach == Reach::Inside).then_some((mount, path))
        })
        .collect()
}

/// What a mount was mounted from.
fn source_of(mount: &Mount) -> &[u8] {
    if mount.source().is_empty() { b"none" } else { mount.source() }
}

/// The text of `/proc/PID/mounts`.
pub fn mounts(context: &FsContext) -> Vec<u8> {
    let mut text = Vec::new();
    for (mount, path) in visible(context) {
        push_escaped(&mut text, source_of(&mount));
        text.push(b' ');
        push_escaped(&mut text, &path);
        let access = read_or_write(mount.is_read_only());
        let line = format!(" {} {access}{}{} 0 0\n", mount.filesystem().name(), flags_of(&mount), options_of(&mount));
        text.extend_from_slice(line.as_bytes());
    }
    text
}

/// The path of a mount's root in its file system.
fn root_path(mount: &Mount) -> Vec<u8> {
    let mut names = Vec::new();
    let mut dentry = mount.root().clone();
    while let Some(parent) = dentry.parent() {
        names.push(dentry.name());
        dentry = parent;
    }
    let mut path = join(&names);
    if mount.root().is_removed() {
        path.extend_from_slice(b"//deleted");
    }
    path
}

/// The text of `/proc/PID/mountinfo`.
pub fn mount_info(context: &FsContext) -> Vec<u8> {
    let mut text = Vec::new();
    for (mount, path) in visible(context) {
        let parent = mount.at().map_or(mount.id(), |Location { mount, .. }| mount.id());
        let device = mount.filesystem().device();
        text.extend_from_slice(format!("{} {parent} {}:{} ", mount.id(), device.major, device.minor).as_bytes());
        push_escaped(&mut text, &root_path(&mount));
        text.push(b' ');
        push_escaped(&mut text, &path);
        let access = read_or_write(mount.flags().contains(MountFlags::READ_ONLY));
        text.extend_from_slice(format!(" {access}{}", flags_of(&mount)).as_bytes());
        let propagation = mount.propagation();
        if let Some(group) = propagation.group {
            text.extend_from_slice(format!(" shared:{group}").as_bytes());
        }
        if let Some(master) = propagation.master {
            text.extend_from_slice(format!(" master:{master}").as_bytes());
        }
        if propagation.is_unbindable {
            text.extend_from_slice(b" unbindable");
        }
        text.extend_from_slice(format!(" - {} ", mount.filesystem().name()).as_bytes());
        push_escaped(&mut text, source_of(&mount));
        let access = read_or_write(mount.filesystem().is_read_only());
        text.extend_from_slice(format!(" {access}{}\n", options_of(&mount)).as_bytes());
    }
    text
}

/// The text of `/proc/PID/mountstats`.
pub fn mount_statistics(context: &FsContext) -> Vec<u8> {
    let mut text = Vec::new();
    for (mount, path) in visible(context) {
        text.extend_from_slice(b"device ");
        push_escaped(&mut text, source_of(&mount));
        text.extend_from_slice(b" mounted on ");
        push_escaped(&mut text, &path);
        text.extend_from_slice(format!(" with fstype {}\n", mount.filesystem().name()).as_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_never_hold_what_separates_them() {
        let mut text = Vec::new();
        push_escaped(&mut text, b"a b\\c\n");
        assert_eq!(text, b"a\\040b\\134c\\012");
    }
}
