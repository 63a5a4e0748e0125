//! One processor: what it can do, its tables, its stacks, its own data.

pub(crate) mod features;
pub(crate) mod gdt;
pub(crate) mod percpu;
pub(crate) mod requests;
pub(crate) mod stacks;
