//! The driver on a simulated device.

extern crate std;

use super::*;
use crate::simulation::SimulatedEdu;
use driver_runtime::simulation::{
    SimulatedBuffer, SimulatedDma, SimulatedInterrupt, SimulatedTime, SimulatedWindow, drive,
};
use std::rc::Rc;
use std::vec::Vec;

type TestEdu = Edu<SimulatedWindow<SimulatedEdu>, SimulatedBuffer, SimulatedInterrupt, SimulatedTime>;

fn start(device: &Rc<SimulatedEdu>, time: &SimulatedTime) -> Result<TestEdu, EduError> {
    let dma = SimulatedDma::new(&device.frames, 1);
    Edu::start(device.window(), &dma, device.interrupt.clone(), time.clone())
}

/// The device, a started driver, and time.
fn bench() -> (Rc<SimulatedEdu>, TestEdu, SimulatedTime) {
    let (device, time) = (SimulatedEdu::new(), SimulatedTime::default());
    let driver = start(&device, &time).unwrap();
    (device, driver, time)
}

#[test]
fn the_device_is_recognised() {
    let (device, driver, time) = bench();
    assert_eq!(driver.identification(), 0x0100_00ed);
    drop(driver);
    device.identification.set(0x1234_5678);
    assert_eq!(start(&device, &time).err(), Some(EduError::NotEdu));
    device.is_gone.set(true);
    assert_eq!(start(&device, &time).err(), Some(EduError::NotEdu));
}

#[test]
fn factorials_are_computed() {
    let (device, mut driver, _) = bench();
    for (number, factorial) in [(0, 1), (1, 1), (5, 120), (12, 479_001_600), (13, 1_932_053_504)] {
        assert_eq!(drive(driver.factorial(number), || device.step()), Ok(factorial));
    }
}

#[test]
fn bytes_go_to_the_device_and_come_back() {
    let (device, mut driver, _) = bench();
    let sent: Vec<u8> = (0..4095).map(|index| (index * 7) as u8).collect();
    let mut bytes = sent.clone();
    assert_eq!(drive(driver.echo(&mut bytes), || device.step()), Ok(()));
    assert_eq!(bytes, sent);
    assert_eq!(drive(driver.echo(&mut [0; 4096]), || device.step()), Err(EduError::TooLong));
    drop(driver);
    assert_eq!((device.frames.pinned(), device.frames.faults().len()), (0, 0));
}

#[test]
fn interrupts_for_no_reason_or_another_are_not_taken_for_the_right_one() {
    let (device, mut driver, _) = bench();
    let mut turns = 0;
    let result = drive(driver.factorial(5), || {
        turns += 1;
        match turns {
            1 => device.raise(0),
            2 => device.raise(0x100),
            3 => {}
            _ => device.step(),
        }
    });
    assert_eq!(result, Ok(120));
}

#[test]
fn a_device_that_hangs_is_given_up_and_a_lost_interrupt_found_out() {
    let (device, mut driver, time) = bench();
    device.hangs.set(true);
    assert_eq!(drive(driver.factorial(5), || time.advance(100_000_000)), Err(EduError::TimedOut));
    assert_eq!(drive(driver.factorial(6), || {}), Err(EduError::TimedOut), "it still computes");
    device.hangs.set(false);
    device.step();
    device.interrupt.lose(1);
    let result = drive(driver.factorial(6), || {
        device.step();
        time.advance(100_000_000);
    });
    assert_eq!(result, Ok(720));
    device.is_gone.set(true);
    assert!(drive(driver.factorial(5), || {}).is_err());
    assert_eq!(drive(driver.echo(&mut [0; 8]), || {}), Err(EduError::Unreachable));
}
