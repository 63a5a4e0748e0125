//! Calls that move much give others a turn.

use super::*;
use crate::calls::give_way;

/// The descriptor of a file, at the address of whose name "text" lies.
fn open(world: &World, flags: u32) -> u64 {
    world.thread(1).space().write(SCRATCH, b"/text\0");
    world.now(1, linux::__NR_open, [SCRATCH, u64::from(flags), 0o600, 0, 0, 0]).unwrap()
}

#[test]
fn a_long_copy_is_seen_growing() {
    const LENGTH: u64 = 8 << 20;
    let world = world();
    let file = open(&world, linux::O_RDWR);
    assert_eq!(world.now(1, linux::__NR_ftruncate, [file, LENGTH, 0, 0, 0, 0]), Ok(0));
    // The second half is a copy of the first.
    world.thread(1).space().write(SCRATCH, &[0; 8]);
    world.thread(1).space().write(SCRATCH + 8, &LENGTH.to_le_bytes());
    let sizes = Rc::new(RefCell::new(Vec::new()));
    let (seen, inode) = (sizes.clone(), world.init.files.borrow().slots().get(file as i32).unwrap().inode().clone());
    world.server.executor.spawn(async move {
        for _ in 0..20 {
            seen.borrow_mut().push(inode.content().map_or(0, Content::size));
            give_way().await;
        }
    });
    let result = world.later(1, linux::__NR_copy_file_range, [file, SCRATCH, file, SCRATCH + 8, LENGTH, 0]);
    world.run();
    assert_eq!(result.get(), Some(Ok(LENGTH)));
    let mut sizes = sizes.borrow().clone();
    sizes.dedup();
    assert!(sizes.len() >= 4, "others saw {sizes:?}");
}
