//! Whatever is done in any order, and whoever dies: the disk follows.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Action {
    Make(u8),
    MakeDirectory(u8),
    Symlink(u8),
    Link(u8, u8),
    Unlink(u8),
    RemoveDirectory(u8),
    Rename(u8, u8),
    Exchange(u8, u8),
    Write(u8, u16, u16),
    Truncate(u8, u16),
    Permissions(u8, u16),
    Sync,
    Pass,
    Die,
    LoseAnswer(u8),
    MountAgain,
}

fn action() -> impl Strategy<Value = Action> {
    let path = 0_u8..30;
    prop_oneof![
        4 => path.clone().prop_map(Action::Make),
        3 => path.clone().prop_map(Action::MakeDirectory),
        1 => path.clone().prop_map(Action::Symlink),
        2 => (path.clone(), path.clone()).prop_map(|(old, new)| Action::Link(old, new)),
        2 => path.clone().prop_map(Action::Unlink),
        1 => path.clone().prop_map(Action::RemoveDirectory),
        4 => (path.clone(), path.clone()).prop_map(|(old, new)| Action::Rename(old, new)),
        1 => (path.clone(), path.clone()).prop_map(|(old, new)| Action::Exchange(old, new)),
        4 => (path.clone(), 0..40_000_u16, 1..9000_u16).prop_map(|(path, at, length)| Action::Write(path, at, length)),
        2 => (path.clone(), 0..40_000_u16).prop_map(|(path, size)| Action::Truncate(path, size)),
        1 => (path, 0..0o1000_u16).prop_map(|(path, mode)| Action::Permissions(path, mode)),
        1 => Just(Action::Sync),
        1 => Just(Action::Pass),
        1 => Just(Action::Die),
        1 => (0..4_u8).prop_map(Action::LoseAnswer),
        1 => Just(Action::MountAgain),
    ]
}

/// A path of few: names in the root, and in what may be directories there.
fn path(number: u8) -> String {
    let name = |number: u8| char::from(b'a' + number % 5);
    if number < 5 { format!("/{}", name(number)) } else { format!("/{}/{}", name(number / 5), name(number)) }
}

fn act(world: &mut World, action: &Action, stamp: &Cell<u8>) {
    // What is refused is refused in memory: nobody hears of it.
    let _ = match action {
        Action::Make(one) => world.create(&path(*one)).map(drop),
        Action::MakeDirectory(one) => world.mkdir(&path(*one)),
        Action::Symlink(one) => world.symlink("x", &path(*one)),
        Action::Link(old, new) => world.link(&path(*old), &path(*new)),
        Action::Unlink(one) => world.unlink(&path(*one)),
        Action::RemoveDirectory(one) => world.rmdir(&path(*one)),
        Action::Rename(old, new) => world.rename(&path(*old), &path(*new), Rename::Replace),
        Action::Exchange(old, new) => world.rename(&path(*old), &path(*new), Rename::Exchange),
        Action::Write(one, at, length) => world.open(&path(*one), linux::O_RDWR).and_then(|file| {
            stamp.set(stamp.get().wrapping_add(1));
            world.write(&file, u64::from(*at), stamp.get(), usize::from(*length)).map(drop)
        }),
        Action::Truncate(one, size) => world.open(&path(*one), linux::O_RDWR).and_then(|file| {
            world.call(|| file.inode().content().ok_or(Errno::EINVAL)?.set_size(u64::from(*size)))?;
            file.inode().touch_modified();
            Ok(())
        }),
        Action::Permissions(one, mode) => {
            world.place(&path(*one)).map(|place| place.inode().set_permissions(u32::from(*mode) | 0o700))
        }
        Action::Sync => world.sync(),
        Action::Pass => {
            world.pass(2_000_000_000);
            Ok(())
        }
        Action::Die => {
            world.server.die();
            Ok(())
        }
        Action::LoseAnswer(after) => {
            world.server.mishap.set(Some((u32::from(*after), Mishap::DiesAfter)));
            Ok(())
        }
        Action::MountAgain => {
            world.unmount();
            world.mount();
            Ok(())
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn the_disk_follows_whatever_is_done_and_whoever_dies(actions in proptest::collection::vec(action(), 1..60)) {
        let mut world = World::new();
        let stamp = Cell::new(0);
        for action in &actions {
            platform::advance_ns(1000);
            act(&mut world, action, &stamp);
        }
        world.sync().unwrap();
        prop_assert!(!world.volume().has_failed());
        prop_assert_eq!(world.durable_tree(), world.tree());
        let before = world.tree();
        world.unmount();
        prop_assert_eq!(world.durable_tree(), before.clone());
        let nodes = world.server.durable.borrow().nodes.len();
        let numbers: std::collections::BTreeSet<u64> = before.values().map(|shown| shown.number).collect();
        prop_assert_eq!(nodes, numbers.len(), "inodes without names are forgotten");
    }
}
