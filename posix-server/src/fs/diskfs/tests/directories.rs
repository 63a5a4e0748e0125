//! Directories, and what is in them.

use super::*;

#[test]
fn a_directory_is_loaded_once_and_names_wake_when_they_are_looked_up() {
    let mut world = World::new();
    (0..10).for_each(|number| drop(world.create(&format!("f{number}")).unwrap()));
    world.unmount();
    world.mount();
    world.server.heard.borrow_mut().clear();
    assert_eq!(world.list("/").unwrap().len(), 10);
    assert!(world.place("f3").is_ok() && world.place("f10").is_err());
    assert_eq!(world.list("/").unwrap().len(), 10);
    let heard = world.server.heard.take();
    assert_eq!(heard.iter().filter(|request| matches!(request, Request::List { .. })).count(), 4);
    assert_eq!(world.volume().inodes.borrow().len(), 2);
}

#[test]
fn there_are_no_more_inodes_than_there_are() {
    let world = World::new();
    world.server.free_inodes.set(70);
    let made = (0..200).take_while(|number| world.create(&format!("f{number}")).is_ok()).count();
    assert_eq!(made, 70);
    assert_eq!(world.create("g").err(), Some(Errno::ENOSPC));
}

#[test]
fn directories_that_nobody_uses_are_forgotten_when_room_is_needed() {
    let mut world = World::new();
    for directory in 0..20 {
        world.mkdir(&format!("d{directory}")).unwrap();
        (0..50).for_each(|file| drop(world.create(&format!("d{directory}/f{file}")).unwrap()));
    }
    world.unmount();
    world.mount();
    let held = world.open("d7/f7", linux::O_RDONLY).unwrap();
    let before = world.tree();
    let used = budget::used_bytes(Budget::Cached);
    let filler = crate::budget::Charge::new_for(0, Budget::Cached, budget::limit_bytes(Budget::Cached) - used).unwrap();
    world.volume().cache.shrink(0);
    assert!(budget::used_bytes(Budget::Cached) - filler.bytes() < used / 4);
    drop(filler);
    assert!(Rc::ptr_eq(world.place("d7/f7").unwrap().inode(), held.inode()));
    assert_eq!(world.tree(), before);
}

#[test]
fn attributes_of_a_file_with_two_names_are_the_same_by_both() {
    let mut world = World::new();
    world.mkdir("a").unwrap();
    world.mkdir("b").unwrap();
    drop(world.create("a/f").unwrap());
    world.link("a/f", "b/f").unwrap();
    world.unmount();
    world.mount();
    world.list("b").unwrap();
    let place = world.place("a/f").unwrap();
    place.inode().set_permissions(0o400);
    assert!(Rc::ptr_eq(world.place("b/f").unwrap().inode(), place.inode()));
    drop(place);
    world.unmount();
    world.mount();
    assert_eq!(world.place("b/f").unwrap().inode().mode() & 0o777, 0o400);
}

#[test]
fn extended_attributes_are_loaded_when_somebody_asks() {
    let mut world = World::new();
    drop(world.create("f").unwrap());
    let set = |world: &World, name: &[u8], value: &[u8]| {
        let inode = world.place("f").unwrap().inode().clone();
        let attributes = world.call(|| inode.loaded_attributes().map(drop));
        attributes.and_then(|()| {
            let volume = world.volume();
            volume.check_attribute(inode.attributes(), name, value)?;
            inode.attributes().set(name, value, crate::fs::attributes::Before::Any)?;
            let operation =
                driver_protocol::files::operation::Operation::SetXattr { inode: inode.number(), name, value, time: 1 };
            volume.record(&operation, &[inode.number()]);
            Ok(())
        })
    };
    set(&world, b"user.a", b"one").unwrap();
    world.unmount();
    world.mount();
    let inode = world.place("f").unwrap().inode().clone();
    let value = world.call(|| inode.loaded_attributes()?.get(b"user.a", <[u8]>::to_vec));
    assert_eq!(value, Ok(b"one".to_vec()));
    assert_eq!(set(&world, b"user.b", &[0; 3900]), Ok(()));
    assert_eq!(set(&world, b"user.c", &[0; 200]), Err(Errno::ENOSPC));
}

#[test]
fn what_can_t_be_read_hides_nothing_else_in_its_directory() {
    let mut world = World::new();
    ["a", "bad", "c"].iter().for_each(|name| drop(world.create(name).unwrap()));
    let bad = world.place("bad").unwrap().inode().number();
    world.unmount();
    world.mount();
    world.server.unreadable.set(bad);
    assert_eq!(world.list("/").unwrap(), ["a", "bad", "c"]);
    assert!(world.place("a").is_ok() && world.place("c").is_ok());
    assert_eq!(world.place("bad").map(|_| ()), Err(Errno::EUCLEAN));
}

#[test]
fn a_directory_may_take_nearly_all_of_the_room() {
    let mut world = World::new();
    for directory in ["small", "large"] {
        world.mkdir(directory).unwrap();
        (0..100).for_each(|file| drop(world.create(&format!("{directory}/{file}")).unwrap()));
    }
    world.unmount();
    world.mount();
    world.list("small").unwrap();
    let used = budget::used_bytes(Budget::Cached);
    // Another takes so much that there is just no room beside the small one.
    let room = budget::limit_bytes(Budget::Cached) - used;
    let filler = budget::Charge::new_for(0, Budget::Cached, room - 20_000).unwrap();
    assert_eq!(world.list("large").unwrap().len(), 100);
    drop(filler);
}
