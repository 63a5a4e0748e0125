//! Handles, accounts, events, ports, the system.

use super::{FOREVER, NOWHERE, SCRATCH, World};
use quire_abi::system::{AccountInfo, AccountLimits, Shutdown};
use quire_abi::{Call, Error, ObjectKind, Rights};

#[test]
fn a_closed_handle_stays_closed_when_its_slot_is_used_again() {
    let mut w = World::new();
    let program = w.program();
    let first = w.call(&program, Call::EventCreate, &[program.account_handle]).ok();
    w.call(&program, Call::HandleClose, &[first]).ok();
    let second = w.call(&program, Call::EventCreate, &[program.account_handle]).ok();
    assert_ne!(first, second);
    assert_eq!(w.call(&program, Call::HandleClose, &[first]).error(), Some(Error::BadHandle));
    assert_eq!(w.call(&program, Call::HandleClose, &[second | 1 << 40]).error(), Some(Error::BadHandle));
}

#[test]
fn duplicates_only_lose_rights() {
    let mut w = World::new();
    let program = w.program();
    let event = w.call(&program, Call::EventCreate, &[program.account_handle]).ok();
    let rights = Rights::DUPLICATE | Rights::SEND | Rights::MANAGE;
    let copy = w.call(&program, Call::HandleDuplicate, &[event, rights.bits().into()]).ok();
    let (kind, number) = w.call(&program, Call::HandleInfo, &[copy]).pair();
    assert_eq!(kind as u32, ObjectKind::Event as u32);
    assert_eq!((kind >> 32) as u32, (Rights::DUPLICATE | Rights::SEND).bits());
    assert_eq!(w.call(&program, Call::HandleInfo, &[event]).pair().1, number);
    assert_eq!(w.call(&program, Call::EventWait, &[copy, 1, 0]).error(), Some(Error::MissingRights));
    assert_eq!(w.call(&program, Call::TimerCancel, &[copy]).error(), Some(Error::WrongKind));
    let bad = w.call(&program, Call::HandleDuplicate, &[event, 1 << 31]);
    assert_eq!(bad.error(), Some(Error::BadArgument));
}

#[test]
fn tables_are_filled_read_and_emptied_remotely() {
    let mut w = World::new();
    let program = w.program();
    let table = w.call(&program, Call::TableCreate, &[program.account_handle]).ok();
    let event = w.call(&program, Call::EventCreate, &[program.account_handle]).ok();
    let there = w.call(&program, Call::TableInstall, &[table, event, Rights::SEND.bits().into()]).ok();
    let back = w.call(&program, Call::TableExtract, &[table, there, u64::from(Rights::all().bits())]).ok();
    assert_eq!((w.call(&program, Call::HandleInfo, &[back]).ok() >> 32) as u32, Rights::SEND.bits());
    w.call(&program, Call::TableClose, &[table, there]).ok();
    assert_eq!(w.call(&program, Call::TableClose, &[table, there]).error(), Some(Error::NotFound));
    let gone = w.call(&program, Call::TableExtract, &[table, there, 0]);
    assert_eq!(gone.error(), Some(Error::NotFound));
}

#[test]
fn a_table_that_holds_only_itself_goes() {
    let mut w = World::new();
    let program = w.program();
    let tables = w.kernel.tables.len();
    let table = w.call(&program, Call::TableCreate, &[program.account_handle]).ok();
    w.call(&program, Call::TableInstall, &[table, table, Rights::all().bits().into()]).ok();
    w.call(&program, Call::HandleClose, &[table]).ok();
    assert_eq!(w.kernel.tables.len(), tables);
}

#[test]
fn an_account_refuses_what_is_above_its_limit_and_gets_everything_back() {
    let mut w = World::new();
    let program = w.program();
    let limits = AccountLimits { frames: 4, kernel_bytes: 4096 };
    let at = w.poke(&program, SCRATCH, &limits);
    let account = w.call(&program, Call::AccountCreate, &[program.account_handle, at]).ok();
    let mut events = std::vec::Vec::new();
    let error = loop {
        let answer = w.call(&program, Call::EventCreate, &[account]);
        match answer.error() {
            None => events.push(answer.first),
            Some(error) => break error,
        }
    };
    assert_eq!(error, Error::AccountLimit);
    assert!(events.len() > 10);
    for event in events {
        w.call(&program, Call::HandleClose, &[event]).ok();
    }
    w.call(&program, Call::AccountInfo, &[account, SCRATCH]).ok();
    let info: AccountInfo = w.peek(&program, SCRATCH);
    assert_eq!((info.used, info.limit), (AccountLimits::default(), limits));
}

#[test]
fn an_event_wakes_those_whose_bits_are_set() {
    let mut w = World::new();
    let (a, b) = (w.program(), w.program());
    let event = w.call(&a, Call::EventCreate, &[a.account_handle]).ok();
    let event_b = w.share(&a, &b, event);
    assert_eq!(w.call(&b, Call::EventWait, &[event_b, 4, 0]).error(), Some(Error::WouldBlock));
    w.call(&b, Call::EventWait, &[event_b, 4, FOREVER]);
    assert!(w.waits(&b));
    w.call(&a, Call::EventUpdate, &[event, 3, 0]).ok();
    assert!(w.waits(&b));
    assert_eq!(w.call(&a, Call::EventUpdate, &[event, 12, 4]).ok(), 11);
    assert!(!w.waits(&b));
    assert_eq!(w.answer(&b).ok(), 4, "a pulse is seen by those who wait");
}

#[test]
fn the_end_of_an_event_ends_the_waits_for_it() {
    let mut w = World::new();
    let (a, b) = (w.program(), w.program());
    let event = w.call(&a, Call::EventCreate, &[a.account_handle]).ok();
    let held = w.share(&a, &b, a.table_handle);
    w.call(&a, Call::EventWait, &[event, 1, FOREVER]);
    w.call(&b, Call::TableClose, &[held, event]).ok();
    assert_eq!(w.answer(&a).error(), Some(Error::PeerClosed));
}

#[test]
fn ports_are_reached_inside_their_range_only() {
    let mut w = World::new();
    let program = w.program();
    let create = [program.hardware, program.account_handle, 0x3f8, 8];
    let ports = w.call(&program, Call::IoPortsCreate, &create).ok();
    assert_eq!(w.call(&program, Call::IoPortsCreate, &create).error(), Some(Error::Overlap));
    for (first, count) in [(0x10000, 1), (0xffff, 2), (u64::MAX, 2), (1, 0)] {
        let answer = w.call(&program, Call::IoPortsCreate, &[program.hardware, program.account_handle, first, count]);
        assert_eq!(answer.error(), Some(Error::OutOfRange));
    }
    w.call(&program, Call::IoPortsWrite, &[ports, 1, 1, 0x55]).ok();
    assert_eq!(w.call(&program, Call::IoPortsRead, &[ports, 1, 1]).ok(), 0x55);
    assert_eq!(w.call(&program, Call::IoPortsRead, &[ports, 7, 2]).error(), Some(Error::OutOfRange));
    assert_eq!(w.call(&program, Call::IoPortsRead, &[ports, u64::MAX, 4]).error(), Some(Error::OutOfRange));
    assert_eq!(w.call(&program, Call::IoPortsRead, &[ports, 0, 3]).error(), Some(Error::BadArgument));
    w.poke(&program, SCRATCH, b"hi".as_slice());
    w.call(&program, Call::IoPortsWriteBytes, &[ports, 0, SCRATCH, 2]).ok();
    assert_eq!(w.m.ports[&0x3f8], u32::from(b'i'));
    let long = w.call(&program, Call::IoPortsWriteBytes, &[ports, 0, SCRATCH, 65]);
    assert_eq!(long.error(), Some(Error::BadArgument));
}

#[test]
fn hardware_needs_authority() {
    let mut w = World::new();
    let program = w.program();
    for call in [Call::IoPortsCreate, Call::InterruptCreate, Call::MemoryCreatePhysical] {
        let answer = w.call(&program, call, &[program.log, program.account_handle, 0, 4096, 0]);
        assert_eq!(answer.error(), Some(Error::WrongKind));
    }
    let weak = w.call(&program, Call::HandleDuplicate, &[program.hardware, 0]).ok();
    let answer = w.call(&program, Call::SystemShutdown, &[weak, Shutdown::Reset as u64]);
    assert_eq!(answer.error(), Some(Error::MissingRights));
    w.call(&program, Call::SystemShutdown, &[program.hardware, Shutdown::Reset as u64]).ok();
    assert_eq!(w.m.shut_down, Some(Shutdown::Reset));
}

#[test]
fn bad_pointers_and_unknown_calls_are_errors() {
    let mut w = World::new();
    let program = w.program();
    assert_eq!(w.call(&program, Call::SystemInfo, &[NOWHERE]).error(), Some(Error::BadAddress));
    assert_eq!(w.call(&program, Call::SystemInfo, &[u64::MAX - 3]).error(), Some(Error::BadAddress));
    let log = w.call(&program, Call::LogWrite, &[program.log, 3, NOWHERE, 5]);
    assert_eq!(log.error(), Some(Error::BadAddress));
    w.poke(&program, SCRATCH, b"hello".as_slice());
    w.call(&program, Call::LogWrite, &[program.log, 3, SCRATCH, 5]).ok();
    assert_eq!(w.log_text().last(), Some(&"hello"));
    w.enter(program.thread, Call::Nothing, |registers| registers.rax = 9999);
    assert_eq!(w.answer(&program).error(), Some(Error::NoSuchCall));
}
