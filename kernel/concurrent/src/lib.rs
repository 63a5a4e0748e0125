//! What several processors, or the kernel and a program, do at the same time without a lock.
//!
//! Everything here works on [`Word`]s, which the processor makes atomic in earnest, and a model checker in the tests: that
//! tries every order in which the two sides can act, and everything that their memory orders let them see
//! (`models.rs`). So these algorithms are written down here once, and the kernel and the libraries use them.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
mod models;
mod question;
mod ring;
mod ticket;
mod word;

pub use question::{Asked, Question};
pub use ring::{Consumer, Producer};
pub use ticket::Tickets;
pub use word::{Counter, Word};
