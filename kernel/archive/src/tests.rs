//! The archive against its builder, and against damage.

use crate::init::{Init, InitError, Stdio, Tracing, encode};
use crate::{
    Archive, ArchiveError, BuildError, Builder, Content, Kind, Metadata, PAGE_BYTES, PathStart, Problem, Rights,
    SegmentContent, Subject,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

const BASE: u64 = 0x20_0000;

fn code(address: u64, content: Vec<u8>) -> SegmentContent {
    SegmentContent {
        address,
        memory_length_bytes: content.len() as u64 + 1,
        rights: Rights::READ.with(Rights::EXECUTE),
        content,
    }
}

fn sample() -> Builder {
    let mut builder = Builder::new();
    builder.first_program(BASE, vec![code(BASE, vec![0x90; 5000])]);
    builder.directory("root", Metadata::of_root(0o755)).unwrap();
    builder.file("root/etc/passwd", Metadata::of_root(0o644), b"root:x:0:0".to_vec()).unwrap();
    builder.file("root/empty", Metadata::of_root(0o600), Vec::new()).unwrap();
    builder.symlink("root/bin/sh", Metadata::of_root(0o777), "busybox").unwrap();
    builder
}

/// Uses every accessor, so that a panic would show.
fn read_everything(archive: &Archive<'_>) -> usize {
    let mut sum = archive.first_program().segments().count();
    for entry in archive.entries() {
        let same = archive.find(entry.path()).expect("every path is found");
        sum += match same.content() {
            Content::Directory => 1,
            Content::File { offset, bytes } => {
                assert!(offset.is_multiple_of(PAGE_BYTES));
                bytes.len()
            }
            Content::Symlink(target) => target.len(),
        };
        sum += usize::from(entry.is_intact()) + entry.mode() as usize + (entry.uid() ^ entry.gid()) as usize;
        sum ^= entry.modified_s() as usize;
    }
    sum
}

#[test]
fn an_archive_gives_back_what_was_put_in() {
    let bytes = sample().build().unwrap();
    let archive = Archive::parse(&bytes).unwrap();
    assert_eq!(archive.total_length_bytes() % PAGE_BYTES, 0);
    assert_eq!(archive.first_program().entry(), BASE);
    let segments: Vec<_> = archive.first_program().segments().collect();
    assert_eq!((segments[0].file_length_bytes, segments[0].memory_length_bytes), (5000, 5001));
    let passwd = archive.find(b"root/etc/passwd").unwrap();
    assert_eq!(passwd.mode(), 0o644);
    assert!(matches!(passwd.content(), Content::File { bytes: b"root:x:0:0", .. }));
    assert_eq!(archive.find(b"root/bin/sh").unwrap().content(), Content::Symlink(b"busybox"));
    assert_eq!(archive.find(b"root/nothing").map(|entry| entry.kind()), None);
    archive.check_contents().unwrap();
    read_everything(&archive);
}

#[test]
fn missing_parents_are_added_before_their_children() {
    let bytes = sample().build().unwrap();
    let archive = Archive::parse(&bytes).unwrap();
    let paths: Vec<_> =
        archive.entries().map(|entry| (String::from_utf8_lossy(entry.path()).into_owned(), entry.kind())).collect();
    assert!(paths.contains(&("root/etc".into(), Kind::Directory)));
    assert!(paths.is_sorted_by(|first, second| first.0 < second.0));
}

#[test]
fn any_changed_bit_of_the_index_is_an_error() {
    let bytes = sample().build().unwrap();
    let index_length = u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
    for position in 0..index_length {
        for bit in [0, 7] {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            assert!(Archive::parse(&damaged).is_err(), "bit {bit} of byte {position}");
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample().build().unwrap();
    for length in 0..bytes.len() {
        assert!(Archive::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn bytes_after_the_end_do_not_matter() {
    let mut bytes = sample().build().unwrap();
    let length = bytes.len() as u64;
    bytes.extend_from_slice(&[0xff; 100]);
    assert_eq!(Archive::parse(&bytes).unwrap().total_length_bytes(), length);
}

#[test]
fn damaged_content_is_found_and_named() {
    let mut bytes = sample().build().unwrap();
    let archive = Archive::parse(&bytes).unwrap();
    let number = archive.entries().position(|entry| entry.path() == b"root/etc/passwd").unwrap();
    let Content::File { offset, .. } = archive.find(b"root/etc/passwd").unwrap().content() else { unreachable!() };
    bytes[offset as usize + 3] ^= 1;
    let error = Archive::parse(&bytes).unwrap().check_contents().unwrap_err();
    let subject = Subject::Entry(number as u32);
    assert_eq!(error, ArchiveError::Damaged { subject, path: PathStart::new(b"root/etc/passwd") });
    assert_eq!(error.to_string(), std::format!("{subject} (root/etc/passwd): the content is damaged (wrong checksum)"));
}

#[test]
fn bad_paths_and_targets_are_refused() {
    let mut builder = Builder::new();
    for path in ["", "/", "/root", "root/", "a//b", ".", "a/../b", "a/.", "nul\0", &"x".repeat(1025)] {
        assert!(matches!(builder.directory(path, Metadata::of_root(0o755)), Err(BuildError::Path(_))), "{path:?}");
    }
    assert!(matches!(builder.symlink("link", Metadata::of_root(0o777), ""), Err(BuildError::Target(_))));
}

#[test]
fn impossible_first_programs_are_refused() {
    let refused = |entry, segments| {
        let mut builder = Builder::new();
        builder.first_program(entry, segments);
        match builder.build() {
            Err(BuildError::Refused(ArchiveError::Part { problem, .. })) => problem,
            other => panic!("{other:?}"),
        }
    };
    let segment = || code(BASE, vec![1]);
    let with_rights = |rights| SegmentContent { rights, ..segment() };
    assert_eq!(refused(BASE, vec![]), Problem::SegmentCount);
    assert_eq!(refused(BASE + 2, vec![segment()]), Problem::EntryAddress);
    assert_eq!(refused(BASE, vec![with_rights(Rights::READ)]), Problem::EntryAddress);
    assert_eq!(refused(BASE, vec![with_rights(Rights::WRITE.with(Rights::EXECUTE))]), Problem::Rights);
    assert_eq!(refused(BASE, vec![segment(), segment()]), Problem::SegmentOrder);
    assert_eq!(refused(BASE, vec![code(BASE + 1, vec![1])]), Problem::Misaligned);
    assert_eq!(refused(BASE, vec![SegmentContent { memory_length_bytes: 0, ..segment() }]), Problem::AddressRange);
    assert_eq!(
        refused(BASE, vec![SegmentContent { memory_length_bytes: 1 << 47, ..segment() }]),
        Problem::AddressRange
    );
    assert_eq!(
        refused(BASE, vec![SegmentContent { memory_length_bytes: u64::MAX, ..segment() }]),
        Problem::AddressRange
    );
}

#[test]
fn a_repaired_checksum_does_not_get_bad_records_through() {
    let bytes = sample().build().unwrap();
    let index_length = u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
    for position in 8..index_length {
        for value in [0x00, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] = value;
            let sum = crate::format::index_checksum(&damaged[..index_length]);
            damaged[crate::format::CHECKSUM_OFFSET..][..8].copy_from_slice(&sum.to_le_bytes());
            if let Ok(archive) = Archive::parse(&damaged) {
                read_everything(&archive);
                // Either answer is right; it must not panic.
                let _ = archive.check_contents();
            }
        }
    }
}

#[test]
fn init_gives_back_what_was_put_in() {
    let arguments = vec![b"/bin/sh".to_vec(), b"-c".to_vec(), Vec::new()];
    let environment = vec![b"HOME=/root".to_vec()];
    let bytes = encode(Stdio::HostLink, Tracing::On, b"/work", &arguments, &environment).unwrap();
    let init = Init::decode(&bytes).unwrap();
    assert_eq!((init.stdio, init.directory, init.program()), (Stdio::HostLink, &b"/work"[..], &b"/bin/sh"[..]));
    assert_eq!(init.arguments().collect::<Vec<_>>(), arguments);
    assert_eq!(init.environment().collect::<Vec<_>>(), environment);
}

#[test]
fn bad_inits_are_refused() {
    let program = [b"/bin/sh".to_vec()];
    assert_eq!(encode(Stdio::Console, Tracing::Off, b"work", &program, &[]), Err(InitError::Directory));
    assert_eq!(encode(Stdio::Console, Tracing::Off, b"/", &[], &[]), Err(InitError::Count));
    assert_eq!(encode(Stdio::Console, Tracing::Off, b"/", &[b"a\0b".to_vec()], &[]), Err(InitError::Strings));
    let bytes = encode(Stdio::Console, Tracing::Off, b"/", &program, &[]).unwrap();
    for length in 0..bytes.len() {
        assert!(Init::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(Init::decode(&[&bytes[..], &[0]].concat()), Err(InitError::Strings));
}

fn some_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-c]{1,3}", 1..4).prop_map(|parts| parts.join("/"))
}

#[test]
fn the_size_of_the_console_is_told_to_the_system_and_not_to_the_program() {
    let environment = [b"TERM=vt100".to_vec(), b"CONSOLE_SIZE=50x132".to_vec()];
    let bytes = encode(Stdio::Console, Tracing::Off, b"/", &[b"/bin/sh".to_vec()], &environment).unwrap();
    let init = Init::decode(&bytes).unwrap();
    assert_eq!(init.console_size(), Some((50, 132)));
    assert_eq!(init.environment().collect::<std::vec::Vec<_>>(), [b"TERM=vt100"]);
}

proptest! {
    #[test]
    fn all_files_come_back(files in prop::collection::btree_map(some_path(), prop::collection::vec(any::<u8>(), 0..9000), 0..12)) {
        let files: BTreeMap<String, Vec<u8>> = files;
        let mut builder = Builder::new();
        builder.first_program(BASE, vec![code(BASE, vec![0xcc])]);
        for (path, content) in &files {
            builder.file(&std::format!("f/{path}.txt"), Metadata::of_root(0o644), content.clone()).unwrap();
        }
        let bytes = builder.build().unwrap();
        let archive = Archive::parse(&bytes).unwrap();
        prop_assert_eq!(archive.entries().filter(|entry| entry.kind() == Kind::File).count(), files.len());
        for (path, content) in &files {
            match archive.find(std::format!("f/{path}.txt").as_bytes()).unwrap().content() {
                Content::File { bytes, .. } => prop_assert_eq!(bytes, &content[..]),
                other @ (Content::Directory | Content::Symlink(_)) => prop_assert!(false, "{:?}", other),
            }
        }
        archive.check_contents().unwrap();
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(Archive::parse(&bytes).is_err());
        let _ = Init::decode(&bytes);
    }

    #[test]
    fn no_records_make_an_accessor_panic(
        changes in prop::collection::vec((8usize..1400, prop_oneof![Just(0u8), Just(0xff), any::<u8>()]), 1..6),
    ) {
        let mut bytes = sample().build().unwrap();
        for (position, value) in changes {
            bytes[position] = value;
        }
        let length = u64::from_le_bytes(bytes[24..32].try_into().unwrap()) as usize;
        if let Some(index) = bytes.get(..length) {
            let sum = crate::format::index_checksum(index);
            bytes[crate::format::CHECKSUM_OFFSET..][..8].copy_from_slice(&sum.to_le_bytes());
        }
        if let Ok(archive) = Archive::parse(&bytes) {
            read_everything(&archive);
        }
    }
}
