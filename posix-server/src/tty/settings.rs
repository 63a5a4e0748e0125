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

    /// The state of a new pseudo-terminal: no line that could be hung up.
    pub fn of_pty() -> Self {
        let usual = Self::new();
        Self { control: usual.control & !linux::HUPCL, ..usual }
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

    /// Whether a typed byte stops output.
    pub fn stops_output(&self, byte: u8) -> bool {
        self.has_input(linux::IXON) && self.is_special(Special::Stop, byte)
    }

    /// Settings in which nothing is set.
    pub const NONE: Self = Self {
        input: 0,
        output: 0,
        control: 0,
        local: 0,
        discipline: 0,
        special: [0; SPECIAL_CHARACTERS],
        input_speed: 0,
        output_speed: 0,
    };

    /// These settings, except that what is set in `locked` stays as it was `before` (`ioctl_tty(2)`, "Locking the termios
    /// structure"): single flags, and special characters as a whole.
    pub fn without_locked(self, before: &Self, locked: &Self) -> Self {
        let keep = |new: u32, old: u32, locked: u32| new & !locked | old & locked;
        let mut special = self.special;
        for ((new, old), locked) in special.iter_mut().zip(before.special).zip(locked.special) {
            if locked != 0 {
                *new = old;
            }
        }
        Self {
            input: keep(self.input, before.input, locked.input),
            output: keep(self.output, before.output, locked.output),
            control: keep(self.control, before.control, locked.control),
            local: keep(self.local, before.local, locked.local),
            discipline: if locked.discipline == 0 { self.discipline } else { before.discipline },
            special,
            ..self
        }
    }

    /// The same with characters of eight bits, which is all that a pseudo-terminal can carry.
    pub fn with_eight_bits(self) -> Self {
        let control = self.control & !(linux::CSIZE | linux::PARENB) | linux::CS8 | linux::CREAD;
        Self { control, ..self }
    }

    /// The same with the speeds that the settings of the line name; other speeds stay as they are (`BOTHER`).
    pub fn with_speeds(self) -> Self {
        let output_speed = speed_of(self.control & linux::CBAUD).unwrap_or(self.output_speed);
        let input_speed = match (self.control & linux::CIBAUD) >> linux::IBSHIFT {
            0 => output_speed,
            code => speed_of(code).unwrap_or(self.input_speed),
        };
        Self { input_speed, output_speed, ..self }
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

/// The speed in bauds that a code means; `None` for `BOTHER`.
fn speed_of(code: u32) -> Option<u32> {
    /// By `B0` and so on.
    const SLOW: [u32; 16] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, SPEED_BAUD];
    /// By `B57600` and so on.
    const FAST: [u32; 15] = [
        57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000,
        2_500_000, 3_000_000, 3_500_000, 4_000_000,
    ];
    match code.checked_sub(linux::B57600) {
        Some(index) => FAST.get(index as usize).copied(),
        None => SLOW.get(code as usize).copied(),
    }
}

/// The number of special characters in `struct termio` (`NCC`).
const OLD_SPECIAL_CHARACTERS: usize = 8;

/// `struct termio`: settings as System V had them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OldSettings {
    input: u16,
    output: u16,
    control: u16,
    local: u16,
    discipline: u8,
    special: [u8; OLD_SPECIAL_CHARACTERS],
    padding: u8,
}

impl From<&Settings> for OldSettings {
    fn from(settings: &Settings) -> Self {
        let mut special = [0; OLD_SPECIAL_CHARACTERS];
        for (to, from) in special.iter_mut().zip(settings.special) {
            *to = from;
        }
        Self {
            input: settings.input as u16,
            output: settings.output as u16,
            control: settings.control as u16,
            local: settings.local as u16,
            discipline: settings.discipline,
            special,
            padding: 0,
        }
    }
}

impl OldSettings {
    /// The settings with these; what these have no place for stays.
    pub fn applied_to(&self, settings: &Settings) -> Settings {
        let low = |all: u32, low: u16| all & !u32::from(u16::MAX) | u32::from(low);
        let mut special = settings.special;
        for (to, from) in special.iter_mut().zip(self.special) {
            *to = from;
        }
        let changed = Settings {
            input: low(settings.input, self.input),
            output: low(settings.output, self.output),
            control: low(settings.control, self.control),
            local: low(settings.local, self.local),
            discipline: self.discipline,
            special,
            ..*settings
        };
        changed.with_speeds()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}
