//! POSIX programs that run on Linux and on Quire and must say the same.
//!
//! A *program* holds *cases*: `program --list` prints the names of its cases, one per line, followed by the word `root`
//! for those that need the superuser; `program CASE` runs one of them. A case prints what the system answered and
//! nothing that may differ between two runs. The programs are the C files in `c/` with the vocabulary of `c/case.h`, and
//! the Rust binaries of this crate with the [`case`] module.
//!
//! `posix-runner` runs all cases of all programs in a directory, each in a process group and an empty directory of its
//! own and under a time limit, and prints one [`record::Record`] for each. The same binaries run on Linux and on Quire;
//! [`compare`] tells where the two disagree. Linux is the oracle: no expected output is written down anywhere.
//!
//! | place | what |
//! |---|---|
//! | `c/` | cases in C, one file for each part of the system; `c/case.h` is their vocabulary |
//! | `c/quire/`, `scenarios/quire/` | cases that make sense only on Quire: they must succeed there |
//! | `scenarios/both/` | shell scripts, each function a case |
//! | `src/std_cases.rs`, `src/hostile_elf.rs` | cases in Rust: the standard library, and malformed programs |
//! | `known_gaps.txt`, `known_gaps_on_disk.txt` | what is known to differ, and why |
//! | `bench/` | micro-benchmarks that run on both systems |
//!
//! `conformance-runner` runs programs that nobody here wrote, for `cargo xtask conformance`; [`plan`] says what it reads.
//!
//! `cargo xtask test posix` runs all cases. `posix-runner --list PROGRAMS SCRATCH` prints the names of all cases.

#![forbid(unsafe_code)]

pub mod case;
pub mod compare;
pub mod elf_image;
pub mod plan;
pub mod record;
