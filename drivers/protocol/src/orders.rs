//! The service line: how the machine's owner, at the other end of a serial line, has programs replaced.
//!
//! A stream of frames in each direction, of a header and up to [`MAX_PAYLOAD_BYTES`]:
//!
//! ```text
//!  0  0xa7, 0x5e  sync
//!  2  kind
//!  3  0
//!  4  length of the payload, little-endian, 4 bytes
//!  8  checksum: CRC-32 (ISO-HDLC) of bytes 2 to 7 and the payload, little-endian, 4 bytes
//! 12  payload
//! ```
//!
//! | from | frame | payload | answer |
//! |---|---|---|---|
//! | owner | `Begin` | length of the image (8 bytes), name of the program | `Room` or `Refused` |
//! | owner | `Part` | offset (8 bytes), bytes of the image | `Room`; after the last, `Done` or `Refused` |
//! | owner | `List` | – | `Done`, with a line for each program |
//! | machine | `Room` | from where on bytes of the image are missing (8 bytes) | – |
//! | machine | `Done` | text | – |
//! | machine | `Refused` | text: why | – |
//!
//! The owner sends one frame and waits for its answer. A frame that was damaged is not answered, and sent again; what was there already is
//! not taken twice. The [`Decoder`] never panics, and finds the next frame after bytes that belong to none.

use alloc::vec::Vec;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 12;
/// The most bytes that one frame carries.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 10;
/// The most bytes of an image in a `Part`.
pub const MAX_PART_BYTES: usize = MAX_PAYLOAD_BYTES - NUMBER_BYTES;
/// The longest image, in bytes.
pub const MAX_IMAGE_BYTES: u64 = 16 << 20;
/// The longest name of a program, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

const SYNC: [u8; 2] = [0xa7, 0x5e];
/// Bytes of the header that the checksum does not cover at its start, and where it is.
const CHECKED_FROM: usize = 2;
const CHECKSUM_AT: usize = 8;
const NUMBER_BYTES: usize = 8;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// An image of so many bytes for the program of this name follows.
    Begin {
        /// How long the image is.
        len_bytes: u64,
        /// The name of the program.
        name: &'a [u8],
    },
    /// Bytes of the image.
    Part {
        /// Where they begin.
        offset: u64,
        /// The bytes, at most [`MAX_PART_BYTES`].
        bytes: &'a [u8],
    },
    /// Which programs are there?
    List,
    /// The image is there up to here.
    Room(u64),
    /// It is done; what there is to say.
    Done(&'a [u8]),
    /// It can't be done; why.
    Refused(&'a [u8]),
}

impl Frame<'_> {
    /// Adds the frame's bytes. Of a payload that is too long the rest is left out.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let (kind, number, rest): (u8, Option<u64>, &[u8]) = match *self {
            Self::Begin { len_bytes, name } => (1, Some(len_bytes), name),
            Self::Part { offset, bytes } => (2, Some(offset), bytes),
            Self::List => (3, None, &[]),
            Self::Room(offset) => (4, Some(offset), &[]),
            Self::Done(text) => (5, None, text),
            Self::Refused(text) => (6, None, text),
        };
        let number = number.map(u64::to_le_bytes);
        let number = number.as_ref().map_or(&[][..], |number| number);
        let rest = rest.get(..rest.len().min(MAX_PAYLOAD_BYTES - number.len())).unwrap_or_default();
        let [a, b, c, d] = ((number.len() + rest.len()) as u32).to_le_bytes();
        let head = [kind, 0, a, b, c, d];
        let checksum = checksum([&head, number, rest].into_iter().flatten());
        for part in [&SYNC[..], &head, &checksum.to_le_bytes(), number, rest] {
            bytes.extend_from_slice(part);
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Option<Frame<'_>> {
        let numbered = || payload.split_first_chunk().map(|(number, rest)| (u64::from_le_bytes(*number), rest));
        match kind {
            1 => numbered().map(|(len_bytes, name)| Frame::Begin { len_bytes, name }),
            2 => numbered().map(|(offset, bytes)| Frame::Part { offset, bytes }),
            3 => Some(Frame::List),
            4 => numbered().map(|(offset, _)| Frame::Room(offset)),
            5 => Some(Frame::Done(payload)),
            6 => Some(Frame::Refused(payload)),
            _ => None,
        }
    }
}

/// Finds frames in a stream of bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
}

/// What a decoder found at the start of its bytes.
enum Found {
    /// A frame's kind, and how long its payload is.
    Frame(u8, usize),
    /// Nothing can be said yet.
    Incomplete,
    /// No frame begins there.
    Noise,
}

impl Decoder {
    /// Takes bytes and hands each frame that is complete to `take`.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Frame<'_>)) {
        self.bytes.extend_from_slice(bytes);
        let mut done = 0;
        loop {
            let rest = self.bytes.get(done..).unwrap_or_default();
            match find(rest) {
                Found::Incomplete => break,
                Found::Noise => done += 1,
                Found::Frame(kind, len_bytes) => {
                    let payload = rest.get(HEADER_BYTES..HEADER_BYTES + len_bytes).unwrap_or_default();
                    if let Some(frame) = Frame::decode(kind, payload) {
                        take(frame);
                    }
                    done += HEADER_BYTES + len_bytes;
                }
            }
        }
        self.bytes.drain(..done);
    }
}

fn find(bytes: &[u8]) -> Found {
    let sync = bytes.get(..SYNC.len().min(bytes.len())).unwrap_or_default();
    if !SYNC.starts_with(sync) {
        return Found::Noise;
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Found::Incomplete };
    let [_, _, kind, zero, a, b, c, d, checksum @ ..] = *header;
    let len_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    if zero != 0 || len_bytes > MAX_PAYLOAD_BYTES {
        return Found::Noise;
    }
    let Some(payload) = rest.get(..len_bytes) else { return Found::Incomplete };
    let checked = header.get(CHECKED_FROM..CHECKSUM_AT).unwrap_or_default();
    let is_intact = self::checksum(checked.iter().chain(payload)) == u32::from_le_bytes(checksum);
    if is_intact { Found::Frame(kind, len_bytes) } else { Found::Noise }
}

/// CRC-32 (ISO-HDLC).
fn checksum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ POLYNOMIAL })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: [Frame<'_>; 7] = [
        Frame::Begin { len_bytes: 1 << 20, name: b"virtio-blk" },
        Frame::Part { offset: 4096, bytes: &[0xa7; 300] },
        Frame::Part { offset: 0, bytes: &[] },
        Frame::List,
        Frame::Room(u64::MAX),
        Frame::Done(b"done"),
        Frame::Refused(b"no"),
    ];

    fn encoded(frames: &[Frame<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    }

    /// Pushes bytes in pieces, and gives the bytes of what was found.
    fn found(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            decoder.push(piece, |frame| frame.encode(&mut all));
        }
        all
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(checksum(b"123456789".iter()), 0xcbf4_3926);
    }

    #[test]
    fn frames_survive_their_bytes_in_pieces_of_any_size() {
        let bytes = encoded(&FRAMES);
        for piece in [1, 2, 7, 13, bytes.len()] {
            assert_eq!(found(&bytes, piece), bytes);
        }
    }

    #[test]
    fn a_damaged_frame_is_lost_and_the_next_is_found() {
        let (first, second) = (encoded(&FRAMES[..2]), encoded(&FRAMES[2..]));
        for place in 0..first.len() {
            let mut bytes = first.clone();
            bytes[place] ^= 0x10;
            bytes.extend_from_slice(&second);
            // A damaged length may have the decoder wait for more than there is.
            bytes.extend_from_slice(&[0; MAX_PAYLOAD_BYTES + HEADER_BYTES]);
            let found = found(&bytes, 100);
            assert!(found.ends_with(&second), "damaged at {place}");
            assert!(found.len() < first.len() + second.len());
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let bytes = encoded(&[Frame::Done(&[1; MAX_PAYLOAD_BYTES + 1])]);
        assert_eq!(bytes.len(), HEADER_BYTES + MAX_PAYLOAD_BYTES);
        assert_eq!(found(&bytes, bytes.len()), bytes);
        let bytes = encoded(&[Frame::Part { offset: 1, bytes: &[1; MAX_PART_BYTES] }]);
        assert_eq!(found(&bytes, 999), bytes);
    }
}
