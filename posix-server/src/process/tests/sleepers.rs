//! Calls that wait for files, without a task.

use super::*;

/// The first process makes a call that waits; its answer appears in the reply.
fn asleep(world: &World, number: u32, arguments: [u64; 6]) -> Reply {
    let thread = world.thread(1);
    thread.set_context(&Context { rsp: SCRATCH + 0x2000, ..Context::default() });
    let reply = Reply::default();
    thread.whereabouts.set(super::super::Whereabouts::Inside);
    thread.reply.replace(Some(reply.clone()));
    assert!(matches!(call(&thread, number, &arguments), Outcome::Parked));
    world.run();
    assert_eq!(reply.answered(), None);
    reply
}

/// The descriptors of a pipe: to read, and to write.
fn pipe(world: &World) -> [u64; 2] {
    world.now(1, linux::__NR_pipe, [SCRATCH, 0, 0, 0, 0, 0]).unwrap();
    let mut bytes = [0; 8];
    world.thread(1).space().read(SCRATCH, &mut bytes);
    [u64::from(bytes[0]), u64::from(bytes[4])]
}

fn write(world: &World, fd: u64, count: u64) {
    assert_eq!(world.now(1, linux::__NR_write, [fd, SCRATCH, count, 0, 0, 0]), Ok(count));
}

#[test]
fn a_write_answers_the_reader_that_waits_in_the_same_step() {
    let world = world();
    let [reader, writer] = pipe(&world);
    let reply = asleep(&world, linux::__NR_read, [reader, SCRATCH, 10, 0, 0, 0]);
    world.server.due.after(|| {
        write(&world, writer, 3);
        assert_eq!(reply.answered(), None, "the writer comes first");
    });
    assert_eq!(reply.answered(), Some((RETURN, 3)));
}

#[test]
fn what_wakes_a_call_from_outside_of_a_call_has_it_tried_too() {
    let world = world();
    let [reader, writer] = pipe(&world);
    let reply = asleep(&world, linux::__NR_read, [reader, SCRATCH, 10, 0, 0, 0]);
    write(&world, writer, 3);
    world.run();
    assert_eq!(reply.answered(), Some((RETURN, 3)));
}

#[test]
fn a_poll_ends_at_its_time_and_keeps_nothing() {
    let world = world();
    let [reader, _] = pipe(&world);
    world.thread(1).space().write(SCRATCH, &[reader as u8, 0, 0, 0, 1, 0, 9, 9]);
    let file = world.init.files.borrow().slots().get(reader as i32).unwrap();
    let reply = asleep(&world, linux::__NR_poll, [SCRATCH, 1, 5, 0, 0, 0]);
    assert_eq!(file.ops().wait_queue().unwrap().waiters(), 1);
    platform::advance_ns(4_999_999);
    world.run();
    assert_eq!(reply.answered(), None);
    platform::advance_ns(1);
    world.run();
    assert_eq!(reply.answered(), Some((RETURN, 0)));
    let mut answer = [0; 8];
    world.thread(1).space().read(SCRATCH, &mut answer);
    assert_eq!(answer, [reader as u8, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(file.ops().wait_queue().unwrap().waiters(), 0);
    assert_eq!(world.server.executor.next_deadline_ns(), None);
}

#[test]
fn an_epoll_wait_goes_on_after_a_wake_up_that_was_for_nothing() {
    let world = world();
    let [reader, writer] = pipe(&world);
    let epoll = world.now(1, linux::__NR_epoll_create1, [0; 6]).unwrap();
    world.thread(1).space().write(SCRATCH, &[1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    let add = [epoll, u64::from(linux::EPOLL_CTL_ADD), reader, SCRATCH, 0, 0];
    assert_eq!(world.now(1, linux::__NR_epoll_ctl, add), Ok(0));
    let reply = asleep(&world, linux::__NR_epoll_wait, [epoll, SCRATCH, 4, u64::MAX, 0, 0]);
    world.server.due.after(|| {
        write(&world, writer, 1);
        assert_eq!(world.now(1, linux::__NR_read, [reader, SCRATCH, 1, 0, 0, 0]), Ok(1));
    });
    assert_eq!(reply.answered(), None);
    world.server.due.after(|| write(&world, writer, 1));
    assert_eq!(reply.answered(), Some((RETURN, 1)));
}

#[test]
fn a_signal_ends_the_sleep_and_so_does_the_end_of_the_thread() {
    let world = world();
    let [reader, _] = pipe(&world);
    let action = SignalAction { handler: 0x40_0000, ..SignalAction::default() };
    world.init.signals.borrow_mut().set_action(Signal::HUP, action).unwrap();
    let reply = asleep(&world, linux::__NR_read, [reader, SCRATCH, 10, 0, 0, 0]);
    send(&world.init, SignalInfo::from_kernel(Signal::HUP)).unwrap();
    world.run();
    assert!(reply.answered().is_some());
    let reply = asleep(&world, linux::__NR_read, [reader, SCRATCH, 10, 0, 0, 0]);
    let thread = Rc::downgrade(&world.thread(1));
    send(&world.init, SignalInfo::from_kernel(Signal::KILL)).unwrap();
    world.run();
    assert_eq!(reply.answered(), None);
    assert!(thread.upgrade().is_none(), "nothing holds it any more");
}
