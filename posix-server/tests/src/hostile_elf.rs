//! Malformed, truncated and hostile ELF files, each executed by a caller that must live on.
//!
//! Where the format decides, or every Linux does the same, a case prints what became of the file: that it ran, the errno
//! of `execve`, or only that it did not run (Linux finds some faults before and some after it has dropped the old program,
//! and kills it then; a system that finds all of them before is as right). Where the answer depends on how far a system
//! trusts the headers, the case prints only that the caller lives on.

#![forbid(unsafe_code)]

use posix_tests::case::{Case, CaseResult, describe_error, describe_status, run_program, say};
use posix_tests::elf_image::{
    CODE_OFFSET, DATA_ADDRESS, DATA_OFFSET, ET_CORE, ET_REL, EXIT_STATUS, FILE_HEADER_BYTES, Image,
    PROGRAM_HEADER_BYTES, PT_GNU_STACK, PT_NOTE, Segment, TEXT_ADDRESS,
};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitStatus, Stdio};

/// How much a case prints of what became of its file.
#[derive(Clone, Copy)]
enum Verdict {
    /// It ran and how it ended, or the errno of `execve`.
    Exact,
    /// Whether it ran.
    Runs,
    /// Nothing: whatever happened, the caller lives on.
    CallerLives,
}

use Verdict::{CallerLives, Exact, Runs};

fn main() {
    let cases: Vec<Case> = well_formed()
        .into_iter()
        .chain(file_headers())
        .chain(program_headers())
        .chain(interpreters())
        .chain([
            Case::new("truncated_at_every_interesting_length", truncations),
            Case::new("every_byte_of_the_headers_turned_over", turned_bytes),
            Case::new("two_hundred_random_mutations", random_mutations),
        ])
        .collect();
    std::process::exit(run_program(&cases));
}

/// A case with one file, broken by a function.
fn broken(name: &str, verdict: Verdict, breaking: fn(&mut Image)) -> Case {
    made(name, verdict, move || {
        let mut image = Image::program();
        breaking(&mut image);
        image
    })
}

/// A case with one file, made by a function.
fn made(name: &str, verdict: Verdict, make: impl Fn() -> Image + 'static) -> Case {
    Case::new(name, move || try_file(verdict, &make().to_bytes()))
}

fn try_file(verdict: Verdict, bytes: &[u8]) -> CaseResult {
    let result = execute(bytes)?;
    match verdict {
        Exact => say(match result {
            Ok(status) => describe_status(status),
            Err(error) => describe_error(&error),
        }),
        Runs => say(if ran(&result) { "it runs" } else { "it does not run" }),
        CallerLives => {}
    }
    caller_lives_on()
}

/// Writes the file and executes it: how it ended, or the error of `execve`.
fn execute(bytes: &[u8]) -> io::Result<io::Result<ExitStatus>> {
    // A new file each time: the last one may still be running as far as the system is concerned.
    let _ = fs::remove_file("program");
    fs::write("program", bytes)?;
    fs::set_permissions("program", fs::Permissions::from_mode(0o755))?;
    let result = Command::new("./program").stdin(Stdio::null()).status();
    Ok(result)
}

fn ran(result: &io::Result<ExitStatus>) -> bool {
    result.as_ref().is_ok_and(|status| status.code() == Some(EXIT_STATUS))
}

/// The caller works as before: a good program still runs.
fn caller_lives_on() -> CaseResult {
    let result = execute(&Image::program().to_bytes())?;
    say(format!("a good program afterwards: {}", if ran(&result) { "it runs" } else { "it does not run" }));
    Ok(())
}

fn well_formed() -> Vec<Case> {
    vec![
        broken("a_good_program_runs_with_zeroes_behind_its_data", Exact, |_| {}),
        made("a_position_independent_program_runs", Exact, Image::position_independent_program),
        broken("section_headers_do_not_matter", Exact, |image| {
            image.sections_offset = u64::MAX;
            image.sections = [1, u16::MAX, u16::MAX];
        }),
        broken("an_alignment_of_zero_means_none", Exact, |image| image.segments[0].alignment = 0),
        broken("an_alignment_of_one_means_none", Exact, |image| image.segments[0].alignment = 1),
        broken("notes_and_stack_headers_are_no_segments", Exact, |image| {
            image.segments.push(nothing_of_kind(PT_NOTE));
            image.segments.push(nothing_of_kind(PT_GNU_STACK));
            image.segments.push(nothing_of_kind(0x7abc_def0));
        }),
        broken("an_empty_segment_is_allowed", Runs, |image| {
            let mut empty = image.segments[1].clone();
            empty.address += 0x10_0000;
            (empty.file_bytes, empty.memory_bytes) = (0, 0);
            image.segments.push(empty);
        }),
        broken("a_segment_without_bytes_in_the_file_is_zero", Exact, |image| image.segments[1].file_bytes = 0),
    ]
}

fn nothing_of_kind(kind: u32) -> Segment {
    Segment { kind, flags: 6, offset: 0, address: 0, file_bytes: 0, memory_bytes: 0, alignment: 0 }
}

fn file_headers() -> Vec<Case> {
    vec![
        broken("wrong_magic_first_byte", Exact, |image| image.identification[0] = 0),
        broken("wrong_magic_last_byte", Exact, |image| image.identification[3] = b'f'),
        broken("class_of_32_bits", CallerLives, |image| image.identification[4] = 1),
        broken("byte_order_of_others", CallerLives, |image| image.identification[5] = 2),
        broken("unknown_version", CallerLives, |image| image.version = 77),
        broken("type_relocatable", Exact, |image| image.kind = ET_REL),
        broken("type_core", Exact, |image| image.kind = ET_CORE),
        broken("type_none", Exact, |image| image.kind = 0),
        broken("type_unknown", Exact, |image| image.kind = 0xffff),
        broken("machine_none", Exact, |image| image.machine = 0),
        broken("machine_arm", Exact, |image| image.machine = 183),
        broken("no_program_headers", Exact, |image| image.segment_count = Some(0)),
        broken("more_program_headers_than_the_file_has", Exact, |image| image.segment_count = Some(1000)),
        broken("the_greatest_number_of_program_headers", Exact, |image| image.segment_count = Some(u16::MAX)),
        broken("program_headers_of_size_zero", Exact, |image| image.segment_header_bytes = 0),
        broken("program_headers_of_size_55", Exact, |image| image.segment_header_bytes = 55),
        broken("program_headers_of_size_57", Exact, |image| image.segment_header_bytes = 57),
        broken("program_headers_of_the_greatest_size", Exact, |image| image.segment_header_bytes = u16::MAX),
        broken("program_headers_at_the_end_of_the_file", Exact, |image| image.headers_offset = 0x2000),
        broken("program_headers_far_beyond_the_file", Exact, |image| image.headers_offset = 1 << 62),
        broken("program_headers_at_the_greatest_offset", Exact, |image| image.headers_offset = u64::MAX),
        broken("program_headers_that_are_filler", CallerLives, |image| image.headers_offset = 0x300),
        broken("program_headers_inside_the_file_header", CallerLives, |image| image.headers_offset = 0),
        broken("entry_at_zero", Runs, |image| image.entry = 0),
        broken("entry_between_segments", Runs, |image| image.entry = TEXT_ADDRESS + 0x10_0000),
        broken("entry_in_data", Runs, |image| image.entry = DATA_ADDRESS),
        broken("entry_in_the_kernels_half", Runs, |image| image.entry = 0xffff_ffff_8000_0000),
        broken("entry_not_canonical", Runs, |image| image.entry = 1 << 47),
        broken("entry_at_the_last_byte", Runs, |image| image.entry = u64::MAX),
    ]
}

fn program_headers() -> Vec<Case> {
    vec![
        broken("no_segment_to_load", Runs, |image| {
            image.segments.iter_mut().for_each(|segment| segment.kind = PT_NOTE)
        }),
        broken("more_bytes_in_the_file_than_in_memory", Runs, |image| image.segments[1].memory_bytes = 4),
        broken("more_bytes_than_the_file_has", CallerLives, |image| {
            (image.segments[1].file_bytes, image.segments[1].memory_bytes) = (0x10_0000, 0x10_0000);
        }),
        broken("memory_of_a_tebibyte_times_64", Runs, |image| image.segments[1].memory_bytes = 1 << 46),
        broken("memory_of_half_of_everything", Runs, |image| image.segments[1].memory_bytes = 1 << 63),
        broken("memory_of_the_greatest_size", Runs, |image| image.segments[1].memory_bytes = u64::MAX),
        broken("file_bytes_of_the_greatest_size", Runs, |image| {
            (image.segments[1].file_bytes, image.segments[1].memory_bytes) = (u64::MAX, u64::MAX);
        }),
        broken("memory_that_wraps_around", Runs, |image| {
            image.segments[1].address = u64::MAX - 0xfff;
            image.segments[1].memory_bytes = 0x3000;
        }),
        broken("address_in_the_kernels_half", Runs, |image| image.segments[1].address = 0xffff_8000_0000_0000),
        broken("address_not_canonical", Runs, |image| image.segments[1].address = 1 << 47),
        broken("address_and_offset_disagree_within_the_page", Runs, |image| image.segments[1].address += 0x10),
        broken("offset_beyond_the_file", CallerLives, |image| image.segments[1].offset = 1 << 40),
        broken("offset_of_the_greatest_size", Runs, |image| image.segments[1].offset = u64::MAX - 0xfff),
        broken("text_that_cannot_be_executed", Runs, |image| image.segments[0].flags = 4),
        broken("text_without_permissions", Runs, |image| image.segments[0].flags = 0),
        broken("unknown_permission_bits", CallerLives, |image| image.segments[0].flags = u32::MAX),
        broken("an_alignment_that_is_no_power_of_two", CallerLives, |image| image.segments[0].alignment = 3),
        broken("an_alignment_of_the_greatest_size", CallerLives, |image| image.segments[0].alignment = u64::MAX),
        broken("an_alignment_of_a_tebibyte", CallerLives, |image| image.segments[0].alignment = 1 << 40),
        made("an_alignment_of_a_tebibyte_at_any_address", CallerLives, || {
            let mut image = Image::position_independent_program();
            image.segments[0].alignment = 1 << 40;
            image
        }),
        broken("segments_in_descending_order", CallerLives, |image| image.segments.reverse()),
        broken("the_same_segment_twice", CallerLives, |image| {
            let twin = image.segments[0].clone();
            image.segments.push(twin);
        }),
        broken("data_over_text", CallerLives, |image| {
            (image.segments[1].address, image.segments[1].offset) = (TEXT_ADDRESS, DATA_OFFSET);
        }),
        broken("segments_that_overlap_in_a_page", CallerLives, |image| {
            (image.segments[1].address, image.segments[1].offset) = (TEXT_ADDRESS + CODE_OFFSET, CODE_OFFSET);
        }),
        broken("a_hundred_segments_over_each_other", CallerLives, |image| {
            let twin = image.segments[1].clone();
            image.segments.extend(std::iter::repeat_n(twin, 100));
        }),
        broken("a_segment_where_the_stack_goes", CallerLives, |image| {
            image.segments[1].address = 0x7fff_0000_0000;
            image.segments[1].memory_bytes = 0xffff_f000;
        }),
        broken("a_segment_at_address_zero", CallerLives, |image| image.segments[1].address = 0),
        made("a_position_independent_program_larger_than_memory", Runs, || {
            let mut image = Image::position_independent_program();
            image.segments[1].address = 1 << 47;
            image
        }),
    ]
}

fn interpreters() -> Vec<Case> {
    vec![
        made("an_interpreter_that_is_missing", Exact, || Image::interpreted_by(b"./nowhere\0", 10)),
        made("an_interpreter_name_without_its_end", Exact, || Image::interpreted_by(b"./nowhere", 9)),
        made("an_interpreter_name_of_no_bytes", Exact, || Image::interpreted_by(b"\0", 0)),
        made("an_interpreter_name_of_one_byte", Exact, || Image::interpreted_by(b"\0", 1)),
        made("an_interpreter_name_longer_than_a_path", Exact, || Image::interpreted_by(b"./nowhere\0", 4097)),
        made("an_interpreter_name_of_the_greatest_size", Exact, || Image::interpreted_by(b"./nowhere\0", u64::MAX)),
        made("an_interpreter_name_beyond_the_file", Runs, || {
            let mut image = Image::interpreted_by(b"./nowhere\0", 10);
            image.segments[0].offset = 1 << 40;
            image
        }),
        made("an_interpreter_that_is_a_directory", Exact, || Image::interpreted_by(b".\0", 2)),
        made("an_interpreter_that_is_a_device", Runs, || Image::interpreted_by(b"/dev/zero\0", 10)),
        made("an_interpreter_that_is_the_program_itself", CallerLives, || Image::interpreted_by(b"./program\0", 10)),
        made("two_interpreters", CallerLives, || {
            let mut image = Image::interpreted_by(b"./nowhere\0", 10);
            let twin = image.segments[0].clone();
            image.segments.push(twin);
            image
        }),
        Case::new("an_interpreter_that_is_a_text", || {
            fs::write("text", "#!/bin/sh\nexit 7\n")?;
            fs::set_permissions("text", fs::Permissions::from_mode(0o755))?;
            try_file(Runs, &Image::interpreted_by(b"./text\0", 7).to_bytes())
        }),
        Case::new("an_interpreter_runs_in_place_of_its_program", || {
            let mut interpreter = Image::position_independent_program();
            interpreter.segments[0].alignment = 0x1000;
            fs::write("interpreter", interpreter.to_bytes())?;
            fs::set_permissions("interpreter", fs::Permissions::from_mode(0o755))?;
            // The program itself would trap: only the interpreter is started.
            let mut program = Image::interpreted_by(b"./interpreter\0", 14);
            program.entry = DATA_ADDRESS;
            try_file(Exact, &program.to_bytes())
        }),
        Case::new("an_interpreter_that_may_not_be_executed", || {
            fs::write("interpreter", Image::position_independent_program().to_bytes())?;
            fs::set_permissions("interpreter", fs::Permissions::from_mode(0o644))?;
            try_file(Exact, &Image::interpreted_by(b"./interpreter\0", 14).to_bytes())
        }),
    ]
}

/// The file cut at the ends of the headers and around them, and in the middle of the segments.
fn truncations() -> CaseResult {
    let whole = Image::program().to_bytes();
    let headers_end = FILE_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
    let lengths =
        [0, 1, 3, 4, 5, 15, 16, 17, 18, 24, 32, 40, 52, 54, 56, 58, 63, 64, 65, 100, 119, 120, 121, headers_end - 1];
    for length in lengths {
        let result = execute(&whole[..usize::try_from(length).unwrap_or(usize::MAX).min(whole.len())])?;
        say(format!("cut at {length}: {}", result.map_or_else(|error| describe_error(&error), describe_status)));
    }
    for length in [headers_end, CODE_OFFSET, CODE_OFFSET + 3, DATA_OFFSET, DATA_OFFSET + 1] {
        // Whether the missing bytes are noticed depends on how the segments are mapped.
        let _ = execute(&whole[..usize::try_from(length).unwrap_or(usize::MAX).min(whole.len())])?;
    }
    caller_lives_on()
}

/// Each byte of the headers with its lowest bit, and with all bits turned over.
fn turned_bytes() -> CaseResult {
    let whole = Image::program().to_bytes();
    let headers_end = usize::try_from(FILE_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES).unwrap_or(0);
    let mut tried = 0;
    for at in 0..headers_end {
        for mask in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            let _ = execute(&bytes)?;
            tried += 1;
        }
    }
    say(format!("{tried} files tried"));
    caller_lives_on()
}

/// Files with one to eight random bytes in the headers: the same on every run.
fn random_mutations() -> CaseResult {
    const FILES: usize = 200;
    const MOST_MUTATIONS: u64 = 8;
    let whole = Image::program().to_bytes();
    let headers_end = FILE_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
    let mut random = Random(0x5eed);
    for _ in 0..FILES {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(MOST_MUTATIONS) {
            let at = usize::try_from(random.below(headers_end)).unwrap_or(0);
            bytes[at] = random.next().to_le_bytes()[0];
        }
        let _ = execute(&bytes)?;
    }
    say(format!("{FILES} files tried"));
    caller_lives_on()
}

/// Marsaglia's xorshift generator with 64 bits of state (Journal of Statistical Software 8(14), 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
