//! I/O ports, on the first serial line's UART: its scratch register keeps what is written and does nothing.

use crate::child::{Child, Piece};
use crate::harness::{Bench, TestResult, holds, refused, same, tests};
use quire_api::abi::thread::{ExceptionKind, Registers};
use quire_api::{Error, Object, Rights};

tests!("io_ports":
    a_register_keeps_what_is_written,
    accesses_outside_of_the_range_are_refused,
    a_port_has_one_holder,
    impossible_ranges_are_refused,
    a_port_instruction_is_a_fault_even_for_the_holder,
    rights_are_checked,
);

pub(super) const COM1: u16 = 0x3f8;
const SCRATCH: u16 = 7;

fn a_register_keeps_what_is_written(bench: &Bench) -> TestResult {
    let ports = bench.hardware.io_ports(bench.account, COM1 + SCRATCH, 1)?;
    for value in [0x00, 0x5a, 0xff] {
        ports.write(0, 1, value)?;
        same(ports.read(0, 1)?, value)?;
    }
    same(ports.write_bytes(0, &[1, 2, 3])?, 3)?;
    same(ports.write_bytes(0, &[])?, 3)?;
    same(ports.read(0, 1)?, 3)?;
    let mut bytes = [0; 4];
    ports.read_bytes(0, &mut bytes)?;
    same(bytes, [3; 4])?;
    ports.write(0, 1, 0x1234_5678)?;
    same(ports.read(0, 1)?, 0x78)
}

fn accesses_outside_of_the_range_are_refused(bench: &Bench) -> TestResult {
    let ports = bench.hardware.io_ports(bench.account, COM1 + SCRATCH, 1)?;
    refused(ports.read(1, 1), Error::OutOfRange)?;
    refused(ports.read(0, 2), Error::OutOfRange)?;
    refused(ports.read(u16::MAX, 1), Error::OutOfRange)?;
    refused(ports.write(0, 4, 0), Error::OutOfRange)?;
    refused(ports.write_bytes(1, &[0]), Error::OutOfRange)?;
    refused(ports.read(0, 3), Error::BadArgument)?;
    refused(ports.read(0, 0), Error::BadArgument)?;
    refused(ports.read_bytes(1, &mut [0]), Error::OutOfRange)?;
    refused(ports.read_bytes(0, &mut [0; 65]), Error::BadArgument)?;
    refused(ports.write_bytes(0, &[0; 65]), Error::BadArgument)
}

fn a_port_has_one_holder(bench: &Bench) -> TestResult {
    let ports = bench.hardware.io_ports(bench.account, COM1 + SCRATCH, 1)?;
    refused(bench.hardware.io_ports(bench.account, COM1, 8), Error::Overlap)?;
    drop(ports);
    bench.hardware.io_ports(bench.account, COM1, 8)?;
    Ok(())
}

fn impossible_ranges_are_refused(bench: &Bench) -> TestResult {
    holds(bench.hardware.io_ports(bench.account, 0xffff, 2).is_err(), "beyond the last port")?;
    holds(bench.hardware.io_ports(bench.account, 0x3f8, 0).is_err(), "an empty range")?;
    let powerless = bench.hardware.duplicate(Rights::DUPLICATE)?;
    refused(powerless.io_ports(bench.account, COM1, 8), Error::MissingRights)
}

fn a_port_instruction_is_a_fault_even_for_the_holder(bench: &Bench) -> TestResult {
    let ports = bench.hardware.io_ports(bench.account, COM1 + SCRATCH, 1)?;
    let mut child = Child::new(bench.account)?;
    child.give(&ports)?;
    let stop = child.run(&Registers { rdx: u64::from(COM1 + SCRATCH), ..Piece::PortIn.registers() })?;
    same(stop.exception.kind, ExceptionKind::Protection)
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let ports = bench.hardware.io_ports(bench.account, COM1 + SCRATCH, 1)?;
    refused(ports.duplicate(Rights::WRITE)?.read(0, 1), Error::MissingRights)?;
    refused(ports.duplicate(Rights::WRITE)?.read_bytes(0, &mut [0]), Error::MissingRights)?;
    refused(ports.duplicate(Rights::READ)?.write(0, 1, 0), Error::MissingRights)?;
    refused(ports.duplicate(Rights::READ)?.write_bytes(0, &[0]), Error::MissingRights)
}
