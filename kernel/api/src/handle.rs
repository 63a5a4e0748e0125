//! Handles that close themselves.

use crate::raw::{many_numbers, numbers};
use core::mem::ManuallyDrop;
use core::num::NonZeroU32;
use quire_abi::{Call, Error, Handle, ObjectKind, Rights};

/// A handle of unknown kind, closed when dropped.
///
/// A handle has one owner, so it is not copied, and what has been given away can't be used any more:
///
/// ```compile_fail,E0382
/// # use quire_api::{ChannelEndpoint, Event, Message, Object};
/// fn use_after_sending(channel: &ChannelEndpoint, event: Event) {
///     let _ = channel.send(Message::default().with_handle(0, event.into_handle()));
///     let _ = event.update(1, 0);
/// }
/// ```
///
/// Kinds are not mixed up:
///
/// ```compile_fail,E0308
/// # use quire_api::{Account, Error, Event, Memory};
/// fn memory_from_event(event: &Event) -> Result<Memory, Error> {
///     Memory::create(event, 4096)
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct OwnedHandle(NonZeroU32);

/// What [`OwnedHandle::info`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleInfo {
    /// What the handle names; `None` for a kind that this version does not know.
    pub kind: Option<ObjectKind>,
    /// What its holder may do.
    pub rights: Rights,
    /// The same for all handles to the object.
    pub object_number: u64,
}

impl OwnedHandle {
    /// Takes charge of a handle; `None` if it is [`Handle::NONE`]. A handle may have one owner only: with two, the
    /// second would close whatever has taken the slot by then (the kernel's generations catch most of these mistakes).
    pub fn from_raw(handle: Handle) -> Option<Self> {
        NonZeroU32::new(handle.0).map(Self)
    }

    /// The number, to name the handle in a call.
    pub fn raw(&self) -> Handle {
        Handle(self.0.get())
    }

    /// Gives up charge of the handle without closing it.
    pub fn into_raw(self) -> Handle {
        ManuallyDrop::new(self).raw()
    }

    /// Makes another handle to the same object, with those of its rights that `rights` names. Needs `DUPLICATE`.
    pub fn duplicate(&self, rights: Rights) -> Result<Self, Error> {
        owned(numbers(Call::HandleDuplicate, [u64::from(self.0.get()), u64::from(rights.bits()), 0]).handle()?)
    }

    /// Tells what the handle is.
    pub fn info(&self) -> Result<HandleInfo, Error> {
        let (kind_and_rights, object_number) = numbers(Call::HandleInfo, [u64::from(self.0.get()), 0, 0]).values()?;
        Ok(HandleInfo {
            kind: ObjectKind::from_number(kind_and_rights as u32),
            rights: Rights::from_bits_truncate((kind_and_rights >> 32) as u32),
            object_number,
        })
    }

    /// The typed handle, if it is of that kind.
    pub fn into_typed<T: Object>(self) -> Result<T, Error> {
        if self.info()?.kind == Some(T::KIND) { Ok(T::from_handle(self)) } else { Err(Error::WrongKind) }
    }
}

impl Drop for OwnedHandle {
    fn drop(&mut self) {
        close(self.raw());
    }
}

/// Closes a handle that nobody owns. A handle that names nothing is no mistake worth telling.
pub(crate) fn close(handle: Handle) {
    let _ = numbers(Call::HandleClose, [u64::from(handle.0), 0, 0]);
}

/// Takes charge of a handle that a call returned.
pub(crate) fn owned(handle: Handle) -> Result<OwnedHandle, Error> {
    OwnedHandle::from_raw(handle).ok_or(Error::BadHandle)
}

/// A typed handle.
pub trait Object: Sized {
    /// The kind of object it names.
    const KIND: ObjectKind;

    /// Takes a handle for one of this kind. If it is not, every use fails with [`Error::WrongKind`].
    fn from_handle(handle: OwnedHandle) -> Self;

    /// Forgets the type.
    fn into_handle(self) -> OwnedHandle;

    /// The untyped handle.
    fn as_handle(&self) -> &OwnedHandle;

    /// The number, to name the handle in a call.
    fn raw(&self) -> Handle {
        self.as_handle().raw()
    }

    /// Makes another handle to the same object, with those of its rights that `rights` names
    /// ([`Rights::all`]: the same rights). Needs `DUPLICATE`.
    fn duplicate(&self, rights: Rights) -> Result<Self, Error> {
        self.as_handle().duplicate(rights).map(Self::from_handle)
    }
}

/// The register value that names an object.
pub(crate) fn argument(object: &impl Object) -> u64 {
    u64::from(object.raw().0)
}

/// Performs a call that makes an object, and takes charge of it.
pub(crate) fn create<T: Object>(call: Call, arguments: [u64; 6]) -> Result<T, Error> {
    many_numbers(call, arguments).handle().and_then(owned).map(T::from_handle)
}

macro_rules! object {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Debug, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name($crate::handle::OwnedHandle);

        impl $crate::handle::Object for $name {
            const KIND: quire_abi::ObjectKind = object!(@kind $name);

            fn from_handle(handle: $crate::handle::OwnedHandle) -> Self {
                Self(handle)
            }

            fn into_handle(self) -> $crate::handle::OwnedHandle {
                self.0
            }

            fn as_handle(&self) -> &$crate::handle::OwnedHandle {
                &self.0
            }
        }
    };
    (@kind ChannelEndpoint) => { quire_abi::ObjectKind::Channel };
    (@kind $name:ident) => { quire_abi::ObjectKind::$name };
}
pub(crate) use object;
