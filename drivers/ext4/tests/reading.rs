//! What mke2fs writes is read back as it was.
#![cfg(test)]

mod common;

use common::{Disk, FORMATS, Format, Place, check, make, mount, run};
use ext4::{Device, Ext4, FileKind, ROOT, Target};
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

/// Directories with few and many names, files of all sizes, with holes, and links of both kinds.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("few/below/further")).unwrap();
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..700 {
        fs::write(root.join(format!("many/a file with a rather long name {number}")), format!("{number}")).unwrap();
    }
    for size in [0, 1, 59, 60, 1023, 1024, 4096, 4097, 100_000, 700_000] {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + at / 1000) as u8).collect();
        fs::write(root.join(format!("few/{size}")), bytes).unwrap();
    }
    let mut sparse = vec![0; 400_000];
    sparse[5_000] = 1;
    sparse[300_000..300_100].fill(2);
    write_sparse(&root.join("few/sparse"), &sparse);
    symlink("short", root.join("few/short link")).unwrap();
    symlink("x".repeat(59), root.join("few/link of 59")).unwrap();
    symlink("y".repeat(60), root.join("few/link of 60")).unwrap();
    symlink("z".repeat(900), root.join("few/long link")).unwrap();
    fs::hard_link(root.join("few/1"), root.join("few/below/same")).unwrap();
    fs::set_permissions(root.join("few/59"), fs::Permissions::from_mode(0o4751)).unwrap();
}

fn write_sparse(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (number, part) in bytes.chunks(4096).enumerate().filter(|(_, part)| part.iter().any(|byte| *byte != 0)) {
        file.write_all_at(part, number as u64 * 4096).unwrap();
    }
}

fn contents(disk: &Disk, fs: &Ext4<Disk>, inode: &ext4::Inode) -> Vec<u8> {
    let block = u64::from(fs.facts().block_bytes);
    let count = inode.size.div_ceil(block);
    let mut bytes = vec![0; (count * block) as usize];
    let mut at = 0;
    while at < count {
        for run in run(fs.map(inode.number, at, count - at)).unwrap() {
            assert_eq!(run.first, at);
            if let Target::Written(start) = run.target {
                let range = (run.first * block) as usize..((run.first + run.count) * block) as usize;
                let mut data = vec![0; range.len()];
                common::run(disk.read(start * block / 512, &mut data)).unwrap();
                bytes[range].copy_from_slice(&data);
            }
            at += run.count;
        }
    }
    bytes.truncate(inode.size as usize);
    bytes
}

fn compare(disk: &Disk, fs: &Ext4<Disk>, path: &Path, number: u32) -> u64 {
    let inode = run(fs.inode(number)).unwrap();
    let known = fs::symlink_metadata(path).unwrap();
    let at = path.display();
    assert_eq!(u32::from(inode.mode), known.mode(), "{at}");
    assert_eq!((inode.uid, inode.gid), (known.uid(), known.gid()), "{at}");
    assert_eq!(inode.modified.seconds, known.mtime(), "{at}");
    match inode.kind().unwrap() {
        FileKind::Directory => return 1 + compare_directory(disk, fs, path, number),
        FileKind::Symlink => {
            let target = run(fs.read_link(number)).unwrap();
            assert_eq!(target, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(), "{at}");
        }
        FileKind::Regular => {
            assert_eq!(u64::from(inode.links), known.nlink(), "{at}");
            assert!(contents(disk, fs, &inode) == fs::read(path).unwrap(), "{at}");
        }
        FileKind::Fifo | FileKind::CharacterDevice | FileKind::BlockDevice | FileKind::Socket => {
            panic!("{at}: no such thing was made")
        }
    }
    1
}

fn compare_directory(disk: &Disk, fs: &Ext4<Disk>, path: &Path, number: u32) -> u64 {
    let mut names: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut cookie = 0;
    loop {
        // A few at a time, so that listings are taken up again.
        let mut left = 5;
        let before = cookie;
        run(fs.list(number, cookie, |entry| {
            assert!(names.insert(entry.name.to_vec(), entry.inode).is_none(), "{:?} twice", entry.name);
            cookie = entry.next;
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }))
        .unwrap();
        if before == cookie {
            break;
        }
    }
    assert_eq!(names.remove(&b"."[..]), Some(number));
    names.remove(&b".."[..]).unwrap();
    if number == ROOT {
        names.remove(&b"lost+found"[..]).unwrap();
    }
    let known: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), known.len(), "{}", path.display());
    let mut seen = 0;
    for name in known {
        let inode = names[name.as_encoded_bytes()];
        assert_eq!(run(fs.lookup(number, name.as_encoded_bytes())), Ok(inode));
        seen += compare(disk, fs, &path.join(&name), inode);
    }
    assert_eq!(run(fs.lookup(number, b"no such name")), Err(ext4::Error::NotFound));
    seen
}

fn read_back(format: &Format) {
    let place = Place::new();
    let (root, image) = (place.path("root"), place.path("image"));
    fs::create_dir(&root).unwrap();
    fill(&root);
    make(format, &image, Some(&root));
    check(&image, format.name);
    let disk = Disk::load(&image);
    let fs = mount(&disk);
    let seen = compare_directory(&disk, &fs, &root, ROOT);
    assert!(seen > 700, "{}: {seen}", format.name);
    let statistics = run(fs.statfs()).unwrap();
    assert!(statistics.free_blocks > 0 && statistics.free_blocks < statistics.blocks);
    run(fs.unmount(common::START)).unwrap();
    disk.save(&image);
    check(&image, format.name);
}

#[test]
fn what_mke2fs_writes_is_read_back_in_every_format() {
    FORMATS.iter().for_each(read_back);
}
