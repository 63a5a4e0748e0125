//! The supervisor's decisions that need no machine: what to start, and how an ELF file becomes mappings.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod image;
pub mod lives;
pub mod plan;
pub mod storm;
