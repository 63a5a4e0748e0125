//! What keeps devices from memory that is not theirs.

mod dmar;
#[cfg(target_os = "none")]
mod unit;

#[cfg(target_os = "none")]
mod all;

#[cfg(target_os = "none")]
pub(crate) use all::{Fault, Iommu};
#[cfg(target_os = "none")]
pub(crate) use dmar::Dmar;
