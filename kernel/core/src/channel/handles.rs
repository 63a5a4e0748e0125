//! Handles under way: out of the sender's table, into the receiver's, or dropped.

use super::Endpoint;
use crate::devices::Hardware;
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::object::{Capability, ObjectRef};
use crate::pool::Id;
use quire_abi::message::HANDLES;
use quire_abi::{Error, Handle, Rights};

impl Kernel {
    /// Takes the handles of a message out of a table: all or, on an error, none. `channel` is the endpoint that the message
    /// goes out on: neither end of it can travel on itself, because nobody could then ever take it out.
    #[inline]
    pub(crate) fn take_handles(
        &mut self,
        table: Id<HandleTable>,
        handles: [Handle; HANDLES],
        channel: Option<Id<Endpoint>>,
    ) -> Result<[Option<Capability>; HANDLES], Error> {
        let mut taken = [None; HANDLES];
        if handles == [Handle::NONE; HANDLES] {
            return Ok(taken);
        }
        for (index, handle) in handles.iter().enumerate() {
            if *handle == Handle::NONE {
                continue;
            }
            let capability = self.tables[table].lookup(*handle)?;
            if !capability.rights.contains(Rights::TRANSFER) {
                return Err(Error::MissingRights);
            }
            if handles[..index].contains(handle) {
                return Err(Error::BadHandle);
            }
            if let (ObjectRef::Channel(sent), Some(channel)) = (capability.object, channel)
                && (sent == channel || self.endpoints[channel].peer == Some(sent))
            {
                return Err(Error::BadArgument);
            }
        }
        for (handle, taken) in handles.iter().zip(&mut taken) {
            if *handle != Handle::NONE {
                *taken = self.take(table, *handle).ok();
            }
        }
        Ok(taken)
    }

    /// Puts handles under way into a table: all or, on an error, none.
    pub(crate) fn place_handles(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        handles: &mut [Option<Capability>; HANDLES],
    ) -> Result<[Handle; HANDLES], Error> {
        if self.tables.get(table).is_none() {
            return if handles.iter().all(Option::is_none) {
                Ok([Handle::NONE; HANDLES])
            } else {
                Err(Error::PeerClosed)
            };
        }
        self.reserve_handles(table, handles.iter().flatten().count())?;
        Ok(core::mem::take(handles).map(|capability| match capability {
            Some(capability) => self.put(m, table, capability),
            None => Handle::NONE,
        }))
    }

    /// Drops handles that arrive nowhere.
    #[inline]
    pub(crate) fn drop_handles(&mut self, m: &mut impl Hardware, handles: [Option<Capability>; HANDLES]) {
        for capability in handles.into_iter().flatten() {
            self.release(m, capability.object);
        }
    }
}
