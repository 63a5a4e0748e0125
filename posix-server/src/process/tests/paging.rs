//! Calls that need pages that are not there.

use super::*;
use crate::calls::run;
use crate::fs::pagerfs::PagedFile;
use crate::fs::pagerfs::tests::Simulation;
use crate::platform::{Backing, Change, Inherit, PAGE_SIZE, Pager, Protection, Sharing};
use alloc::vec;

/// Where the file is mapped.
const MAPPED: u64 = 0x1000_0000;
const PAGES: u64 = 4;

/// A world with a file of [`PAGES`] pages, all of which only the pager has, opened and mapped.
struct Paged {
    world: World,
    fd: u64,
    pager: Pager,
    _simulation: Simulation,
}

fn paged() -> Paged {
    let world = world();
    let simulation = Simulation::new(&world.server.executor);
    let content = Content::paged(alloc::boxed::Box::new(PagedFile::new(&simulation.store).unwrap()), 0);
    let bytes = vec![1; (PAGES * PAGE_SIZE) as usize];
    content.write(0, &mut SliceSource::new(&bytes)).unwrap();
    let memory = content.memory().unwrap();
    let root = world.server.namespace.root().dentry;
    let inode = Inode::new(root.inode().filesystem(), 0o600, 0, 0, Body::Regular(content)).unwrap();
    root.inode().directory().unwrap().names().unwrap().insert(Dentry::new(&root, b"paged", inode.clone()));
    write_all(&world.init.space(), SCRATCH, b"/paged\0").unwrap();
    let fd = world.now(1, linux::__NR_open, [SCRATCH, u64::from(linux::O_RDWR), 0, 0, 0, 0]).unwrap();
    let map = Change::Map {
        address: MAPPED,
        length: PAGES * PAGE_SIZE,
        backing: Backing::Memory(&memory, 0),
        sharing: Sharing::Shared,
        protection: Protection::READ | Protection::WRITE,
        inherit: Inherit::Clone,
    };
    world.init.space().commit(&[map]).unwrap();
    let pager = inode.content().unwrap().paged_file().unwrap().paged().unwrap().pager().clone();
    pager.written();
    pager.invalidate(0, PAGES * PAGE_SIZE);
    Paged { world, fd, pager, _simulation: simulation }
}

impl Paged {
    /// The first process makes a call; its answer appears in the reply.
    fn make(&self, number: u32, arguments: [u64; 6]) -> Reply {
        let thread = self.world.thread(1);
        thread.set_context(&Context { rsp: SCRATCH + 0x2000, ..Context::default() });
        let reply = Reply::default();
        thread.whereabouts.set(super::super::Whereabouts::Inside);
        thread.reply.replace(Some(reply.clone()));
        run(&thread, number.into(), &arguments);
        self.world.run();
        reply
    }

    fn supply(&self, page: u64, byte: u8) {
        self.pager.supply(page, byte);
        self.world.run();
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.world.init.space().read(address, &mut bytes);
        bytes
    }
}

fn error(errno: Errno) -> Option<(u64, u64)> {
    Some((RETURN, errno.to_return_value()))
}

#[test]
fn a_read_waits_for_its_pages_one_after_the_other_and_gives_all() {
    let paged = paged();
    let reply = paged.make(linux::__NR_pread64, [paged.fd, SCRATCH, 2 * PAGE_SIZE, PAGE_SIZE, 0, 0]);
    assert_eq!((reply.answered(), paged.pager.wanted()), (None, [1].to_vec()));
    paged.supply(1, 11);
    assert_eq!((reply.answered(), paged.pager.wanted()), (None, [2].to_vec()));
    paged.supply(2, 12);
    assert_eq!(reply.answered(), Some((RETURN, 2 * PAGE_SIZE)));
    assert_eq!(paged.bytes(SCRATCH, 1), [11]);
    assert_eq!(paged.bytes(SCRATCH + PAGE_SIZE, 1), [12]);
}

#[test]
fn what_comes_before_a_page_that_is_refused_counts() {
    let paged = paged();
    let reply = paged.make(linux::__NR_read, [paged.fd, SCRATCH, 2 * PAGE_SIZE, 0, 0, 0]);
    paged.supply(0, 10);
    paged.pager.fail();
    paged.world.run();
    assert_eq!(reply.answered(), Some((RETURN, PAGE_SIZE)));
    let reply = paged.make(linux::__NR_read, [paged.fd, SCRATCH, PAGE_SIZE, 0, 0, 0]);
    paged.pager.fail();
    paged.world.run();
    assert_eq!(reply.answered(), error(Errno::EIO));
}

#[test]
fn a_write_waits_for_the_page_that_it_changes_in_part() {
    let paged = paged();
    write_all(&paged.world.init.space(), SCRATCH, b"abc").unwrap();
    let reply = paged.make(linux::__NR_pwrite64, [paged.fd, SCRATCH, 3, 5, 0, 0]);
    assert_eq!(reply.answered(), None);
    paged.supply(0, 10);
    assert_eq!(reply.answered(), Some((RETURN, 3)));
    assert_eq!(paged.bytes(MAPPED + 4, 5), [10, b'a', b'b', b'c', 10]);
}

#[test]
fn an_argument_that_is_not_there_is_waited_for_and_the_call_made_again() {
    let paged = paged();
    let reply = paged.make(linux::__NR_mkdir, [MAPPED, 0o700, 0, 0, 0, 0]);
    assert_eq!(reply.answered(), None);
    paged.supply(0, b'd');
    assert_eq!(reply.answered(), error(Errno::ENAMETOOLONG), "the page has no zero");
    let reply = paged.make(linux::__NR_mkdir, [MAPPED + PAGE_SIZE, 0o700, 0, 0, 0, 0]);
    paged.pager.fail();
    paged.world.run();
    assert_eq!(reply.answered(), error(Errno::EFAULT));
}

#[test]
fn a_result_for_a_page_that_is_not_there_is_written_before_the_call_returns() {
    let paged = paged();
    let reply = paged.make(linux::__NR_pipe, [MAPPED + 8, 0, 0, 0, 0, 0]);
    assert_eq!(reply.answered(), None);
    paged.supply(0, 0xee);
    assert_eq!(reply.answered(), Some((RETURN, 0)));
    let found = paged.bytes(MAPPED + 7, 10);
    assert_eq!((found[0], found[9]), (0xee, 0xee));
    let [reader, writer] = [u64::from(found[1]), u64::from(found[5])];
    assert_eq!(paged.world.now(1, linux::__NR_write, [writer, SCRATCH, 1, 0, 0, 0]), Ok(1));
    // Bytes that are taken from a pipe can't be had again either.
    let reply = paged.make(linux::__NR_read, [reader, MAPPED + PAGE_SIZE, 9, 0, 0, 0]);
    assert_eq!(reply.answered(), None);
    paged.supply(1, 0xdd);
    assert_eq!(reply.answered(), Some((RETURN, 1)));
}

#[test]
fn a_sleeper_whose_buffer_is_not_there_waits_for_both() {
    let paged = paged();
    let world = &paged.world;
    world.now(1, linux::__NR_pipe, [SCRATCH, 0, 0, 0, 0, 0]).unwrap();
    let ends = paged.bytes(SCRATCH, 8);
    let reply = paged.make(linux::__NR_read, [u64::from(ends[0]), MAPPED, 9, 0, 0, 0]);
    world.now(1, linux::__NR_write, [u64::from(ends[4]), SCRATCH, 3, 0, 0, 0]).unwrap();
    world.run();
    assert_eq!(reply.answered(), None);
    paged.supply(0, 1);
    assert_eq!(reply.answered(), Some((RETURN, 3)));
    assert_eq!(paged.bytes(MAPPED, 3), paged.bytes(SCRATCH, 3));
}

#[test]
fn a_file_is_cut_when_its_last_page_is_there() {
    let paged = paged();
    let reply = paged.make(linux::__NR_ftruncate, [paged.fd, PAGE_SIZE + 1, 0, 0, 0, 0]);
    assert_eq!((reply.answered(), paged.pager.wanted()), (None, [1].to_vec()));
    paged.supply(1, 9);
    assert_eq!(reply.answered(), Some((RETURN, 0)));
    assert_eq!(paged.bytes(MAPPED + PAGE_SIZE, 2), [9, 0]);
}

#[test]
fn fsync_waits_for_the_writeback_and_tells_of_its_failure() {
    let paged = paged();
    paged.supply(0, 1);
    paged.world.now(1, linux::__NR_pwrite64, [paged.fd, SCRATCH, 3, 0, 0, 0]).unwrap();
    let reply = paged.make(linux::__NR_fsync, [paged.fd, 0, 0, 0, 0, 0]);
    assert_eq!((reply.answered(), paged.pager.dirty()), (None, [0].to_vec()));
    paged.pager.fail();
    paged.world.run();
    assert_eq!(reply.answered(), error(Errno::EIO));
    let reply = paged.make(linux::__NR_fsync, [paged.fd, 0, 0, 0, 0, 0]);
    paged.pager.written();
    paged.world.run();
    assert_eq!(reply.answered(), Some((RETURN, 0)));
}

#[test]
fn whoever_waits_for_a_page_can_be_killed() {
    let paged = paged();
    let reply = paged.make(linux::__NR_read, [paged.fd, SCRATCH, 1, 0, 0, 0]);
    send(&paged.world.init, SignalInfo::from_kernel(Signal::KILL)).unwrap();
    paged.world.run();
    assert_eq!(reply.answered(), None);
    assert_eq!(paged.world.init.phase.get(), Phase::Ended);
}
