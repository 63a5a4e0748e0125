//! The host link: how `xtask exec` and the posix-server talk over the second serial port.
//!
//! A stream of frames in each direction. A frame is a header of [`HEADER_BYTES`] and at most [`MAX_PAYLOAD_BYTES`]:
//!
//! ```text
//!  0  0xd1     sync
//!  1  0xb2     sync
//!  2  kind
//!  3  length of the payload, little-endian, 2 bytes
//!  5  check: the exclusive or of bytes 0 to 4, inverted
//!  6  payload
//! ```
//!
//! 1. The guest starts the program and grants [`Frame::Credit`] for standard input.
//! 2. The host sends [`Frame::Input`] for at most as many bytes as it was granted, then, at the end of its own standard
//!    input, one [`Frame::InputEnd`], which needs no credit.
//! 3. The guest sends [`Frame::Output`] and [`Frame::Error`] as the program writes, and grants further credit as it reads.
//! 4. The last frame is [`Frame::Exit`]; the guest then ends itself.
//!
//! The [`Decoder`] never panics. Bytes that belong to no frame are skipped and reported; the next frame is found again.

use core::fmt;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 6;
/// The most bytes that one frame may carry.
pub const MAX_PAYLOAD_BYTES: usize = 4096;
/// The most bytes that one frame may take.
pub const MAX_FRAME_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES;

const SYNC: [u8; 2] = [0xd1, 0xb2];

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called `exit` with this status.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Guest to host: the program wrote these bytes to its standard output.
    Output(&'a [u8]),
    /// Guest to host: the program wrote these bytes to its standard error.
    Error(&'a [u8]),
    /// Guest to host: a piece of the trace of system calls.
    Trace(&'a [u8]),
    /// Guest to host: so many more bytes of standard input may be sent.
    Credit(u32),
    /// Guest to host: the program has ended; nothing follows.
    Exit(ExitStatus),
    /// Host to guest: bytes of standard input.
    Input(&'a [u8]),
    /// Host to guest: standard input is at its end.
    InputEnd,
}

/// A frame that can't be sent: its payload is longer than [`MAX_PAYLOAD_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadTooLong {
    /// How long the payload is, in bytes.
    pub length_bytes: usize,
}

/// Something arrived that is no frame; it was skipped. Reported once for each run of such bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// Bytes that begin no frame.
    Garbage,
    /// A header of an unknown kind, with an impossible length or a wrong check byte.
    BadHeader,
    /// A payload that the kind of the frame can't have.
    BadPayload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Output,
    Error,
    Credit,
    Exit,
    Input,
    InputEnd,
    Trace,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Output => 1,
            Self::Error => 2,
            Self::Credit => 3,
            Self::Exit => 4,
            Self::Input => 5,
            Self::InputEnd => 6,
            Self::Trace => 7,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Output),
            2 => Some(Self::Error),
            3 => Some(Self::Credit),
            4 => Some(Self::Exit),
            5 => Some(Self::Input),
            6 => Some(Self::InputEnd),
            7 => Some(Self::Trace),
            _ => None,
        }
    }
}

const EXIT_BY_CODE: u8 = 0;
const EXIT_BY_SIGNAL: u8 = 1;

impl<'a> Frame<'a> {
    /// Writes the frame to the beginning of `buffer` and gives the bytes to send.
    ///
    /// # Errors
    ///
    /// [`PayloadTooLong`]; then nothing is to be sent.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; MAX_FRAME_BYTES]) -> Result<&'b [u8], PayloadTooLong> {
        let credit;
        let exit;
        let (kind, payload): (Kind, &[u8]) = match *self {
            Self::Output(bytes) => (Kind::Output, bytes),
            Self::Error(bytes) => (Kind::Error, bytes),
            Self::Trace(bytes) => (Kind::Trace, bytes),
            Self::Input(bytes) => (Kind::Input, bytes),
            Self::InputEnd => (Kind::InputEnd, &[]),
            Self::Credit(bytes) => {
                credit = bytes.to_le_bytes();
                (Kind::Credit, &credit)
            }
            Self::Exit(status) => {
                exit = match status {
                    ExitStatus::Code(code) => [EXIT_BY_CODE, code],
                    ExitStatus::Signal(signal) => [EXIT_BY_SIGNAL, signal],
                };
                (Kind::Exit, &exit)
            }
        };
        write_frame(kind, payload, buffer).ok_or(PayloadTooLong { length_bytes: payload.len() })
    }

    fn from_parts(kind: Kind, payload: &'a [u8]) -> Option<Self> {
        match kind {
            Kind::Output => Some(Self::Output(payload)),
            Kind::Error => Some(Self::Error(payload)),
            Kind::Trace => Some(Self::Trace(payload)),
            Kind::Input => Some(Self::Input(payload)),
            Kind::InputEnd => payload.is_empty().then_some(Self::InputEnd),
            Kind::Credit => payload.try_into().ok().map(u32::from_le_bytes).map(Self::Credit),
            Kind::Exit => match *payload {
                [EXIT_BY_CODE, code] => Some(Self::Exit(ExitStatus::Code(code))),
                [EXIT_BY_SIGNAL, signal] => Some(Self::Exit(ExitStatus::Signal(signal))),
                _ => None,
            },
        }
    }
}

fn write_frame<'b>(kind: Kind, payload: &[u8], buffer: &'b mut [u8; MAX_FRAME_BYTES]) -> Option<&'b [u8]> {
    let length = u16::try_from(payload.len()).ok()?;
    let end = HEADER_BYTES.checked_add(payload.len())?;
    let (header, rest) = buffer.split_first_chunk_mut::<HEADER_BYTES>()?;
    rest.get_mut(..payload.len())?.copy_from_slice(payload);
    let [low, high] = length.to_le_bytes();
    let fields = [SYNC[0], SYNC[1], kind.number(), low, high];
    *header = [fields[0], fields[1], fields[2], fields[3], fields[4], check_of(fields)];
    buffer.get(..end)
}

fn check_of(fields: [u8; 5]) -> u8 {
    !fields.iter().fold(0, |sum, byte| sum ^ byte)
}

/// Finds the frames in a stream of bytes, whatever the pieces in which it comes.
pub struct Decoder {
    /// The frame so far.
    buffer: [u8; MAX_FRAME_BYTES],
    /// How much of `buffer` is filled.
    filled: usize,
    /// Whether the last byte was skipped, so that a run of garbage is reported once.
    skipping: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: [0; MAX_FRAME_BYTES], filled: 0, skipping: false }
    }

    /// Takes the next byte; gives the frame that it completes, if any, or says that something had to be skipped.
    pub fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, LinkError>> {
        if let Some(place) = self.buffer.get_mut(self.filled) {
            *place = byte;
            self.filled += 1;
        }
        if self.filled <= SYNC.len() {
            return self.check_sync(byte);
        }
        if self.filled < HEADER_BYTES {
            return None;
        }
        let Some((kind, length)) = self.header() else {
            self.filled = 0;
            self.skipping = true;
            return Some(Err(LinkError::BadHeader));
        };
        if self.filled < HEADER_BYTES + length {
            return None;
        }
        self.filled = 0;
        let payload = self.buffer.get(HEADER_BYTES..HEADER_BYTES + length).unwrap_or(&[]);
        Some(Frame::from_parts(kind, payload).ok_or(LinkError::BadPayload))
    }

    /// Takes all `bytes` and gives each frame, and each error, to `sink`.
    pub fn push_all(&mut self, bytes: &[u8], mut sink: impl FnMut(Result<Frame<'_>, LinkError>)) {
        for byte in bytes {
            if let Some(result) = self.push(*byte) {
                sink(result);
            }
        }
    }

    fn check_sync(&mut self, byte: u8) -> Option<Result<Frame<'_>, LinkError>> {
        if self.buffer.get(..self.filled) == SYNC.get(..self.filled) {
            self.skipping &= self.filled < SYNC.len();
            return None;
        }
        // The byte may itself be the first of a frame.
        self.filled = usize::from(byte == SYNC[0]);
        if let Some(first) = self.buffer.first_mut() {
            *first = byte;
        }
        let is_new = !self.skipping;
        self.skipping = true;
        is_new.then_some(Err(LinkError::Garbage))
    }

    /// Kind and length of the payload, if the header is good.
    fn header(&self) -> Option<(Kind, usize)> {
        let [first, second, kind, low, high, check] = *self.buffer.first_chunk::<HEADER_BYTES>()?;
        let length = usize::from(u16::from_le_bytes([low, high]));
        let good = check == check_of([first, second, kind, low, high]) && length <= MAX_PAYLOAD_BYTES;
        Kind::from_number(kind).filter(|_| good).map(|kind| (kind, length))
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Garbage => "bytes that belong to no frame",
            Self::BadHeader => "a damaged frame header",
            Self::BadPayload => "a frame with an impossible payload",
        })
    }
}

impl core::error::Error for LinkError {}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    fn encoded(frame: Frame<'_>) -> Vec<u8> {
        let mut buffer = [0; MAX_FRAME_BYTES];
        frame.encode(&mut buffer).unwrap().to_vec()
    }

    /// What a decoder finds, written down so that it can be compared.
    fn decoded(decoder: &mut Decoder, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        decoder.push_all(bytes, |result| found.push(std::format!("{result:?}")));
        found
    }

    fn described(frame: Frame<'_>) -> String {
        std::format!("{:?}", Ok::<_, LinkError>(frame))
    }

    #[test]
    fn every_kind_of_frame_comes_back() {
        let frames = [
            Frame::Output(b"out"),
            Frame::Output(b""),
            Frame::Error(&[0xd1, 0xb2, 0xd1]),
            Frame::Credit(u32::MAX),
            Frame::Exit(ExitStatus::Code(255)),
            Frame::Exit(ExitStatus::Signal(9)),
            Frame::Input(&[7; MAX_PAYLOAD_BYTES]),
            Frame::InputEnd,
        ];
        let mut decoder = Decoder::new();
        for frame in frames {
            assert_eq!(decoded(&mut decoder, &encoded(frame)), [described(frame)]);
        }
    }

    #[test]
    fn too_long_a_payload_is_refused() {
        let payload = vec![0; MAX_PAYLOAD_BYTES + 1];
        let mut buffer = [0; MAX_FRAME_BYTES];
        let refused = Frame::Output(&payload).encode(&mut buffer).unwrap_err();
        assert_eq!(refused, PayloadTooLong { length_bytes: MAX_PAYLOAD_BYTES + 1 });
    }

    #[test]
    fn a_run_of_garbage_is_reported_once_and_the_next_frame_is_found() {
        let mut stream = b"BdsDxe: starting".to_vec();
        stream.push(SYNC[0]);
        stream.extend(encoded(Frame::Output(b"hello")));
        let found = decoded(&mut Decoder::new(), &stream);
        assert_eq!(found, ["Err(Garbage)", &described(Frame::Output(b"hello"))]);
    }

    #[test]
    fn a_damaged_header_is_an_error_and_the_next_frame_is_found() {
        for position in SYNC.len()..HEADER_BYTES {
            let mut damaged = encoded(Frame::InputEnd);
            damaged[position] ^= 0x10;
            damaged.extend(encoded(Frame::Credit(1)));
            let found = decoded(&mut Decoder::new(), &damaged);
            assert_eq!(found, ["Err(BadHeader)", &described(Frame::Credit(1))], "byte {position}");
        }
    }

    #[test]
    fn a_payload_that_the_kind_cannot_have_is_an_error() {
        let mut buffer = [0; MAX_FRAME_BYTES];
        for (kind, payload) in
            [(Kind::Exit, &[2, 0][..]), (Kind::Exit, &[]), (Kind::Credit, &[1]), (Kind::InputEnd, &[1])]
        {
            let bytes = write_frame(kind, payload, &mut buffer).unwrap().to_vec();
            assert_eq!(decoded(&mut Decoder::new(), &bytes), ["Err(BadPayload)"]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_come_back_however_the_stream_is_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
            cut in 1usize..50,
        ) {
            let frames: Vec<_> = payloads.iter().map(|payload| Frame::Input(payload)).collect();
            let stream: Vec<u8> = frames.iter().flat_map(|frame| encoded(*frame)).collect();
            let mut decoder = Decoder::new();
            let found: Vec<_> = stream.chunks(cut).flat_map(|piece| decoded(&mut decoder, piece)).collect();
            let expected: Vec<_> = frames.into_iter().map(described).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(prop_oneof![Just(0xd1u8), Just(0xb2), 0u8..8, any::<u8>()], 0..1500)) {
            Decoder::new().push_all(&bytes, |_| ());
        }
    }
}
