//! What the supervisor does for the programs that it starts, on the channel [`Purpose::SUPERVISOR`].
//!
//! [`Purpose::SUPERVISOR`]: quire_abi::startup::Purpose::SUPERVISOR

use crate::Words;
use quire_abi::system::Shutdown;

const SHUT_DOWN: u64 = 1;

/// What a program asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End the machine. The answer comes only if that is refused.
    ShutDown(Shutdown),
}

impl Request {
    /// Label and words of the request.
    pub const fn encode(self) -> (u64, Words) {
        match self {
            Self::ShutDown(how) => (SHUT_DOWN, [how as u64, 0, 0, 0, 0, 0, 0, 0]),
        }
    }

    /// The request with this label and these words, if it is one.
    pub fn decode(label: u64, words: &Words) -> Option<Self> {
        let [how, ..] = *words;
        match label {
            SHUT_DOWN => u32::try_from(how).ok().and_then(Shutdown::from_number).map(Self::ShutDown),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_words_and_others_are_refused() {
        for how in [Shutdown::PowerOff, Shutdown::Failure, Shutdown::Reset] {
            let (label, words) = Request::ShutDown(how).encode();
            assert_eq!(Request::decode(label, &words), Some(Request::ShutDown(how)));
        }
        assert_eq!(Request::decode(SHUT_DOWN, &[1 << 32; 8]), None);
        assert_eq!(Request::decode(SHUT_DOWN, &[0; 8]), None);
        assert_eq!(Request::decode(0, &[1; 8]), None);
    }
}
