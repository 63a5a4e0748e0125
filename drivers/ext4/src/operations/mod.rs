//! What a server asks of a mounted file system. Every change is atomic: all of it is done, or an error means that nothing is.
//! Few are more than one transaction, for the size of what they free; what was begun of those is finished by the next mount.

mod data;
mod forget;
mod inodes;
mod names;
mod promise;
mod rename;

pub use data::Allotted;
pub use inodes::Attributes;
pub use names::{New, Unlinked};
pub use promise::{Placed, Room};
pub use rename::Rename;
