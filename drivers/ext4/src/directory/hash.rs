//! The hashes of names by which directories are indexed (Documentation/filesystems/ext4/directory.rst).

use crate::superblock::Superblock;
use alloc::vec::Vec;

/// How names are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// The first one, long out of use.
    Legacy,
    /// Half of the rounds of MD4.
    HalfMd4,
    /// The tiny encryption algorithm.
    Tea,
}

/// How the directories of a file system hash names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hasher {
    algorithm: Algorithm,
    unsigned: bool,
    seed: [u32; 4],
}

/// What numbers of algorithms are raised by where bytes are unsigned.
const UNSIGNED: u8 = 3;
/// What hashes start from if the file system has no seed: MD4's start.
const DEFAULT_SEED: [u32; 4] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476];
/// The hash that marks the end of a directory: no name has it.
const END: u32 = 0xFFFF_FFFE;

impl Hasher {
    /// The hasher for the number that a directory's index names; none if there is no such algorithm.
    pub(super) fn new(superblock: &Superblock, version: u8) -> Option<Self> {
        let unsigned = superblock.unsigned_hash || version >= UNSIGNED;
        let algorithm = match version {
            0 | 3 => Algorithm::Legacy,
            1 | 4 => Algorithm::HalfMd4,
            2 | 5 => Algorithm::Tea,
            _ => return None,
        };
        let seeded = superblock.hash_seed.iter().any(|word| *word != 0);
        let seed = if seeded { superblock.hash_seed } else { DEFAULT_SEED };
        Some(Self { algorithm, unsigned, seed })
    }

    /// The hash of a name; always even.
    pub(super) fn hash(&self, name: &[u8]) -> u32 {
        let hash = match self.algorithm {
            Algorithm::Legacy => self.legacy(name),
            Algorithm::HalfMd4 => self.blocks::<8>(name, half_md4)[1],
            Algorithm::Tea => self.blocks::<4>(name, tea)[0],
        } & !1;
        if hash == END { END - 2 } else { hash }
    }

    fn widened(&self, byte: u8) -> u32 {
        if self.unsigned { u32::from(byte) } else { i32::from(byte.cast_signed()).cast_unsigned() }
    }

    fn legacy(&self, name: &[u8]) -> u32 {
        let (mut last, mut before) = (0x12A3_FE2D_u32, 0x37AB_E8F9_u32);
        for byte in name {
            let sum = before.wrapping_add(last ^ self.widened(*byte).wrapping_mul(7_152_373));
            let folded = if sum & 0x8000_0000 == 0 { sum } else { sum.wrapping_sub(0x7FFF_FFFF) };
            (last, before) = (folded, last);
        }
        last << 1
    }

    /// Mixes a name into the seed, `N` words at a time.
    fn blocks<const N: usize>(&self, name: &[u8], mix: impl Fn(&mut [u32; 4], &[u32; N])) -> [u32; 4] {
        let mut state = self.seed;
        let mut rest = name;
        while !rest.is_empty() {
            mix(&mut state, &self.words(rest));
            rest = rest.get(4 * N..).unwrap_or(&[]);
        }
        state
    }

    /// The first words of a name, padded with its length.
    fn words<const N: usize>(&self, name: &[u8]) -> [u32; N] {
        let length = name.len() as u32;
        let pad = (length | length << 8) | (length | length << 8) << 16;
        let mut words = [pad; N];
        for (word, bytes) in words.iter_mut().zip(name.chunks(4)) {
            *word = bytes.iter().fold(pad, |word, byte| self.widened(*byte).wrapping_add(word << 8));
        }
        words
    }
}

/// One round's order of the input, its rotations, and its constant.
type Round = ([usize; 8], [u32; 4], u32);

fn half_md4(state: &mut [u32; 4], input: &[u32; 8]) {
    const ROUNDS: [Round; 3] = [
        ([0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19], 0),
        ([1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13], 0x5A82_7999),
        ([3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15], 0x6ED9_EBA1),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, (order, turns, constant)) in ROUNDS.iter().enumerate() {
        for (step, at) in order.iter().enumerate() {
            let mixed = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let sum = a.wrapping_add(mixed).wrapping_add(input[*at]).wrapping_add(*constant);
            // Each step changes one word, and the next one takes its part.
            (a, b, c, d) = (d, sum.rotate_left(turns[step % 4]), b, c);
        }
    }
    for (word, more) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(more);
    }
}

fn tea(state: &mut [u32; 4], key: &[u32; 4]) {
    const DELTA: u32 = 0x9E37_79B9;
    let [mut x, mut y, ..] = *state;
    let mix = |word: u32, sum: u32, low: u32, high: u32| {
        (word << 4).wrapping_add(low) ^ word.wrapping_add(sum) ^ (word >> 5).wrapping_add(high)
    };
    for round in 1..=16_u32 {
        let sum = DELTA.wrapping_mul(round);
        x = x.wrapping_add(mix(y, sum, key[0], key[1]));
        y = y.wrapping_add(mix(x, sum, key[2], key[3]));
    }
    state[0] = state[0].wrapping_add(x);
    state[1] = state[1].wrapping_add(y);
}

/// Where to divide names, sorted by hash, so that each half takes about as much room: the first that moves.
pub(super) fn middle(sizes: &[(u32, usize)]) -> usize {
    let half = sizes.iter().map(|(_, size)| size).sum::<usize>() / 2;
    let mut sum = 0;
    let fits: Vec<bool> = sizes
        .iter()
        .map(|(_, size)| {
            sum += size;
            sum <= half
        })
        .collect();
    fits.iter().take_while(|fits| **fits).count().clamp(1, sizes.len().saturating_sub(1).max(1))
}
