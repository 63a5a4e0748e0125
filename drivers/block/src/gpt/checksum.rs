//! The checksum of the table: CRC-32 (ISO 3309), reflected.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The checksum of every byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < u8::BITS {
            rest = if rest & 1 == 1 { rest >> 1 ^ POLYNOMIAL } else { rest >> 1 };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
};

fn update(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| {
        let [low, ..] = state.to_le_bytes();
        // A byte is an index of the table.
        TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default() ^ state >> 8
    })
}

/// The checksum of `bytes`.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    !update(!0, bytes)
}

/// The same, as if the four bytes at `blank` were zero.
pub(super) fn crc32_with_blank(bytes: &[u8], blank: usize) -> u32 {
    let (before, rest) = bytes.split_at_checked(blank).unwrap_or((bytes, &[]));
    let after = rest.get(4..).unwrap_or_default();
    !update(update(update(!0, before), &[0; 4]), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_everybody_uses() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32_with_blank(b"12xxxx789", 2), crc32(b"12\0\0\0\x00789"));
    }
}
