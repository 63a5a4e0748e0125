//! How a file system is mounted, and what becomes of one that makes no sense.

use super::*;
use driver_protocol::files::{News, VolumeFlags};

/// Where the superblock says that errors were found, and how many.
const STATE_AT: usize = 1024 + 0x3a;
const ERROR_COUNT_AT: usize = 1024 + 0x194;

fn debugfs(image: Vec<u8>, request: &str) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), image).unwrap();
    let output = Command::new("debugfs").args(["-w", "-R", request]).arg(file.path()).output().unwrap();
    assert!(output.status.success());
    fs::read(file.path()).unwrap()
}

fn remount(world: &World, flags: MountFlags) -> Result<(), Refused> {
    world.call(Request::Remount { flags }).map(|_| ())
}

#[test]
fn a_file_system_is_read_only_and_clean_until_it_is_writable_again() {
    for arguments in [["-t", "ext4", "-b", "4096"], ["-t", "ext2", "-b", "4096"]] {
        let mut world = World::new(image(&arguments), 8);
        let file = world.create("file");
        (0..4).for_each(|page| world.store(file, page, page + 1));
        world.flush();
        remount(&world, MountFlags::READ_ONLY).unwrap();
        assert_eq!(complaints(&world.machine.disk.borrow()), None);
        world.check_all();
        let (parent, inode) = (world.volume.root, world.files[file].inode);
        let request = Request::Apply { first: world.sequence + 1, count: 1 };
        let mut bytes = Vec::new();
        Operation::Unlink { parent, inode, name: b"file", time: 1 }.encode(&mut bytes);
        let (words, _) = world.call_with(request, bytes, Enclosed::Nothing).unwrap();
        assert_eq!(Applied::decode(&words).refused, Some(Refused::ReadOnly));
        world.sequence += 1;
        remount(&world, MountFlags::empty()).unwrap();
        world.store(file, 5, 6);
        world.flush();
        world.check_all();
        assert_eq!(complaints(&world.unmount()), None, "{arguments:?}");
    }
}

#[test]
fn errors_are_noted_on_the_disk_and_end_writing_if_that_is_wanted() {
    for (flags, ends) in [(MountFlags::empty(), false), (MountFlags::END_AT_ERRORS, true)] {
        let mut world = World::new(image(&["-t", "ext4", "-b", "4096"]), 9);
        let inode = world.create("bad");
        let inode = world.files[inode].inode;
        world.flush();
        let damaged = debugfs(world.unmount(), &format!("set_inode_field <{inode}> checksum 5"));
        let mut world = World::new(damaged, 10);
        assert!(!world.volume.flags.contains(VolumeFlags::ERRORS));
        world.call(Request::Unmount).unwrap();
        let request = Request::Mount { flags, commit_seconds: 1 };
        world.notes = SimulatedNotes::new(SLOTS);
        world.call_with(request, Vec::new(), Enclosed::Notes(world.notes.clone())).unwrap();
        let watch = world.begin(Request::Watch, Vec::new(), Enclosed::Nothing);
        assert_eq!(world.call(Request::Load { inode }).unwrap_err(), Refused::Corrupt);
        world.machine.pass(3_000_000_000);
        let news = watch.answer.take().map(|(_, [news, ..])| news);
        assert_eq!(news, ends.then_some(News::READ_ONLY.bits()));
        world.call(Request::Unmount).unwrap();
        let disk = world.machine.disk.borrow();
        assert_eq!((disk[STATE_AT] & 2, disk[ERROR_COUNT_AT]), (2, 1));
        let again = World::new(disk.clone(), 11);
        assert!(again.volume.flags.contains(VolumeFlags::ERRORS));
    }
}

#[test]
fn a_bad_superblock_is_told_from_none() {
    let mut bytes = image(&["-t", "ext4", "-b", "4096"]);
    bytes[1024 + 0x78] ^= 1;
    let machine = Simulated::new(bytes, LAYOUT.pages(), 1);
    let service = Service::new(machine.clone(), LAYOUT);
    let asked = Asked { room: 4096, ..Asked::default() };
    let request = Request::Mount { flags: MountFlags::empty(), commit_seconds: 0 };
    service.begin(request, Enclosed::Notes(SimulatedNotes::new(1)), asked.clone());
    machine.pass(1_000_000_000);
    assert_eq!(asked.answer.take().map(|(label, _)| label), Some(Refused::BadChecksum as u64));
}
