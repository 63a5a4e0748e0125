//! The real-time clock of the PC (Motorola MC146818 data sheet), read once at boot. It is taken to run in UTC.

use crate::calendar::days_since_1970;
use x86_64::instructions::port::Port;

const ADDRESS_PORT: u16 = 0x70;
const DATA_PORT: u16 = 0x71;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;

/// Status A: the clock is changing.
const UPDATING: u8 = 0x80;
/// Status B: numbers are binary, not BCD.
const BINARY: u8 = 0x04;
/// Status B: hours from 0 to 23.
const HOURS_24: u8 = 0x02;
/// In the hours, on a 12-hour clock: afternoon.
const AFTERNOON: u8 = 0x80;
/// The clock has two digits for the year; these machines are younger than this.
const CENTURY: u64 = 2000;
/// How often a consistent reading is tried for.
const ATTEMPTS: u32 = 100_000;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Reading {
    year: u8,
    month: u8,
    day: u8,
    hours: u8,
    minutes: u8,
    seconds: u8,
}

fn register(index: u8) -> u8 {
    // SAFETY: these are the ports of the real-time clock; reading its registers has no effect on anything else.
    unsafe {
        Port::new(ADDRESS_PORT).write(index);
        Port::new(DATA_PORT).read()
    }
}

fn read_once() -> Reading {
    Reading {
        year: register(YEAR),
        month: register(MONTH),
        day: register(DAY),
        hours: register(HOURS),
        minutes: register(MINUTES),
        seconds: register(SECONDS),
    }
}

/// Two equal readings with no update in between; the last one if that never happens.
fn read_stable() -> Reading {
    let mut last = read_once();
    for _ in 0..ATTEMPTS {
        if register(STATUS_A) & UPDATING != 0 {
            continue;
        }
        let next = read_once();
        if next == last {
            return next;
        }
        last = next;
    }
    last
}

fn binary(value: u8, status: u8) -> u64 {
    u64::from(if status & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) })
}

/// Seconds since 1970-01-01 00:00 UTC.
pub(crate) fn read_unix_seconds() -> u64 {
    let reading = read_stable();
    let status = register(STATUS_B);
    let mut hours = binary(reading.hours & !AFTERNOON, status);
    if status & HOURS_24 == 0 {
        hours = hours % 12 + if reading.hours & AFTERNOON != 0 { 12 } else { 0 };
    }
    let days = days_since_1970(
        CENTURY + binary(reading.year, status),
        binary(reading.month, status),
        binary(reading.day, status),
    );
    ((days * 24 + hours) * 60 + binary(reading.minutes, status)) * 60 + binary(reading.seconds, status)
}
