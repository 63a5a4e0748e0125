//! The machine, entropy, the log.

use super::{CallResult, Caller, Outcome};
use crate::devices::{ClockParameters, Hardware, LogLevel};
use crate::object::ObjectRef;
use quire_abi::system::{Shutdown, SystemInfo};
use quire_abi::{Error, Rights};

/// How many bytes one `entropy_read` gives at most.
const MAX_ENTROPY: usize = 64;
/// How many bytes one `log_write` writes at most.
const MAX_LOG: usize = 1024;

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn system_info(&mut self) -> CallResult {
        let ClockParameters { tsc_base, tsc_multiplier, tsc_shift, boot_unix_ns } = self.m.clock_parameters();
        let swap = self.kernel.memory.swap_info();
        let info = SystemInfo {
            total_frames: self.kernel.memory.frames().total(),
            free_frames: self.kernel.memory.frames().free(),
            processors: self.m.processors(),
            vector_state_bytes: self.m.vector_state_bytes(),
            tsc_base,
            tsc_multiplier,
            tsc_shift,
            boot_unix_ns,
            cached_frames: self.kernel.memory.cached_pages(),
            unwritten_frames: self.kernel.memory.unwritten_pages(),
            writing_frames: self.kernel.memory.writing_pages(),
            swap_total_pages: swap.total_pages,
            swap_used_pages: swap.used_pages,
            swap_kept_pages: swap.kept_pages,
            swapped_out_pages: swap.out_pages,
            swapped_in_pages: swap.in_pages,
        };
        self.write(0, &info)
    }

    pub(super) fn entropy_read(&mut self) -> CallResult {
        let len = usize::try_from(self.value(1)).map_err(|_| Error::BadArgument)?;
        let mut bytes = [0; MAX_ENTROPY];
        let bytes = bytes.get_mut(..len).ok_or(Error::BadArgument)?;
        self.m.entropy(bytes);
        self.write_bytes(self.value(0), bytes)?;
        Ok(Outcome::Done)
    }

    pub(super) fn log_write(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Log, Rights::WRITE)?;
        let level = LogLevel::from_number(self.value(1)).ok_or(Error::BadArgument)?;
        let len = usize::try_from(self.value(3)).map_err(|_| Error::BadArgument)?;
        let mut text = [0; MAX_LOG];
        let text = text.get_mut(..len).ok_or(Error::BadArgument)?;
        self.read_bytes(self.value(2), text)?;
        self.m.log(level, self.kernel.threads[self.thread].name.as_str(), text);
        Ok(Outcome::Done)
    }

    pub(super) fn system_dump(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Log, Rights::WRITE)?;
        self.kernel.dump(self.m);
        Ok(Outcome::Done)
    }

    pub(super) fn system_shutdown(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let how = u32::try_from(self.value(1)).ok().and_then(Shutdown::from_number).ok_or(Error::BadArgument)?;
        self.m.shutdown(how);
        Ok(Outcome::Done)
    }
}
