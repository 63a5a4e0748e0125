//! Handles and handle tables.

use crate::child::number;
use crate::harness::{Bench, TestResult, holds, refused, same, tests};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::{Error, Event, Handle, HandleTable, Memory, Object, ObjectKind, OwnedHandle, Rights, rt};

tests!("handle":
    info_tells_kind_rights_and_identity,
    duplicates_have_fewer_rights_never_more,
    without_the_right_to_duplicate_there_is_no_duplicate,
    a_closed_handle_names_nothing,
    a_slot_that_is_used_again_does_not_answer_to_the_old_handle,
    a_handle_of_another_kind_is_refused,
    senseless_numbers_are_refused,
    a_table_is_filled_and_emptied_from_outside,
    what_may_not_be_transferred_is_not_installed,
    an_extracted_handle_has_no_more_rights_than_the_one_there,
    a_table_is_full_at_its_accounts_limit,
    the_object_goes_with_its_last_handle,
);

fn info_tells_kind_rights_and_identity(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    let same_event = event.duplicate(Rights::SEND)?;
    let (first, second) = (event.as_handle().info()?, same_event.as_handle().info()?);
    same(first.kind, Some(ObjectKind::Event))?;
    same(first.object_number, second.object_number)?;
    same(second.rights, Rights::SEND)?;
    let other = Event::create(bench.account)?;
    holds(other.as_handle().info()?.object_number != first.object_number, "another object has another number")
}

fn duplicates_have_fewer_rights_never_more(bench: &Bench) -> TestResult {
    let memory = Memory::create(bench.account, PAGE_SIZE)?;
    let readable = memory.duplicate(Rights::READ | Rights::DUPLICATE)?;
    refused(readable.write(0, b"x"), Error::MissingRights)?;
    let again = readable.duplicate(Rights::all())?;
    same(again.as_handle().info()?.rights, Rights::READ | Rights::DUPLICATE)?;
    refused(again.write(0, b"x"), Error::MissingRights)?;
    same(memory.write(0, b"x")?, 1)
}

fn without_the_right_to_duplicate_there_is_no_duplicate(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?.duplicate(Rights::SEND)?;
    refused(event.duplicate(Rights::all()), Error::MissingRights)
}

fn a_closed_handle_names_nothing(bench: &Bench) -> TestResult {
    let table = rt::table()?;
    let event = Event::create(bench.account)?;
    let handle = event.raw();
    drop(event);
    refused(table.extract::<Event>(handle, Rights::all()), Error::NotFound)?;
    let Some(stale) = OwnedHandle::from_raw(handle) else { return Err(Error::BadHandle.into()) };
    let stale = Event::from_handle(stale);
    refused(stale.update(1, 0), Error::BadHandle)
}

fn a_slot_that_is_used_again_does_not_answer_to_the_old_handle(bench: &Bench) -> TestResult {
    let old = Event::create(bench.account)?.into_handle().into_raw();
    rt::table()?.close(old)?;
    // Slots come back in some order; among so many the old one is.
    let mut events = alloc::vec::Vec::new();
    for _ in 0..300 {
        events.push(Event::create(bench.account)?);
    }
    holds(events.iter().all(|event| event.raw() != old), "a slot's generation changes")?;
    refused(rt::table()?.extract::<Event>(old, Rights::all()), Error::NotFound)
}

fn a_handle_of_another_kind_is_refused(bench: &Bench) -> TestResult {
    let event = Event::create(bench.account)?;
    let memory = Memory::from_handle(event.into_handle());
    refused(memory.read(0, &mut [0; 8]), Error::WrongKind)
}

fn senseless_numbers_are_refused(_: &Bench) -> TestResult {
    let table = rt::table()?;
    for value in [0, 0xf_ffff, u32::MAX, 0x8000_0000] {
        refused(table.extract::<Event>(Handle(value), Rights::all()), Error::NotFound)?;
        if let Some(handle) = OwnedHandle::from_raw(Handle(value)) {
            refused(handle.info(), Error::BadHandle)?;
            handle.into_raw();
        }
    }
    Ok(())
}

fn a_table_is_filled_and_emptied_from_outside(bench: &Bench) -> TestResult {
    let table = HandleTable::create(bench.account)?;
    let event = Event::create(bench.account)?;
    let there = table.install(&event, Rights::SEND | Rights::DUPLICATE)?;
    let back: Event = table.extract(there, Rights::all())?;
    same(back.as_handle().info()?.object_number, event.as_handle().info()?.object_number)?;
    table.close(there)?;
    refused(table.extract::<Event>(there, Rights::all()), Error::NotFound)?;
    refused(table.close(there), Error::NotFound)?;
    same(back.update(5, 0)?, 5)
}

fn what_may_not_be_transferred_is_not_installed(bench: &Bench) -> TestResult {
    let table = HandleTable::create(bench.account)?;
    let stays = Event::create(bench.account)?.duplicate(Rights::all().difference(Rights::TRANSFER))?;
    refused(table.install(&stays, Rights::all()), Error::MissingRights)
}

fn an_extracted_handle_has_no_more_rights_than_the_one_there(bench: &Bench) -> TestResult {
    let table = HandleTable::create(bench.account)?;
    let event = Event::create(bench.account)?;
    let there = table.install(&event, Rights::SEND)?;
    let back: Event = table.extract(there, Rights::all())?;
    same(back.as_handle().info()?.rights, Rights::SEND)?;
    let only_writable = table.duplicate(Rights::WRITE)?;
    refused(only_writable.extract::<Event>(there, Rights::all()), Error::MissingRights)?;
    let only_readable = table.duplicate(Rights::READ)?;
    refused(only_readable.install(&event, Rights::all()), Error::MissingRights)
}

fn a_table_is_full_at_its_accounts_limit(bench: &Bench) -> TestResult {
    let account = bench.limited_account(u64::MAX, 64 << 10)?;
    let table = HandleTable::create(&account)?;
    let event = Event::create(bench.account)?;
    let mut installed = 0_u64;
    let error = loop {
        match table.install(&event, Rights::all()) {
            Ok(handle) => {
                holds(number(handle) != 0, "0 is never a handle")?;
                installed += 1;
            }
            Err(error) => break error,
        }
        holds(installed < 1 << 20, "the table ends")?;
    };
    same(error, Error::AccountLimit)?;
    holds(installed > 16, "some fit")
}

fn the_object_goes_with_its_last_handle(bench: &Bench) -> TestResult {
    let account = bench.new_account()?;
    let before = account.info()?.used;
    let event = Event::create(&account)?;
    let other = event.duplicate(Rights::all())?;
    drop(event);
    holds(account.info()?.used != before, "one handle keeps the object")?;
    drop(other);
    same(account.info()?.used, before)
}
