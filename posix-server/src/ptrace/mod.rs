//! Tracing of threads by processes (`ptrace(2)`).
//!
//! * [`tracee`]: one traced thread: the stop that it is in, what its tracer learns of that, how it goes on. Pure.
//! * [`table`]: who traces whom, and what a `wait` finds of that. Pure.
//! * [`registers`]: registers as tracers see them.
//! * [`stops`]: how threads get into stops and out of them.
//!
//! A thread that is traced answers no call in its process (`LocalAnswers::traced`), and leaves each call, fault or signal by the same door
//! ([`crate::signal::leave`]). There it stops, if its tracer is to hear of something: what it would have gone on with is put aside
//! ([`stops::Halted`]), where the tracer can look at it and change it. These are always the program's own registers, wherever the thread
//! itself stands: in a call of its shim, in a fault, or in the program. From there it goes on with all registers set at once, not
//! through the shim, so that a single step is one of the program's instructions.

pub mod registers;
pub mod stops;
pub mod table;
pub mod tracee;

pub use table::Tracees;
pub use tracee::{Event, Hold, Mode, Options, Resumption, Stop, Tracee, Tracer};
