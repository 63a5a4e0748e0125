//! A terminal at the end of a serial line or another console: two tasks that carry bytes between a driver and a [`Terminal`].

use super::Terminal;
use super::settings::WindowSize;
use crate::errno::Result;
use crate::platform::{Executor, LocalFuture};
use alloc::rc::Rc;
use alloc::vec::Vec;

/// A stream of bytes both ways, as a driver offers it.
pub trait ByteStream {
    /// Waits for bytes and gives them, at least one unless the window has changed. An error means that no more will come.
    fn read(&self) -> LocalFuture<Result<Vec<u8>>>;

    /// Sends bytes; ready when the driver has taken them.
    fn write(&self, bytes: Vec<u8>) -> LocalFuture<Result<()>>;

    /// The size of the window at its end, if that is another than at the last call.
    fn take_new_window(&self) -> Option<WindowSize> {
        None
    }
}

/// How many bytes go to the driver at once.
const WRITE_BYTES: usize = 4096;

/// Starts the tasks that join a terminal to a line. When the line fails, the terminal hangs up.
pub fn attach(executor: &Executor, terminal: &Rc<Terminal>, line: &Rc<dyn ByteStream>) {
    executor.spawn(carry_input(terminal.clone(), line.clone()));
    executor.spawn(carry_output(terminal.clone(), line.clone()));
}

async fn carry_input(terminal: Rc<Terminal>, line: Rc<dyn ByteStream>) {
    while let Ok(bytes) = line.read().await {
        if let Some(window) = line.take_new_window() {
            terminal.set_window(window);
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let listener = terminal.for_device().listen();
            let taken = terminal.receive(rest);
            rest = rest.get(taken..).unwrap_or_default();
            if !rest.is_empty() {
                listener.await;
            }
        }
    }
    terminal.end();
}

async fn carry_output(terminal: Rc<Terminal>, line: Rc<dyn ByteStream>) {
    loop {
        let listener = terminal.for_device().listen();
        let bytes = terminal.take_output(WRITE_BYTES);
        if bytes.is_empty() {
            listener.await;
            continue;
        }
        let result = line.write(bytes).await;
        terminal.sent();
        if result.is_err() {
            terminal.end();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::DeviceNumber;
    use crate::process::Pid;
    use crate::signal::Signal;
    use crate::tty::{JobControl, Kind};
    use crate::wait::WaitQueue;
    use alloc::boxed::Box;
    use core::cell::RefCell;

    struct NoGroups;

    impl JobControl for NoGroups {
        fn signal_group(&self, _group: Pid, _signal: Signal) {}

        fn hang_up_session(&self, _session: Pid, _foreground: Pid) {}

        fn release_session(&self, _session: Pid) {}
    }

    #[derive(Clone, Default)]
    struct Wire {
        typed: Rc<RefCell<Vec<u8>>>,
        arrived: WaitQueue,
        shown: Rc<RefCell<Vec<u8>>>,
    }

    impl ByteStream for Wire {
        fn read(&self) -> LocalFuture<Result<Vec<u8>>> {
            let wire = self.clone();
            Box::pin(async move {
                loop {
                    let listener = wire.arrived.listen();
                    let bytes = core::mem::take(&mut *wire.typed.borrow_mut());
                    if !bytes.is_empty() {
                        return Ok(bytes);
                    }
                    listener.await;
                }
            })
        }

        fn write(&self, bytes: Vec<u8>) -> LocalFuture<Result<()>> {
            let wire = self.clone();
            Box::pin(async move {
                wire.shown.borrow_mut().extend(bytes);
                Ok(())
            })
        }
    }

    #[test]
    fn what_is_typed_is_echoed_even_if_nobody_reads() {
        let executor = Executor::new();
        let terminal = Terminal::new(Kind::Serial, DeviceNumber::default(), Rc::new(NoGroups));
        let wire = Wire::default();
        let line: Rc<dyn ByteStream> = Rc::new(wire.clone());
        attach(&executor, &terminal, &line);
        executor.run_ready(0);
        wire.typed.borrow_mut().extend(b"ls\r");
        wire.arrived.wake();
        executor.run_ready(0);
        assert_eq!(*wire.shown.borrow(), b"ls\r\n");
        assert_eq!(terminal.readable_bytes(), 3);
    }
}
