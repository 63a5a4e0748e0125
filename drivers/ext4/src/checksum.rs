//! The checksums of metadata: CRC-32C everywhere, and CRC-16 for group descriptors of older file systems.

/// The reflected polynomial of CRC-32C (Castagnoli).
const CASTAGNOLI: u32 = 0x82F6_3B78;
/// The reflected polynomial of CRC-16 (ANSI).
const ANSI: u16 = 0xA001;
/// The polynomial of CRC-32, taken from the highest bit on.
const IEEE: u32 = 0x04C1_1DB7;
/// Bytes taken in one step.
const STEP: usize = 8;

/// Bytes of which metadata are often all zeros, or all ones.
const CHUNK: usize = 64;

static CRC32C: [[u32; 256]; STEP] = crc32c_tables();
/// `tables[k][b]`: what a chunk of zeros makes of a sum that has the byte `b` at place `k`, lowest first, and else zeros.
static CRC32C_ZEROS: [[u32; 256]; 4] = crc32c_zeros();
/// What a chunk of ones makes of a sum of zero.
static CRC32C_ONES: u32 = crc32c_ones();
/// The byte whose entry in the first table begins with a byte: a step of the sum, backwards.
static CRC32C_BACK: [u8; 256] = crc32c_back();
static CRC16: [u16; 256] = crc16_table();

/// `tables[k][b]`: what the byte `b` does to the sum when `k` more bytes follow.
const fn crc32c_tables() -> [[u32; 256]; STEP] {
    let mut tables = [[0; 256]; STEP];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ CASTAGNOLI } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut step = 1;
    while step < STEP {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[step - 1][byte];
            tables[step][byte] = before >> 8 ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        step += 1;
    }
    tables
}

/// The sum after a byte.
const fn crc32c_byte(table: &[u32; 256], sum: u32, byte: u8) -> u32 {
    sum >> 8 ^ table[(sum as u8 ^ byte) as usize]
}

const fn crc32c_zeros() -> [[u32; 256]; 4] {
    let table = crc32c_tables()[0];
    let mut tables = [[0; 256]; 4];
    let mut index = 0;
    while index < 4 * 256 {
        let mut sum = ((index % 256) as u32) << (index / 256 * 8);
        let mut left = CHUNK;
        while left > 0 {
            sum = crc32c_byte(&table, sum, 0);
            left -= 1;
        }
        tables[index / 256][index % 256] = sum;
        index += 1;
    }
    tables
}

const fn crc32c_ones() -> u32 {
    let table = crc32c_tables()[0];
    let mut sum = 0;
    let mut left = CHUNK;
    while left > 0 {
        sum = crc32c_byte(&table, sum, 0xFF);
        left -= 1;
    }
    sum
}

const fn crc32c_back() -> [u8; 256] {
    let tables = crc32c_tables();
    let mut back = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        back[(tables[0][byte] >> 24) as usize] = byte as u8;
        byte += 1;
    }
    back
}

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ ANSI } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

/// Goes on with a CRC-32C from `sum`, without the customary inversions at both ends: a whole sum starts at `!0`.
#[must_use]
pub fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    let (chunks, rest) = bytes.as_chunks::<CHUNK>();
    let sum = chunks.iter().fold(sum, |sum, chunk| match uniform(chunk) {
        Some(0) => crc32c_after_zeros(sum),
        Some(u64::MAX) => crc32c_after_zeros(sum) ^ CRC32C_ONES,
        Some(_) | None => crc32c_steps(sum, chunk),
    });
    crc32c_steps(sum, rest)
}

/// The word that a chunk consists of, if it is one that has a short cut.
fn uniform(chunk: &[u8; CHUNK]) -> Option<u64> {
    let (words, _) = chunk.as_chunks::<STEP>();
    let first = u64::from_le_bytes(*words.first()?);
    let is_uniform = matches!(first, 0 | u64::MAX) && words.iter().all(|word| u64::from_le_bytes(*word) == first);
    is_uniform.then_some(first)
}

fn crc32c_after_zeros(sum: u32) -> u32 {
    let [a, b, c, d] = sum.to_le_bytes();
    let [t0, t1, t2, t3] = &CRC32C_ZEROS;
    t0[usize::from(a)] ^ t1[usize::from(b)] ^ t2[usize::from(c)] ^ t3[usize::from(d)]
}

fn crc32c_steps(sum: u32, bytes: &[u8]) -> u32 {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let sum = steps.iter().fold(sum, |sum, step| {
        let [a, b, c, d, e, f, g, h] = *step;
        let [p, q, r, s] = (sum ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = &CRC32C;
        t7[usize::from(p)]
            ^ t6[usize::from(q)]
            ^ t5[usize::from(r)]
            ^ t4[usize::from(s)]
            ^ t3[usize::from(e)]
            ^ t2[usize::from(f)]
            ^ t1[usize::from(g)]
            ^ t0[usize::from(h)]
    });
    rest.iter().fold(sum, |sum, byte| crc32c_byte(&CRC32C[0], sum, *byte))
}

/// The sum from which `bytes` lead to `sum`.
fn crc32c_before(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(sum, |sum, byte| {
        let [.., top] = sum.to_le_bytes();
        let index = CRC32C_BACK[usize::from(top)];
        (sum ^ CRC32C[0][usize::from(index)]) << 8 | u32::from(index ^ byte)
    })
}

/// The four bytes between `before` and `after` with which the CRC-32C of all, begun with `!0`, is `wanted`.
#[must_use]
pub fn crc32c_balance(before: &[u8], after: &[u8], wanted: u32) -> [u8; 4] {
    let end = crc32c_before(wanted, after);
    (crc32c(!0, before) ^ crc32c_before(end, &[0; 4])).to_le_bytes()
}

/// Goes on with a CRC-32 from `sum`, from the highest bit of each byte on, without inversions: of old journals, so rare that
/// it has no tables.
#[must_use]
pub fn crc32_big_endian(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| sum << 1 ^ if sum >> 31 == 1 { IEEE } else { 0 })
    })
}

/// Goes on with a CRC-16 from `sum`; a whole sum starts at `!0`.
#[must_use]
pub fn crc16(sum: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(sum, |sum, byte| sum >> 8 ^ CRC16[usize::from(sum.to_le_bytes()[0] ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_the_catalogue_come_out() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
        assert_eq!(!crc32_big_endian(!0, b"123456789"), 0xFC89_1918);
    }

    #[test]
    fn short_cuts_end_where_the_long_way_does() {
        let mut bytes = [0; 5 * CHUNK + 3];
        bytes[CHUNK..2 * CHUNK + 1].fill(0xFF);
        bytes[3 * CHUNK + 7] = 1;
        for start in [0, 1, 8, CHUNK] {
            for sum in [0, 1, !0, 0x8000_0000, 0x1234_5678] {
                assert_eq!(crc32c(sum, &bytes[start..]), crc32c_steps(sum, &bytes[start..]));
            }
        }
    }

    #[test]
    fn four_bytes_make_any_sum() {
        let bytes: [u8; 100] = core::array::from_fn(|at| (at * 11) as u8);
        for (cut, wanted) in [(0, 0), (3, 1), (50, 0xDEAD_BEEF), (99, !0), (100, 0x8000_0000)] {
            let (before, after) = bytes.split_at(cut);
            let balance = crc32c_balance(before, after, wanted);
            assert_eq!(crc32c(crc32c(crc32c(!0, before), &balance), after), wanted);
        }
    }

    #[test]
    fn a_sum_can_be_taken_in_parts() {
        let bytes: [u8; 100] = core::array::from_fn(|at| (at * 7) as u8);
        for cut in 0..100 {
            assert_eq!(crc32c(crc32c(!0, &bytes[..cut]), &bytes[cut..]), crc32c(!0, &bytes));
        }
    }
}
