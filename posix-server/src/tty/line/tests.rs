//! The line discipline, by scripts: what is typed, what is shown, what a program reads.

extern crate std;
use super::*;
use proptest::prelude::*;
use std::string::String;

struct Script {
    line: LineDiscipline,
    events: Vec<Event>,
}

impl Script {
    fn new() -> Self {
        Self { line: LineDiscipline::new(), events: Vec::new() }
    }

    fn with(change: impl Fn(&mut Settings)) -> Self {
        let mut script = Self::new();
        script.change(change);
        script
    }

    fn change(&mut self, change: impl Fn(&mut Settings)) {
        let mut settings = *self.line.settings();
        change(&mut settings);
        self.line.set_settings(settings);
    }

    /// Types, and returns what the screen shows.
    fn types(&mut self, bytes: &[u8]) -> String {
        let mut effects = Effects::default();
        assert_eq!(self.line.receive(bytes, &mut effects), bytes.len());
        self.events.extend(effects.events);
        String::from_utf8_lossy(&effects.output).into_owned()
    }

    fn prints(&mut self, bytes: &[u8]) -> String {
        let mut effects = Effects::default();
        self.line.write(bytes, &mut effects);
        String::from_utf8_lossy(&effects.output).into_owned()
    }

    /// One `read` of so many bytes; `None` if it would wait.
    fn reads(&mut self, length: usize) -> Option<String> {
        let bytes = self.line.satisfies(length).then(|| self.line.peek(length)).flatten()?;
        self.line.consume(bytes.len());
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn text(text: &str) -> Option<String> {
    Some(String::from(text))
}

fn raw(settings: &mut Settings) {
    settings.local &= !(linux::ICANON | linux::ECHO | linux::ISIG | linux::IEXTEN);
    settings.input &= !(linux::ICRNL | linux::IXON);
    settings.output &= !linux::OPOST;
}

fn set_special(settings: &mut Settings, index: u32, value: u8) {
    settings.special[index as usize] = value;
}

#[test]
fn a_line_can_be_read_when_it_is_complete() {
    let mut tty = Script::new();
    assert_eq!(tty.types(b"ls -l"), "ls -l");
    assert_eq!(tty.reads(100), None);
    assert_eq!(tty.types(b"\r"), "\r\n");
    assert_eq!(tty.reads(3), text("ls "));
    assert_eq!(tty.reads(100), text("-l\n"));
    assert_eq!(tty.reads(100), None);
}

#[test]
fn one_read_gives_one_line() {
    let mut tty = Script::new();
    tty.types(b"one\ntwo\n");
    assert_eq!((tty.reads(100), tty.reads(100)), (text("one\n"), text("two\n")));
}

#[test]
fn erase_rubs_out_characters_and_what_they_were_shown_as() {
    let mut tty = Script::new();
    assert_eq!(tty.types(b"ab\x7f"), "ab\x08 \x08");
    assert_eq!(tty.types(b"\x01\x7f"), "^A\x08 \x08\x08 \x08");
    assert_eq!(tty.types(b"\x7f\x7f"), "\x08 \x08", "at the start of the line there is nothing to erase");
    tty.types(b"x\n");
    assert_eq!(tty.reads(100), text("x\n"));
}

#[test]
fn a_tab_is_erased_back_to_where_it_began() {
    let mut tty = Script::new();
    tty.prints(b"$ ");
    assert_eq!(tty.types(b"a\t\x7f"), "a\t\x08\x08\x08\x08\x08");
}

#[test]
fn kill_and_word_erase() {
    let mut tty = Script::new();
    tty.types(b"foo bar_1 ");
    assert_eq!(tty.types(b"\x17").len(), 6 * 3);
    assert_eq!(tty.types(b"\x15").len(), 4 * 3);
    tty.types(b"y\n");
    assert_eq!(tty.reads(100), text("y\n"));
}

#[test]
fn a_multibyte_character_is_erased_as_one() {
    let mut tty = Script::with(|settings| settings.input |= linux::IUTF8);
    assert_eq!(tty.types("ä\x7f".as_bytes()), "ä\x08 \x08");
    tty.types(b"\n");
    assert_eq!(tty.reads(100), text("\n"));
}

#[test]
fn end_of_file_ends_a_line_or_the_file() {
    let mut tty = Script::new();
    assert_eq!(tty.types(b"abc\x04"), "abc");
    assert_eq!(tty.reads(3), text("abc"), "the mark behind the last byte goes with it");
    assert_eq!(tty.reads(3), None);
    tty.types(b"\x04");
    assert_eq!(tty.reads(3), text(""));
    assert_eq!(tty.reads(3), None);
    tty.types(b"x\n\x04");
    assert_eq!((tty.reads(9), tty.reads(9)), (text("x\n"), text("")));
}

#[test]
fn interrupt_flushes_and_signals() {
    let mut tty = Script::new();
    assert_eq!(tty.types(b"half\x03"), "^C");
    assert_eq!(tty.events, [Event::FlushOutput, Event::Interrupt]);
    tty.types(b"\n");
    assert_eq!(tty.reads(100), text("\n"));
    let mut tty = Script::with(|settings| settings.local |= linux::NOFLSH);
    tty.types(b"half\x1a\n");
    assert_eq!(tty.events, [Event::Suspend]);
    assert_eq!(tty.reads(100), text("half\n"));
}

#[test]
fn signals_work_when_the_buffer_is_full() {
    let mut tty = Script::new();
    let mut effects = Effects::default();
    tty.types(b"\n");
    assert!(tty.line.receive(&[b'x'; 5000], &mut effects) < 5000);
    assert_eq!(tty.types(b"\x03"), "^C");
}

#[test]
fn an_endless_line_keeps_room_for_its_end() {
    let mut tty = Script::new();
    tty.types(&[b'x'; 10_000]);
    tty.types(b"\n");
    assert_eq!(tty.reads(10_000).unwrap().len(), MAX_INPUT_BYTES);
}

#[test]
fn literal_next_takes_away_the_meaning() {
    let mut tty = Script::new();
    assert_eq!(tty.types(b"\x16\x03"), "^\x08^C");
    tty.types(b"\n");
    assert_eq!((tty.reads(9), tty.events.len()), (text("\x03\n"), 0));
}

#[test]
fn flow_control_stops_and_starts() {
    let mut tty = Script::new();
    tty.types(b"\x13");
    assert!(tty.line.is_stopped());
    tty.types(b"\x11");
    assert!(!tty.line.is_stopped());
    assert_eq!(tty.events, [Event::Stop, Event::Start]);
}

#[test]
fn output_processing_makes_returns_and_tabs() {
    let mut tty = Script::new();
    assert_eq!(tty.prints(b"a\nb\tc"), "a\r\nb\tc");
    tty.change(|settings| settings.output |= linux::XTABS);
    assert_eq!(tty.prints(b"\n12\tc"), "\r\n12      c");
    tty.change(raw);
    assert_eq!(tty.prints(b"\n\t"), "\n\t");
}

#[test]
fn raw_mode_waits_for_the_minimum() {
    let mut tty = Script::with(|settings| {
        raw(settings);
        set_special(settings, linux::VMIN, 3);
    });
    assert_eq!(tty.types(b"a\r"), "");
    assert_eq!(tty.reads(10), None);
    assert_eq!(tty.line.peek(10).unwrap(), b"a\r", "what is there can be had by who does not wait");
    assert_eq!(tty.reads(2), text("a\r"), "a smaller read waits for no more than it takes");
    tty.types(b"\x03\x04\x7f");
    assert_eq!(tty.reads(10), text("\x03\x04\x7f"));
}

#[test]
fn raw_mode_without_minimum_polls() {
    let mut tty = Script::with(|settings| {
        raw(settings);
        set_special(settings, linux::VMIN, 0);
    });
    assert_eq!(tty.reads(10), text(""));
    tty.types(b"x");
    assert_eq!(tty.reads(10), text("x"));
}

#[test]
fn what_was_typed_before_a_change_of_mode_can_be_read() {
    let mut tty = Script::new();
    tty.types(b"half a line");
    tty.change(raw);
    assert_eq!(tty.reads(4), text("half"));
    tty.change(|settings| settings.local |= linux::ICANON);
    assert_eq!(tty.reads(100), text(" a line"));
}

#[test]
fn without_echo_nothing_is_shown_but_perhaps_the_newline() {
    let mut tty = Script::with(|settings| settings.local &= !linux::ECHO);
    assert_eq!(tty.types(b"secret\x7f\n"), "");
    tty.change(|settings| settings.local |= linux::ECHONL);
    assert_eq!(tty.types(b"secret\n"), "\r\n");
}

proptest! {
    /// Whatever is typed in whatever mode, all that is read was typed or is a newline, and nothing grows without bound.
    #[test]
    fn any_input_is_harmless(
        steps in proptest::collection::vec((any::<u8>(), any::<u32>(), 0usize..20, proptest::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let mut tty = Script::new();
        for (what, bits, length, bytes) in steps {
            match what % 4 {
                0 => tty.change(|settings| { settings.local ^= bits & 0xffff; }),
                1 => tty.change(|settings| { settings.input ^= bits & 0xffff; settings.output ^= bits >> 16; }),
                2 => {
                    let before = tty.line.readable_bytes();
                    if let Some(read) = tty.line.peek(length) {
                        prop_assert!(read.len() <= length && read.len() <= before);
                        tty.line.consume(read.len());
                    }
                }
                _ => { tty.line.receive(&bytes, &mut Effects::default()); }
            }
            prop_assert!(tty.line.input.len() <= MAX_INPUT_BYTES);
            prop_assert!(tty.line.complete <= tty.line.input.len());
        }
    }
}

/// What Linux's line discipline did with the same bytes, recorded at a pseudo-terminal: settings, what was typed, what was
/// shown, what each read gave, in hexadecimal.
const RECORDED: &str = include_str!("linux.txt");

fn bytes_of(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn settings_named(name: &str, settings: &mut Settings) {
    match name {
        "canon" => {}
        "echoprt" => settings.local |= linux::ECHOPRT,
        "noechoe" => settings.local &= !linux::ECHOE,
        "noechok" => settings.local &= !linux::ECHOK,
        "noechoctl" => settings.local &= !linux::ECHOCTL,
        "iutf8" => settings.input |= linux::IUTF8,
        "noecho" => settings.local &= !linux::ECHO,
        "echonl" => settings.local = settings.local & !linux::ECHO | linux::ECHONL,
        "inlcr" => settings.input = settings.input & !linux::ICRNL | linux::INLCR,
        "igncr" => settings.input |= linux::IGNCR,
        "opost0" => settings.output = 0,
        "xtabs" => settings.output |= linux::XTABS,
        "eol" => set_special(settings, linux::VEOL, b';'),
        unknown => panic!("no settings are named {unknown}"),
    }
}

#[test]
fn scripts_give_what_linux_gave() {
    for line in RECORDED.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [settings, typed, shown, reads] = fields[..] else { panic!("{line}") };
        let mut tty = Script::with(|it| settings_named(settings, it));
        let mut effects = Effects::default();
        tty.line.receive(&bytes_of(typed), &mut effects);
        assert_eq!(effects.output, bytes_of(shown), "what is shown: {line}");
        for expected in reads.split(',') {
            let read = tty.line.peek(100).unwrap_or_default();
            tty.line.consume(read.len());
            assert_eq!(read, bytes_of(expected), "what is read: {line}");
        }
        assert_eq!(tty.line.peek(100), None, "what is left: {line}");
    }
}
