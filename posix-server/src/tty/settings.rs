//! The settings of a terminal (`termios(3)`), in the form that programs exchange them.

use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The number of special characters in the kernel's `termios` (`NCCS`).
const SPECIAL_CHARACTERS: usize = 19;

/// `struct termios2` of Linux; its first [`Settings::SHORT_BYTES`] bytes are `struct termios`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// What happens to input (`ICRNL`…).
    pub input: u32,
    /// What happens to output (`OPOST`…).
    pub output: u32,
    /// The line: speed and character size; kept, without effect.
    pub control: u32,
    /// Editing, echo, signals (`ICANON`…).
    pub local: u32,
    /// The line discipline's number: always 0.
    pub discipline: u8,
    /// The special characters, by `VINTR` and so on. 0 switches one off.
    pub special: [u8; SPECIAL_CHARACTERS],
    /// The input speed in bauds.
    pub input_speed: u32,
    /// The output speed in bauds.
    pub output_speed: u32,
}

/// The window's size (`struct winsize`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Width in pixels; kept.
    pub width: u16,
    /// Height in pixels; kept.
    pub height: u16,
}

/// A special character, by its place in [`Settings::special`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Special {
    /// `^C`
    Interrupt = linux::VINTR,
    /// `^\`
    Quit = linux::VQUIT,
    /// Rubs out a character.
    Erase = linux::VERASE,
    /// `^U`
    Kill = linux::VKILL,
    /// `^D`
    EndOfFile = linux::VEOF,
    /// `^Q`
    Start = linux::VSTART,
    /// `^S`
    Stop = linux::VSTOP,
    /// `^Z`
    Suspend = linux::VSUSP,
    /// Another end of a line.
    EndOfLine = linux::VEOL,
    /// `^R`
    Reprint = linux::VREPRINT,
    /// `^W`
    EraseWord = linux::VWERASE,
    /// `^V`
    LiteralNext = linux::VLNEXT,
    /// Yet another end of a line.
    EndOfLine2 = linux::VEOL2,
}

const fn control(letter: u8) -> u8 {
    letter & 0x1f
}

/// The rubout character.
const DELETE: u8 = 0x7f;

/// The speed that a terminal that has none shows.
const SPEED_BAUD: u32 = 38_400;

impl Settings {
    /// The size of the older `struct termios`, which lacks the speeds.
    pub const SHORT_BYTES: usize = 36;

    /// The state of a new terminal (`tty_std_termios` of Linux).
    pub fn new() -> Self {
        let mut special = [0; SPECIAL_CHARACTERS];
        let characters = [
            (Special::Interrupt as u32, control(b'C')),
            (Special::Quit as u32, 0x1c),
            (Special::Erase as u32, DELETE),
            (Special::Kill as u32, control(b'U')),
            (Special::EndOfFile as u32, control(b'D')),
            (Special::Start as u32, control(b'Q')),
            (Special::Stop as u32, control(b'S')),
            (Special::Suspend as u32, control(b'Z')),
            (Special::Reprint as u32, control(b'R')),
            (Special::EraseWord as u32, control(b'W')),
            (Special::LiteralNext as u32, control(b'V')),
            (linux::VDISCARD, control(b'O')),
            (linux::VMIN, 1),
        ];
        for (index, byte) in characters {
            if let Some(place) = special.get_mut(index as usize) {
                *place = byte;
            }
        }
        Self {
            input: linux::ICRNL | linux::IXON,
            output: linux::OPOST | linux::ONLCR,
            control: linux::B38400 | linux::CS8 | linux::CREAD | linux::HUPCL,
            local: linux::ISIG
                | linux::ICANON
                | linux::ECHO
                | linux::ECHOE
                | linux::ECHOK
                | linux::ECHOCTL
                | linux::ECHOKE
                | linux::IEXTEN,
            discipline: 0,
            special,
            input_speed: SPEED_BAUD,
            output_speed: SPEED_BAUD,
        }
    }

    /// Whether an input flag is set.
    pub fn has_input(&self, flag: u32) -> bool {
        self.input & flag != 0
    }

    /// Whether an output flag is set.
    pub fn has_output(&self, flag: u32) -> bool {
        self.output & flag != 0
    }

    /// Whether a local flag is set.
    pub fn has_local(&self, flag: u32) -> bool {
        self.local & flag != 0
    }

    /// Whether `byte` is this special character.
    pub fn is_special(&self, which: Special, byte: u8) -> bool {
        let set = self.special.get(which as usize).copied().unwrap_or_default();
        set != 0 && set == byte
    }

    /// This special character.
    pub fn special(&self, which: Special) -> u8 {
        self.special.get(which as usize).copied().unwrap_or_default()
    }

    /// How many bytes a read waits for, out of canonical mode.
    pub fn minimum(&self) -> usize {
        usize::from(self.special.get(linux::VMIN as usize).copied().unwrap_or_default())
    }

    /// How long a read waits, out of canonical mode, in ns. 0: for ever.
    pub fn timeout_ns(&self) -> u64 {
        const TENTH_NS: u64 = 100_000_000;
        u64::from(self.special.get(linux::VTIME as usize).copied().unwrap_or_default()) * TENTH_NS
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}
