use super::*;
use crate::simulated::{Disk, run};
use std::vec::Vec;

const BLOCK: usize = 1024;

fn buffers(disk: &Rc<Disk>) -> Buffers<Disk> {
    Buffers::new(disk.clone(), BLOCK, 64)
}

fn accept(_: &[u8]) -> Result<()> {
    Ok(())
}

fn first_byte(disk: &Disk, block: u64) -> u8 {
    disk.durable()[block as usize * BLOCK]
}

#[test]
fn an_operation_that_is_dropped_leaves_no_trace() {
    let disk = Rc::new(Disk::new(128));
    let buffers = buffers(&disk);
    run(async {
        let block = buffers.get(5, Kind::Plain, accept).await.unwrap();
        let first = buffers.begin(4).await.unwrap();
        first.change(&block, 0..1, |bytes| bytes[0] = 1);
        first.finish();
        let second = buffers.begin(4).await.unwrap();
        second.change(&block, 0..1, |bytes| bytes[0] = 2);
        second.change(&block, 0..1, |bytes| bytes[0] = 3);
        second.new_block(7, Kind::Plain).unwrap();
        second.free_block(5);
        drop(second);
        assert_eq!(block.read(|bytes| bytes[0]), 1);
        assert!(buffers.get(5, Kind::Plain, accept).await.unwrap().is(&block));
        buffers.commit().await.unwrap();
    });
    assert_eq!((first_byte(&disk, 5), disk.writes()), (1, 1));
}

#[test]
fn a_dropped_first_change_leaves_the_transaction_empty() {
    let disk = Rc::new(Disk::new(128));
    let buffers = buffers(&disk);
    run(async {
        let block = buffers.get(5, Kind::Plain, accept).await.unwrap();
        let operation = buffers.begin(4).await.unwrap();
        operation.change(&block, 0..1, |bytes| bytes[0] = 2);
        drop(operation);
        buffers.commit().await.unwrap();
        assert_eq!(buffers.committed(), buffers.running().previous());
    });
    assert_eq!(disk.writes(), 0);
}

#[test]
fn tasks_that_want_the_same_block_share_one_read() {
    let disk = Rc::new(Disk::new(128));
    disk.set_delay(3);
    let buffers = buffers(&disk);
    let all: Vec<_> = run(async {
        let wanted = (0..8).map(|_| buffers.get(9, Kind::Plain, accept));
        futures_util::future::join_all(wanted).await.into_iter().map(Result::unwrap).collect()
    });
    assert_eq!(disk.reads(), 1);
    assert!(all.iter().all(|block| block.is(&all[0])));
}

#[test]
fn a_block_that_fails_its_check_is_not_kept() {
    let disk = Rc::new(Disk::new(128));
    let buffers = buffers(&disk);
    let bad = |_: &[u8]| Err(Error::corrupt("sum", Place::Block(9)));
    run(async {
        assert!(buffers.get(9, Kind::Plain, bad).await.is_err());
        assert!(buffers.get(9, Kind::Plain, accept).await.is_ok());
        assert!(buffers.get(9, Kind::Plain, bad).await.is_ok(), "checked once");
        assert!(buffers.get(9, Kind::Attributes, accept).await.is_err());
        assert!(buffers.get(64, Kind::Plain, accept).await.is_err());
    });
}

#[test]
fn clean_blocks_make_way_and_changed_ones_stay() {
    let disk = Rc::new(Disk::new(128));
    let buffers = buffers(&disk);
    buffers.state.borrow_mut().cache = Cache::new(8);
    run(async {
        let operation = buffers.begin(4).await.unwrap();
        for number in [1, 2, 3] {
            let block = buffers.get(number, Kind::Plain, accept).await.unwrap();
            operation.change(&block, 0..1, |bytes| bytes[0] = 9);
        }
        operation.finish();
        for number in 4..64 {
            buffers.get(number, Kind::Plain, accept).await.unwrap();
        }
        assert!(buffers.state.borrow().cache.len() <= 16);
        let reads = disk.reads();
        for number in [1, 2, 3] {
            assert_eq!(buffers.get(number, Kind::Plain, accept).await.unwrap().read(|bytes| bytes[0]), 9);
        }
        assert_eq!(disk.reads(), reads);
    });
}

#[test]
fn a_full_transaction_is_committed_for_the_next_operation() {
    let disk = Rc::new(Disk::new(8192));
    let buffers = Buffers::new(disk.clone(), BLOCK, 4096);
    run(async {
        for number in 1..2000 {
            let operation = buffers.begin(1).await.unwrap();
            operation.new_block(number, Kind::Plain).unwrap();
            operation.finish();
        }
        assert!(buffers.begin(100_000).await.is_err());
    });
    assert_eq!(disk.writes(), 16, "neighbours together");
}

#[test]
fn a_write_that_fails_ends_all_writing_but_no_reading() {
    let disk = Rc::new(Disk::new(128));
    let buffers = buffers(&disk);
    run(async {
        let block = buffers.get(5, Kind::Plain, accept).await.unwrap();
        let operation = buffers.begin(1).await.unwrap();
        operation.change(&block, 0..1, |bytes| bytes[0] = 1);
        operation.finish();
        disk.fail_writes(true);
        assert_eq!(buffers.commit().await, Err(Error::Device));
        disk.fail_writes(false);
        assert_eq!(buffers.commit().await, Err(Error::ReadOnly));
        assert!(matches!(buffers.begin(1).await, Err(Error::ReadOnly)));
        assert!(buffers.has_failed());
        drop(block);
        let block = buffers.get(5, Kind::Plain, accept).await.unwrap();
        assert_eq!(block.read(|bytes| bytes[0]), 1, "what memory had is still there");
    });
}
