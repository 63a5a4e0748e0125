extern crate std;

use super::entry::{self, Attributes, Entry, InodeFlags, run, xattr};
use super::notes::Record;
use super::operation::{Operation, Rename, Set, Values, operations};
use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

fn requests() -> Vec<Request> {
    Vec::from([
        Request::Mount { flags: MountFlags::READ_ONLY, commit_seconds: 5 },
        Request::Watch,
        Request::Status,
        Request::Load { inode: 2 },
        Request::List { inode: 2, cookie: LAST_COOKIE },
        Request::Xattrs { inode: 12 },
        Request::Runs { inode: 12, offset: 4096, len_bytes: u64::MAX },
        Request::Reserve { parent: 2, kind: NewKind::Directory, count: MAX_RESERVED },
        Request::Reserve { parent: 2, kind: NewKind::Other, count: 0 },
        Request::Apply { first: 1, count: MAX_OPERATIONS },
        Request::Commit { sequence: 7 },
        Request::Serve { inode: 12, slot: MAX_SERVED - 1 },
        Request::Release { inode: 12 },
        Request::Remount { flags: MountFlags::empty() },
        Request::Unmount,
    ])
}

#[test]
fn requests_survive_their_words() {
    for request in requests() {
        let (label, words) = request.encode();
        assert_eq!(Request::decode(label, &words), Some(request));
    }
}

#[test]
fn requests_beyond_the_limits_are_none() {
    let beyond = [
        (MOUNT, [MountFlags::all().bits() + 1, 0, 0]),
        (RESERVE, [2, 1, MAX_RESERVED + 1]),
        (RESERVE, [2, 3, 1]),
        (APPLY, [0, 1, 0]),
        (APPLY, [1, MAX_OPERATIONS + 1, 0]),
        (APPLY, [u64::MAX, 1, 0]),
        (SERVE, [1, MAX_SERVED, 0]),
        (0, [0; 3]),
        (u64::MAX, [0; 3]),
    ];
    for (label, [one, two, three]) in beyond {
        assert_eq!(Request::decode(label, &[one, two, three, 0, 0, 0, 0, 0]), None, "{label}");
    }
}

#[test]
fn refusals_are_what_their_labels_say() {
    for refused in Refused::ALL {
        assert_eq!(Refused::check(refused as u64), Err(refused));
    }
    assert_eq!(Refused::check(0), Ok(()));
    assert_eq!(Refused::check(u64::MAX), Err(Refused::Unknown));
    assert!(Refused::is_answer(0) && Refused::is_answer(Refused::TooLarge as u64));
    assert!(!Refused::is_answer(5) && !Refused::is_answer(u64::MAX));
}

#[test]
fn answers_survive_their_words() {
    let status = Status { free_blocks: 1, reserved_blocks: 2, free_inodes: 3, applied: 4, durable: 5 };
    assert_eq!(Status::decode(&status.encode()), status);
    for refused in [None, Some(Refused::NoSpace)] {
        let applied = Applied { status, refused };
        assert_eq!(Applied::decode(&applied.encode()), applied);
    }
    let volume = Volume {
        root: 2,
        block_bytes: 4096,
        flags: VolumeFlags::RECOVERED,
        uuid: [7; 16],
        label: *b"quire-root\0\0\0\0\0\0",
        status,
        version: 4,
        ..Volume::default()
    };
    assert_eq!(Volume::decode(&volume.encode()), Some(volume));
    assert_eq!(Volume::decode(&volume.encode()[..Volume::BYTES - 1]), None);
}

#[test]
fn half_a_record_is_none() {
    let (one, other) = (Record { transaction: 7, sequence: 9 }, Record { transaction: 71, sequence: 80 });
    assert_eq!(Record::offset_bytes(one.transaction), Record::offset_bytes(other.transaction));
    assert_eq!(Record::decode(&one.encode()), Some(one));
    assert_eq!(Record::decode(&[0; 24]), None);
    let mut torn = one.encode();
    torn[..8].copy_from_slice(&other.encode()[..8]);
    assert_eq!(Record::decode(&torn), None);
}

fn attributes() -> Attributes {
    Attributes {
        inode: 12,
        generation: 3,
        mode: 0o120_777,
        uid: 1000,
        gid: 100,
        links: 1,
        flags: InodeFlags::IMMUTABLE,
        size: 3,
        blocks: 8,
        accessed: -1,
        modified: i64::MIN,
        changed: i64::MAX,
        born: 4,
        device: 8 << 32 | 1,
        has_xattrs: true,
    }
}

#[test]
fn entries_survive_their_bytes() {
    let all = [
        Entry { attributes: attributes(), name: b"link", target: b"a/b" },
        Entry { attributes: Attributes::default(), name: &[b'x'; MAX_NAME_BYTES], target: b"" },
        Entry { attributes: attributes(), name: b"", target: &[b'y'; MAX_TARGET_BYTES] },
    ];
    let mut bytes = Vec::new();
    all.iter().for_each(|entry| entry.encode(&mut bytes));
    assert_eq!(entry::entries(&bytes).collect::<Vec<_>>(), all);
    assert!(all.iter().all(|entry| entry.encoded_bytes() <= MIN_LIST_BYTES));
}

#[test]
fn xattrs_and_runs_survive_their_bytes() {
    let all = [xattr::Xattr { name: b"user.a", value: b"" }, xattr::Xattr { name: b"user.b", value: &[1; 999] }];
    let mut bytes = Vec::new();
    all.iter().for_each(|xattr| xattr.encode(&mut bytes));
    assert_eq!(xattr::xattrs(&bytes).collect::<Vec<_>>(), all);
    let kinds = [run::Kind::Hole, run::Kind::Unwritten, run::Kind::Data];
    let all = kinds.map(|kind| run::Run { offset: 1, len_bytes: 2, physical: 3, kind });
    bytes.clear();
    all.iter().for_each(|run| run.encode(&mut bytes));
    assert_eq!(run::runs(&bytes).collect::<Vec<_>>(), all);
}

fn all_operations() -> Vec<Operation<'static>> {
    let (parent, inode, name, time) = (2, 12, &b"name"[..], -5);
    Vec::from([
        Operation::Create {
            parent,
            inode,
            name,
            mode: 0o100_644,
            uid: 1,
            gid: u32::MAX,
            time,
            device: 5 << 32 | 1,
            target: &[b'z'; MAX_TARGET_BYTES],
        },
        Operation::Create { parent: 0, inode, name: b"", mode: 0, uid: 0, gid: 0, time, device: 0, target: b"" },
        Operation::Link { parent, inode, name, time },
        Operation::Unlink { parent, inode, name: &[b'n'; MAX_NAME_BYTES], time },
        Operation::RemoveDirectory { parent, inode, name, time },
        Operation::Rename {
            old_parent: 2,
            old_name: b"a",
            new_parent: 3,
            new_name: b"bb",
            inode,
            other: 13,
            how: Rename::Exchange,
            time,
        },
        Operation::SetAttributes {
            inode,
            set: Set::SIZE | Set::CHANGED,
            values: Values {
                mode: 0o7777,
                uid: 1,
                gid: 2,
                flags: InodeFlags::NO_DUMP,
                size: 1 << 40,
                accessed: 1,
                modified: 2,
                changed: -3,
            },
        },
        Operation::SetXattr { inode, name: b"user.x", value: &[9; 4000], time },
        Operation::RemoveXattr { inode, name: b"user.x", time },
        Operation::Allocate { inode, offset: 4096, len_bytes: 8192 },
        Operation::Punch { inode, offset: 0, len_bytes: 1 },
        Operation::Forget { inode },
    ])
}

#[test]
fn operations_survive_their_bytes() {
    let all = all_operations();
    let mut bytes = Vec::new();
    for operation in &all {
        let before = bytes.len();
        operation.encode(&mut bytes);
        assert_eq!(bytes.len() - before, operation.encoded_bytes());
    }
    assert_eq!(operations(&bytes).collect::<Vec<_>>(), all);
    for cut in 0..bytes.len() {
        assert!(operations(&bytes[..cut]).count() < all.len());
    }
}

#[test]
fn operations_without_the_names_that_they_need_are_none() {
    for operation in [
        Operation::Create { parent: 2, inode: 1, name: b"", mode: 0, uid: 0, gid: 0, time: 0, device: 0, target: b"" },
        Operation::Unlink { parent: 2, inode: 1, name: b"", time: 0 },
        Operation::SetXattr { inode: 1, name: b"", value: b"", time: 0 },
    ] {
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        assert_eq!(Operation::split_first(&bytes), None);
    }
}

proptest! {
    #[test]
    fn no_decoder_panics(
        label in 0_u64..20,
        words in any::<[u64; 8]>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = Request::decode(label, &words);
        let _ = (Status::decode(&words), Applied::decode(&words), Volume::decode(&bytes), Record::decode(&bytes));
        prop_assert!(entry::entries(&bytes).count() <= bytes.len());
        prop_assert!(xattr::xattrs(&bytes).count() <= bytes.len());
        prop_assert!(run::runs(&bytes).count() <= bytes.len());
        prop_assert!(operations(&bytes).count() <= bytes.len());
    }

    #[test]
    fn damaged_operations_are_others_or_none(which in 0_usize..12, at in 0_usize..400, value in any::<u8>()) {
        let mut bytes = Vec::new();
        all_operations()[which].encode(&mut bytes);
        let at = at % bytes.len();
        bytes[at] = value;
        if let Some((operation, rest)) = Operation::split_first(&bytes) {
            prop_assert_eq!(operation.encoded_bytes() + rest.len(), bytes.len());
        }
    }
}
