//! Files, their contents and their ends.

use super::*;
use driver_protocol::files::operation::Set;

#[test]
fn an_unlinked_file_lives_until_it_is_closed() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, 0, 9, 5000).unwrap();
    world.unlink("f").unwrap();
    world.sync().unwrap();
    let number = file.inode().number();
    assert_eq!(world.server.durable.borrow().node(number).attributes.links, 0);
    assert_eq!(world.read(&file, 4999, 9), Ok(Vec::from([9])));
    drop(file);
    world.pass(10_000_000_000);
    world.sync().unwrap();
    assert!(!world.server.durable.borrow().nodes.contains_key(&number));
}

#[test]
fn a_file_without_a_name_can_get_one() {
    let world = World::new();
    let file = world.open("/", linux::__O_TMPFILE | linux::O_DIRECTORY | linux::O_RDWR).unwrap();
    world.write(&file, 0, 1, 1).unwrap();
    let place = file.location().unwrap().clone();
    world.call(|| change::link(world.actor(), &place, &world.parent("named")?)).unwrap();
    world.sync().unwrap();
    assert_eq!(world.durable_tree(), world.tree());
    assert_eq!(world.place("named").unwrap().inode().links(), 1);
}

#[test]
fn what_was_cut_off_stays_cut_off() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, 0, 5, 5 * PAGE_SIZE as usize).unwrap();
    world.fsync(&file).unwrap();
    let content = || file.inode().content().unwrap();
    world.call(|| content().set_size(PAGE_SIZE)).unwrap();
    world.call(|| content().set_size(3 * PAGE_SIZE)).unwrap();
    world.write(&file, 2 * PAGE_SIZE, 6, 1).unwrap();
    world.fsync(&file).unwrap();
    assert_eq!(world.durable_tree(), world.tree());
    assert_eq!(world.read(&file, PAGE_SIZE, 2), Ok(Vec::from([0, 0])));
    assert_eq!(world.read(&file, 2 * PAGE_SIZE, 2), Ok(Vec::from([6, 0])));
}

#[test]
fn failed_writebacks_are_told_once_per_open_file() {
    let world = World::new();
    let (one, other) = (world.create("f").unwrap(), world.create("f").unwrap());
    world.write(&one, 0, 4, 5000).unwrap();
    world.server.fails_writebacks.set(true);
    assert_eq!(world.fsync(&one), Err(Errno::EIO));
    world.server.fails_writebacks.set(false);
    assert_eq!(world.fsync(&one), Ok(()));
    assert_eq!((world.fsync(&other), world.fsync(&other)), (Err(Errno::EIO), Ok(())));
}

#[test]
fn what_does_not_fit_is_refused_and_what_was_promised_fits() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.sync().unwrap();
    world.server.free_blocks.set(40);
    world.pass(10_000_000_000);
    world.mkdir("d").unwrap();
    world.sync().unwrap();
    let mut written = 0;
    let end = loop {
        match world.write(&file, written * PAGE_SIZE, 1, PAGE_SIZE as usize) {
            Ok(_) => written += 1,
            Err(errno) => break errno,
        }
    };
    assert_eq!(end, Errno::ENOSPC);
    assert!((20..=40).contains(&written), "{written}");
    world.server.free_blocks.set(1000);
    world.pass(10_000_000_000);
    assert_eq!(world.write(&file, 0, 1, 1), Ok(1));
}

#[test]
fn a_file_that_takes_anothers_place_is_written_back_first() {
    let world = World::new();
    drop(world.create("old").unwrap());
    world.sync().unwrap();
    let file = world.create("new").unwrap();
    world.write(&file, 0, 3, 100).unwrap();
    world.rename("new", "old", Rename::Replace).unwrap();
    // Operations go on after the barrier, also if what follows is about the same file.
    world.write(&file, 5000, 3, 100).unwrap();
    world.pass(3_000_000_000);
    assert_eq!(world.server.data.borrow().get(&(file.inode().number(), 0)), Some(&3));
    world.sync().unwrap();
    assert_eq!(world.durable_tree(), world.tree());
}

#[test]
fn a_file_without_names_goes_with_whoever_had_it_open() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, 0, 9, 5000).unwrap();
    world.link("f", "other").unwrap();
    world.rename("f", "g", Rename::Replace).unwrap();
    world.unlink("g").unwrap();
    world.unlink("other").unwrap();
    // What was done before, and what is done now, is not sent yet.
    world.write(&file, 5000, 9, 5000).unwrap();
    let inode = Rc::downgrade(file.inode());
    drop(file);
    assert!(inode.upgrade().is_none(), "something else holds it");
    world.sync().unwrap();
    assert_eq!(world.durable_tree(), world.tree());
}

#[test]
fn an_append_is_told_by_what_was_stored_and_a_hole_at_once() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, 0, 1, 5000).unwrap();
    file.inode().content().unwrap().set_size(20_000).unwrap();
    world.write(&file, 20_000, 1, 100).unwrap();
    world.sync().unwrap();
    let told: Vec<(Set, u64)> = world.server.sizes.borrow().clone();
    assert_eq!(told, [(Set::GROWN, 5000), (Set::SIZE, 20_000), (Set::GROWN, 20_100)]);
    // A successor has no more than what was written back.
    world.server.die();
    world.pass(5_000_000_000);
    assert_eq!(world.server.sizes.borrow().last(), Some(&(Set::GROWN, 20_100)));
    assert_eq!(world.server.sizes.borrow().len(), 4);
}

#[test]
fn each_fsync_has_a_commit_of_its_own_because_the_disk_may_have_what_was_written_over_in_its_cache() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.write(&file, 0, 1, 5000).unwrap();
    let commits = || {
        let heard = world.server.heard.borrow();
        heard.iter().filter(|request| matches!(request, Request::Commit { .. })).count()
    };
    world.fsync(&file).unwrap();
    let before = commits();
    // Neither names nor attributes have changed.
    world.fsync(&file).unwrap();
    assert_eq!(commits(), before + 1);
    // The server that was asked dies; its successor is.
    world.server.mishap.set(Some((1, Mishap::DiesBefore)));
    world.fsync(&file).unwrap();
    assert!(commits() >= before + 2);
}
