//! The driver on a simulated controller.

extern crate std;

use super::*;
use crate::simulation::SimulatedController;
use driver_protocol::block::SectorRange;
use driver_runtime::simulation::{Frames, SimulatedDma, SimulatedWindow};
use std::rc::Rc;

type TestDisk = NvmeDisk<SimulatedWindow<SimulatedController>, SimulatedDma>;

fn bench() -> (Rc<SimulatedController>, TestDisk) {
    let frames: Rc<Frames> = Rc::default();
    let controller = SimulatedController::new(&frames, 4096);
    let mut disk = NvmeDisk::new(controller.window(), SimulatedDma::new(&frames, 600), 2);
    assert_eq!(bring_up(&controller, &mut disk), Ok(()));
    (controller, disk)
}

fn bring_up(controller: &SimulatedController, disk: &mut TestDisk) -> Result<(), DiskFailed> {
    let mut progress = disk.restart()?;
    while progress != Restart::Done {
        controller.step();
        progress = disk.restart_step()?;
    }
    Ok(())
}

/// Has a command done, and tells how it ended; `None`: never.
fn perform(
    controller: &SimulatedController,
    disk: &mut TestDisk,
    command: Command,
    segments: Segments<'_>,
) -> Result<Option<Outcome>, DiskFailed> {
    disk.submit(5, &command, segments)?;
    disk.notify()?;
    for _ in 0..100 {
        controller.step();
        if let Some(Done { tag, outcome }) = disk.complete()? {
            assert_eq!(tag, 5);
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

fn command(direction: Direction, first: u64, count: u64) -> Command {
    Command { direction, range: SectorRange { first, count } }
}

const WRITE: Direction = Direction::Write { durable: false };

#[test]
fn a_disk_is_what_the_controller_says() {
    let (_, disk) = bench();
    let description = disk.description();
    assert_eq!((description.sectors, description.block_bytes), (4096, 512));
    assert_eq!(description.abilities, Abilities::FLUSH | Abilities::DISCARD | Abilities::WRITE_ZEROES);
    assert_eq!(&description.serial[..10], b"simulated\0");
    assert_eq!((disk.limits().in_flight, disk.limits().segments), (126, 32));
}

#[test]
fn what_was_written_is_read_whatever_its_length_and_place() {
    let (controller, mut disk) = bench();
    let pages = controller.frames.pin_new(70);
    for (sectors, offset) in [(1, 0), (8, 0), (9, 512), (16, 0), (17, 0), (24, 3584), (255, 0)] {
        for (page, value) in pages[..34].iter().zip(1_u8..) {
            controller.frames.access(*page, |bytes| bytes.fill(value)).unwrap();
        }
        let outcome = |disk: &mut TestDisk, direction, pages| {
            let segments = Segments::new(pages, offset, sectors * 512, disk.limits().segment_bytes);
            perform(&controller, disk, command(direction, 100, sectors), segments)
        };
        assert_eq!(outcome(&mut disk, WRITE, &pages[..34]), Ok(Some(Outcome::Done)));
        assert_eq!(outcome(&mut disk, Direction::Read, &pages[34..68]), Ok(Some(Outcome::Done)));
        for at in (offset..offset + sectors * 512).step_by(512) {
            let page = pages[34 + at as usize / 4096];
            let byte = controller.frames.access(page + at % 4096, |bytes| bytes[0]).unwrap();
            assert_eq!(u64::from(byte), at / 4096 + 1, "{sectors} sectors at {offset}, byte {at}");
        }
    }
    assert_eq!(controller.frames.faults(), []);
}

#[test]
fn flush_discard_and_zeroes_reach_the_disk() {
    let (controller, mut disk) = bench();
    controller.bytes.borrow_mut().fill(7);
    for (direction, first, count) in
        [(Direction::Flush, 0, 0), (Direction::WriteZeroes, 10, 20), (Direction::Discard, 100, 50)]
    {
        let done = perform(&controller, &mut disk, command(direction, first, count), Segments::NONE);
        assert_eq!(done, Ok(Some(Outcome::Done)));
    }
    let bytes = controller.bytes.borrow();
    assert_eq!([9, 10, 29, 30, 99, 100, 149, 150].map(|block| bytes[block * 512]), [7, 0, 0, 7, 7, 0xdd, 0xdd, 7]);
    assert_eq!(controller.flushes.get(), 1);
}

#[test]
fn rings_go_round_with_many_commands_in_flight() {
    let (controller, mut disk) = bench();
    let pages = controller.frames.pin_new(1);
    for _ in 0..50 {
        for tag in 0..disk.limits().in_flight {
            disk.submit(tag, &command(Direction::Read, tag.into(), 1), Segments::new(&pages, 0, 512, 4096)).unwrap();
        }
        assert!(disk.submit(0, &command(Direction::Read, 0, 1), Segments::new(&pages, 0, 512, 4096)).is_err());
        disk.notify().unwrap();
        let mut is_done = [false; 126];
        while is_done.contains(&false) {
            controller.step();
            while let Some(Done { tag, outcome }) = disk.complete().unwrap() {
                assert_eq!(outcome, Outcome::Done);
                assert!(!core::mem::replace(&mut is_done[usize::from(tag)], true), "once");
            }
        }
    }
    assert!(controller.interrupts.iter().all(|interrupt| interrupt.raised() > 0));
}

#[test]
fn errors_lies_and_losses_are_what_they_are() {
    let (controller, mut disk) = bench();
    let pages = controller.frames.pin_new(1);
    let read = |disk: &mut TestDisk| {
        perform(&controller, disk, command(Direction::Read, 8, 8), Segments::new(&pages, 0, 4096, 4096))
    };
    controller.bad_blocks.borrow_mut().push(9);
    assert_eq!(read(&mut disk), Ok(Some(Outcome::Failed)));
    controller.bad_blocks.borrow_mut().clear();
    controller.lies.set(1);
    assert_eq!(read(&mut disk), Err(DiskFailed));
    assert_eq!(bring_up(&controller, &mut disk), Ok(()));
    controller.lost.set(1);
    assert_eq!(read(&mut disk), Ok(None));
    assert_eq!(bring_up(&controller, &mut disk), Ok(()));
    assert_eq!(read(&mut disk), Ok(Some(Outcome::Done)));
    assert_eq!(controller.enables.get(), 3);
}

#[test]
fn controllers_that_can_not_be_used_are_not() {
    let (controller, mut disk) = bench();
    controller.never_ready.set(true);
    assert_eq!(bring_up(&controller, &mut disk), Err(DiskFailed));
    controller.never_ready.set(false);
    controller.is_gone.set(true);
    assert_eq!(bring_up(&controller, &mut disk), Err(DiskFailed));
    controller.is_gone.set(false);
    assert_eq!(bring_up(&controller, &mut disk), Ok(()));
    controller.bytes.borrow_mut().truncate(512);
    assert_eq!(bring_up(&controller, &mut disk), Err(DiskFailed), "another size than clients were told");
}
