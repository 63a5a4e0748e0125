//! A mount, what is sent to its server, and the successors of that.

use super::*;

#[test]
fn what_was_made_is_there_after_it_was_mounted_again() {
    let mut world = World::new();
    world.mkdir("d").unwrap();
    world.symlink("d/file", "link").unwrap();
    let file = world.create("d/file").unwrap();
    assert_eq!(world.write(&file, 0, 7, 10_000), Ok(10_000));
    drop(file);
    world.link("d/file", "other").unwrap();
    let before = world.tree();
    world.unmount();
    assert_eq!(world.durable_tree(), before);
    world.mount();
    assert_eq!(world.tree(), before);
    let file = world.open("link", linux::O_RDONLY).unwrap();
    assert_eq!(world.read(&file, 9_999, 100), Ok(Vec::from([7])));
    assert_eq!(world.read(&world.open("other", linux::O_RDONLY).unwrap(), 0, 3), Ok(Vec::from([7; 3])));
    assert_eq!(world.place("other").unwrap().inode().links(), 2);
}

#[test]
fn operations_are_sent_after_a_while_and_at_once_for_fsync() {
    let world = World::new();
    let file = world.create("f").unwrap();
    world.step();
    assert!(world.server.model.borrow().node(ROOT).names.is_empty());
    world.pass(1_000_000_000);
    assert_eq!(world.server.model.borrow().node(ROOT).names.len(), 1);
    assert!(world.server.durable.borrow().node(ROOT).names.is_empty());
    world.write(&file, 5000, 3, 10).unwrap();
    world.fsync(&file).unwrap();
    assert_eq!(world.durable_tree(), world.tree());
    assert_eq!(world.server.data.borrow().get(&(file.inode().number(), 1)), Some(&0));
}

#[test]
fn a_server_that_dies_has_a_successor_that_hears_what_was_not_durable() {
    for mishap in [Mishap::DiesBefore, Mishap::DiesAfter] {
        for after in 0..4 {
            let world = World::new();
            world.server.mishap.set(Some((after, mishap)));
            let files: Vec<_> = (0..5).map(|number| world.create(&format!("f{number}")).unwrap()).collect();
            for file in &files {
                world.write(file, 0, 4, 5000).unwrap();
                world.fsync(file).unwrap();
            }
            world.unlink("f0").unwrap();
            world.rename("f1", "g", Rename::Replace).unwrap();
            world.sync().unwrap();
            assert_eq!(world.durable_tree(), world.tree(), "{mishap:?} after {after}");
            world.server.die();
            assert_eq!(world.read(&files[2], 4999, 10), Ok(Vec::from([4])));
            world.write(&files[2], 5000, 8, 5000).unwrap();
            world.fsync(&files[2]).unwrap();
            assert_eq!(world.server.data.borrow().get(&(files[2].inode().number(), 2)), Some(&8));
        }
    }
}

#[test]
fn much_that_is_done_waits_for_what_was_done_before() {
    let world = World::new();
    for number in 0..20_000 {
        drop(world.create("f").unwrap());
        world.rename("f", if number % 2 == 0 { "g" } else { "h" }, Rename::Replace).unwrap();
    }
    world.sync().unwrap();
    assert_eq!(world.durable_tree(), world.tree());
}
