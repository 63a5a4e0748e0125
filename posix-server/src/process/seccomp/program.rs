//! Programs that judge calls: the old packet filter language of BSD ("classic BPF"), as `seccomp(2)` allows it. Pure.
//!
//! A program is checked once, so that running it can't go wrong: jumps lead forward and stay inside, the last instruction returns, and a
//! word of scratch memory is read only where it was written on every way there.

use crate::errno::{Errno, Result};
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The longest program, in instructions (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS`).
const MEMORY_WORDS: usize = 16;
/// The size of what a program sees, in bytes (`struct seccomp_data`).
const DATA_BYTES: u32 = 64;

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

/// What a program sees of a call: `struct seccomp_data`, as words.
pub type Data = [u32; DATA_BYTES as usize / 4];

/// The operand of an instruction that has two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Value(u32),
    X,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Or,
    And,
    ShiftLeft,
    ShiftRight,
    ExclusiveOr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    AnyBit,
}

/// An instruction that was understood. Jumps count from the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    LoadData(usize),
    Load(Operand),
    LoadX(u32),
    LoadMemory(usize),
    LoadXMemory(usize),
    Store(usize),
    StoreX(usize),
    Compute(Arithmetic, Operand),
    Negate,
    ToX,
    FromX,
    Jump(usize),
    Branch(Comparison, Operand, usize, usize),
    Return(u32),
    ReturnA,
}

/// The parts of an instruction's code (`linux/bpf_common.h`).
mod code {
    pub(super) const LOAD_DATA: u16 = 0x20;
    pub(super) const LOAD_LENGTH: u16 = 0x80;
    pub(super) const LOAD_X_LENGTH: u16 = 0x81;
    pub(super) const LOAD_VALUE: u16 = 0x00;
    pub(super) const LOAD_X_VALUE: u16 = 0x01;
    pub(super) const LOAD_MEMORY: u16 = 0x60;
    pub(super) const LOAD_X_MEMORY: u16 = 0x61;
    pub(super) const STORE: u16 = 0x02;
    pub(super) const STORE_X: u16 = 0x03;
    pub(super) const RETURN: u16 = 0x06;
    pub(super) const RETURN_A: u16 = 0x16;
    pub(super) const TO_X: u16 = 0x07;
    pub(super) const FROM_X: u16 = 0x87;
    pub(super) const NEGATE: u16 = 0x84;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const CLASS: u16 = 0x07;
    pub(super) const ARITHMETIC: u16 = 0x04;
    pub(super) const BRANCH: u16 = 0x05;
    pub(super) const OPERATION: u16 = 0xf0;
    pub(super) const X: u16 = 0x08;
    /// All bits that an instruction can have.
    pub(super) const ALL: u16 = 0xff;
}

fn memory_index(value: u32) -> Result<usize> {
    usize::try_from(value).ok().filter(|index| *index < MEMORY_WORDS).ok_or(Errno::EINVAL)
}

impl Step {
    /// Understands an instruction. `EINVAL`.
    fn decode(instruction: Instruction) -> Result<Self> {
        let Instruction { code, if_true, if_false, value } = instruction;
        let operand = if code & code::X == 0 { Operand::Value(value) } else { Operand::X };
        Ok(match code {
            code::LOAD_DATA if value < DATA_BYTES && value.is_multiple_of(4) => Self::LoadData(value as usize / 4),
            code::LOAD_LENGTH => Self::Load(Operand::Value(DATA_BYTES)),
            code::LOAD_X_LENGTH => Self::LoadX(DATA_BYTES),
            code::LOAD_VALUE => Self::Load(Operand::Value(value)),
            code::LOAD_X_VALUE => Self::LoadX(value),
            code::LOAD_MEMORY => Self::LoadMemory(memory_index(value)?),
            code::LOAD_X_MEMORY => Self::LoadXMemory(memory_index(value)?),
            code::STORE => Self::Store(memory_index(value)?),
            code::STORE_X => Self::StoreX(memory_index(value)?),
            code::RETURN => Self::Return(value),
            code::RETURN_A => Self::ReturnA,
            code::TO_X => Self::ToX,
            code::FROM_X => Self::FromX,
            code::NEGATE => Self::Negate,
            code::JUMP => Self::Jump(value as usize),
            _ if code & !code::ALL == 0 && code & code::CLASS == code::ARITHMETIC => {
                Self::Compute(arithmetic(code & code::OPERATION, operand)?, operand)
            }
            _ if code & !code::ALL == 0 && code & code::CLASS == code::BRANCH => {
                Self::Branch(comparison(code & code::OPERATION)?, operand, if_true.into(), if_false.into())
            }
            _ => return Err(Errno::EINVAL),
        })
    }

    /// Where it may lead, from the next instruction on, and what it does with scratch memory.
    fn effect(&self) -> Effect {
        let (targets, memory) = match self {
            Self::Return(_) | Self::ReturnA => ([None, None], Access::None),
            Self::Jump(distance) => ([Some(*distance), None], Access::None),
            Self::Branch(_, _, if_true, if_false) => ([Some(*if_true), Some(*if_false)], Access::None),
            Self::Store(index) | Self::StoreX(index) => ([Some(0), None], Access::Writes(*index)),
            Self::LoadMemory(index) | Self::LoadXMemory(index) => ([Some(0), None], Access::Reads(*index)),
            Self::LoadData(_)
            | Self::Load(_)
            | Self::LoadX(_)
            | Self::Compute(..)
            | Self::Negate
            | Self::ToX
            | Self::FromX => ([Some(0), None], Access::None),
        };
        Effect { targets, memory }
    }
}

/// What an instruction does with scratch memory.
enum Access {
    None,
    Reads(usize),
    Writes(usize),
}

/// What the check of a program needs to know of an instruction.
struct Effect {
    targets: [Option<usize>; 2],
    memory: Access,
}

/// What is computed. `EINVAL` also for a division by 0 and a shift by too much.
fn arithmetic(operation: u16, operand: Operand) -> Result<Arithmetic> {
    let found = match operation {
        0x00 => Arithmetic::Add,
        0x10 => Arithmetic::Subtract,
        0x20 => Arithmetic::Multiply,
        0x30 => Arithmetic::Divide,
        0x40 => Arithmetic::Or,
        0x50 => Arithmetic::And,
        0x60 => Arithmetic::ShiftLeft,
        0x70 => Arithmetic::ShiftRight,
        0xa0 => Arithmetic::ExclusiveOr,
        _ => return Err(Errno::EINVAL),
    };
    let is_wrong = match (found, operand) {
        (Arithmetic::Divide, Operand::Value(0)) => true,
        (Arithmetic::ShiftLeft | Arithmetic::ShiftRight, Operand::Value(by)) => by >= u32::BITS,
        _ => false,
    };
    if is_wrong { Err(Errno::EINVAL) } else { Ok(found) }
}

fn comparison(operation: u16) -> Result<Comparison> {
    match operation {
        0x10 => Ok(Comparison::Equal),
        0x20 => Ok(Comparison::Greater),
        0x30 => Ok(Comparison::GreaterOrEqual),
        0x40 => Ok(Comparison::AnyBit),
        _ => Err(Errno::EINVAL),
    }
}

/// A program that was checked.
#[derive(Debug)]
pub struct Program(Vec<Step>);

impl Program {
    /// Checks a program. `EINVAL`.
    pub fn check(instructions: &[Instruction]) -> Result<Self> {
        let steps = instructions.iter().map(|instruction| Step::decode(*instruction)).collect::<Result<Vec<_>>>()?;
        check_ways(&steps)?;
        Ok(Self(steps))
    }

    /// How many instructions it has.
    pub fn instructions(&self) -> usize {
        self.0.len()
    }

    /// Judges a call.
    pub fn run(&self, data: &Data) -> u32 {
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; MEMORY_WORDS]);
        let word = |memory: &[u32], index: usize| memory.get(index).copied().unwrap_or_default();
        let mut at = 0;
        while let Some(step) = self.0.get(at) {
            at += 1;
            match *step {
                Step::LoadData(index) => a = word(data, index),
                Step::Load(operand) => a = operand.of(x),
                Step::LoadX(value) => x = value,
                Step::LoadMemory(index) => a = word(&memory, index),
                Step::LoadXMemory(index) => x = word(&memory, index),
                Step::Store(index) => store(&mut memory, index, a),
                Step::StoreX(index) => store(&mut memory, index, x),
                Step::Compute(arithmetic, operand) => match arithmetic.apply(a, operand.of(x)) {
                    Some(result) => a = result,
                    // Division by 0.
                    None => return 0,
                },
                Step::Negate => a = a.wrapping_neg(),
                Step::ToX => x = a,
                Step::FromX => a = x,
                Step::Jump(distance) => at += distance,
                Step::Branch(comparison, operand, if_true, if_false) => {
                    at += if comparison.holds(a, operand.of(x)) { if_true } else { if_false };
                }
                Step::Return(value) => return value,
                Step::ReturnA => return a,
            }
        }
        0
    }
}

fn store(memory: &mut [u32], index: usize, value: u32) {
    if let Some(word) = memory.get_mut(index) {
        *word = value;
    }
}

/// Every way through the program stays inside, ends with a return, and reads only what it wrote. `EINVAL`.
fn check_ways(steps: &[Step]) -> Result<()> {
    // The words that were written on all ways to an instruction; they lead forward only, so one pass finds them.
    let mut written: Vec<u16> = vec![u16::MAX; steps.len()];
    let mut here = 0u16;
    for (at, step) in steps.iter().enumerate() {
        here &= written.get(at).copied().unwrap_or_default();
        let Effect { targets, memory } = step.effect();
        match memory {
            Access::Writes(index) => here |= 1 << index,
            Access::Reads(index) if here & 1 << index == 0 => return Err(Errno::EINVAL),
            Access::Reads(_) | Access::None => {}
        }
        for distance in targets.into_iter().flatten() {
            let target = at.checked_add(1).and_then(|next| next.checked_add(distance)).ok_or(Errno::EINVAL)?;
            let known = written.get_mut(target).ok_or(Errno::EINVAL)?;
            *known &= here;
        }
        // Whoever comes to the next one comes by a way that was noted there.
        here = u16::MAX;
    }
    match steps.last() {
        Some(Step::Return(_) | Step::ReturnA) => Ok(()),
        Some(_) | None => Err(Errno::EINVAL),
    }
}

impl Operand {
    fn of(self, x: u32) -> u32 {
        match self {
            Self::Value(value) => value,
            Self::X => x,
        }
    }
}

impl Arithmetic {
    fn apply(self, a: u32, by: u32) -> Option<u32> {
        Some(match self {
            Self::Add => a.wrapping_add(by),
            Self::Subtract => a.wrapping_sub(by),
            Self::Multiply => a.wrapping_mul(by),
            Self::Divide => return a.checked_div(by),
            Self::Or => a | by,
            Self::And => a & by,
            Self::ShiftLeft => a.wrapping_shl(by),
            Self::ShiftRight => a.wrapping_shr(by),
            Self::ExclusiveOr => a ^ by,
        })
    }
}

impl Comparison {
    fn holds(self, a: u32, with: u32) -> bool {
        match self {
            Self::Equal => a == with,
            Self::Greater => a > with,
            Self::GreaterOrEqual => a >= with,
            Self::AnyBit => a & with != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(code: u16, if_true: u8, if_false: u8, value: u32) -> Instruction {
        Instruction { code, if_true, if_false, value }
    }

    fn run(instructions: &[Instruction], data: &Data) -> Result<u32> {
        Program::check(instructions).map(|program| program.run(data))
    }

    const NOTHING: Data = [0; 16];

    #[test]
    fn a_program_chooses_by_the_number() {
        let program = [op(0x20, 0, 0, 0), op(0x15, 0, 1, 39), op(6, 0, 0, 1), op(6, 0, 0, 2)];
        let mut data = NOTHING;
        assert_eq!(run(&program, &data), Ok(2));
        data[0] = 39;
        assert_eq!(run(&program, &data), Ok(1));
    }

    #[test]
    fn it_computes() {
        let program = [
            op(0, 0, 0, 7),
            op(0x07, 0, 0, 0),
            op(0x24, 0, 0, 6),
            op(0x1c, 0, 0, 0),
            op(0x84, 0, 0, 0),
            op(0x16, 0, 0, 0),
        ];
        assert_eq!(run(&program, &NOTHING), Ok(35u32.wrapping_neg()));
        assert_eq!(run(&[op(0x3c, 0, 0, 0), op(6, 0, 0, 9)], &NOTHING), Ok(0), "division by X, which is 0");
    }

    #[test]
    fn what_could_go_wrong_is_refused() {
        let end = op(6, 0, 0, 0);
        let wrong: [&[Instruction]; 9] = [
            &[],
            &[op(0, 0, 0, 1)],
            &[op(0x20, 0, 0, 64), end],
            &[op(0x20, 0, 0, 2), end],
            &[op(0x15, 1, 0, 0), end],
            &[op(0x05, 0, 0, u32::MAX), end],
            &[op(0x34, 0, 0, 0), end],
            &[op(0x64, 0, 0, 32), end],
            &[op(0x60, 0, 0, 3), end],
        ];
        for program in wrong {
            assert_eq!(Program::check(program).err(), Some(Errno::EINVAL), "{program:?}");
        }
    }

    #[test]
    fn memory_must_be_written_on_every_way() {
        let (store, load, end) = (op(2, 0, 0, 3), op(0x60, 0, 0, 3), op(6, 0, 0, 0));
        assert!(Program::check(&[store, load, end]).is_ok());
        let skipping = [op(0x15, 1, 0, 0), store, load, end];
        assert!(Program::check(&skipping).is_err());
        let both = [op(0x15, 2, 0, 0), store, op(5, 0, 0, 1), store, load, end];
        assert!(Program::check(&both).is_ok());
    }
}
