//! Cases in Rust: what the standard library asks of the system, from one thread.
//!
//! A binary of this kind is what most Rust programs for Linux are: static, position-independent, on musl. Panics and exit
//! statuses need another process, so the program starts itself anew with the variable [`ROLE`].

#![forbid(unsafe_code)]

use posix_tests::case::{Case, CaseResult, describe_status, run_program, say, show, show_ok, sorted_names};
use std::collections::HashMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, BufWriter, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the program does when it is started by itself.
const ROLE: &str = "STD_CASES_ROLE";

fn main() {
    if let Ok(role) = env::var(ROLE) {
        return play(&role);
    }
    let cases = [
        Case::new("a_line_is_printed", a_line_is_printed),
        Case::new("arguments_and_environment_arrive", arguments_and_environment_arrive),
        Case::new("the_working_directory_changes", the_working_directory_changes),
        Case::new("a_file_is_written_and_read", a_file_is_written_and_read),
        Case::new("open_options_mean_what_they_say", open_options_mean_what_they_say),
        Case::new("seeking_and_positioned_access", seeking_and_positioned_access),
        Case::new("buffered_lines_of_a_large_file", buffered_lines_of_a_large_file),
        Case::new("metadata_and_permissions", metadata_and_permissions),
        Case::new("times_of_files_are_set", times_of_files_are_set),
        Case::new("directories_are_made_listed_and_removed", directories_are_made_listed_and_removed),
        Case::new("copying_keeps_content_and_mode", copying_keeps_content_and_mode),
        Case::new("links_and_canonical_paths", links_and_canonical_paths),
        Case::new("errors_have_their_kinds", errors_have_their_kinds),
        Case::new("a_child_gives_its_status", a_child_gives_its_status),
        Case::new("a_child_gives_its_output", a_child_gives_its_output),
        Case::new("a_child_reads_its_input", a_child_reads_its_input),
        Case::new("a_child_with_much_output_on_both_streams", a_child_with_much_output_on_both_streams),
        Case::new("a_child_in_another_place", a_child_in_another_place),
        Case::new("a_child_that_cannot_be_started", a_child_that_cannot_be_started),
        Case::new("a_child_is_killed", a_child_is_killed),
        Case::new("children_in_a_row", children_in_a_row),
        Case::new("a_pipeline_of_three", a_pipeline_of_three),
        Case::new("execution_in_place", execution_in_place),
        Case::new("a_panic_is_reported_and_aborts", a_panic_is_reported_and_aborts),
        Case::new("an_anonymous_pipe", an_anonymous_pipe),
        Case::new("time_passes", time_passes),
        Case::new("memory_grows_and_shrinks", memory_grows_and_shrinks),
        Case::new("hash_maps_are_seeded_and_work", hash_maps_are_seeded_and_work),
        Case::new("floating_point_is_exact", floating_point_is_exact),
        Case::new("deep_recursion_fits_the_stack", deep_recursion_fits_the_stack),
        Case::new("a_stack_overflow_kills", a_stack_overflow_kills),
        Case::new("standard_streams_are_no_terminals", standard_streams_are_no_terminals),
    ];
    std::process::exit(run_program(&cases));
}

/// The program as another process: says or does what its role is.
fn play(role: &str) {
    match role {
        "echo" => {
            let mut input = Vec::new();
            if io::stdin().read_to_end(&mut input).is_ok() {
                let _ = io::stdout().write_all(&input);
            }
        }
        "both" => {
            let _ = io::stderr().write_all(&[b'e'; 200_000]);
            let _ = io::stdout().write_all(&[b'o'; 200_000]);
        }
        "show" => {
            let arguments: Vec<String> = env::args().skip(1).collect();
            let place = env::current_dir().map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
            say(format!("arguments {arguments:?}, place {:?}", place.ok().flatten()));
            say(format!("variable {:?}, path {:?}", env::var("OF_CASE").ok(), env::var("PATH").ok()));
        }
        "overflow" => say(recurse(0, u64::MAX)),
        "index" => {
            let empty: Vec<u8> = Vec::with_capacity(env::args().count());
            say(empty[env::args().count()]);
        }
        "sleep" => std::thread::sleep(Duration::from_secs(1000)),
        status => std::process::exit(status.parse().unwrap_or(-1)),
    }
}

/// This program in a role, without the runner's environment.
fn myself(role: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env(ROLE, role);
    Ok(command)
}

fn a_line_is_printed() -> CaseResult {
    println!("to standard output");
    eprintln!("to standard error");
    print!("without line feed");
    io::stdout().flush()?;
    println!();
    Ok(())
}

fn arguments_and_environment_arrive() -> CaseResult {
    let arguments: Vec<String> = env::args().skip(1).collect();
    say(format!("{arguments:?}"));
    let mut names: Vec<String> = env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    names.sort();
    say(format!("{names:?}"));
    say(format!("{:?}", env::var("NOT_THERE")));
    say(env::current_exe()?.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    Ok(())
}

fn the_working_directory_changes() -> CaseResult {
    let before = env::current_dir()?;
    fs::create_dir("inner")?;
    env::set_current_dir("inner")?;
    say(env::current_dir()? == before.join("inner"));
    show_ok("a directory that is not there", env::set_current_dir("nowhere"));
    say(env::temp_dir().display());
    Ok(())
}

fn a_file_is_written_and_read() -> CaseResult {
    fs::write("file", "some text\n")?;
    show("content", fs::read_to_string("file").map(|text| format!("{text:?}")));
    fs::write("file", [0xff, 0xfe])?;
    show_ok("as text", fs::read_to_string("file"));
    show("bytes", fs::read("file").map(|bytes| format!("{bytes:?}")));
    fs::rename("file", "renamed")?;
    show_ok("old name", fs::read("file"));
    fs::remove_file("renamed")?;
    say(Path::new("renamed").exists());
    Ok(())
}

fn open_options_mean_what_they_say() -> CaseResult {
    fs::write("file", "0123456789")?;
    show_ok("create_new", OpenOptions::new().write(true).create_new(true).open("file"));
    OpenOptions::new().append(true).open("file")?.write_all(b"-end")?;
    show("appended", fs::read_to_string("file"));
    OpenOptions::new().write(true).open("file")?.write_all(b"ABC")?;
    show("overwritten", fs::read_to_string("file"));
    drop(OpenOptions::new().write(true).truncate(true).open("file")?);
    show("truncated", fs::metadata("file").map(|metadata| metadata.len()));
    show_ok("nothing asked for", OpenOptions::new().open("file"));
    show("writing to a reader", File::open("file")?.write(b"x"));
    let file = OpenOptions::new().read(true).write(true).open("file")?;
    file.set_len(5)?;
    show("set_len", fs::read("file").map(|bytes| format!("{bytes:?}")));
    show_ok("sync", file.sync_all());
    show("a clone shares the position", {
        let mut clone = file.try_clone()?;
        clone.seek(SeekFrom::Start(3))?;
        (&file).stream_position()
    });
    Ok(())
}

fn seeking_and_positioned_access() -> CaseResult {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open("file")?;
    file.write_all(b"0123456789")?;
    show("end", file.seek(SeekFrom::End(0)));
    show("back", file.seek(SeekFrom::Current(-4)));
    show("before the start", file.seek(SeekFrom::Current(-100)));
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    say(text);
    file.write_all_at(b"xy", 2)?;
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 1)?;
    say(String::from_utf8_lossy(&bytes));
    show_ok("exactly beyond the end", file.read_exact_at(&mut bytes, 8));
    show("at an absurd offset", file.read_at(&mut bytes, u64::MAX));
    Ok(())
}

fn buffered_lines_of_a_large_file() -> CaseResult {
    const LINES: u64 = 50_000;
    let mut writer = BufWriter::new(File::create("file")?);
    for line in 0..LINES {
        writeln!(writer, "line {line}")?;
    }
    writer.flush()?;
    let (mut count, mut sum) = (0_u64, 0_u64);
    for line in BufReader::new(File::open("file")?).lines() {
        count += 1;
        sum += line?.trim_start_matches("line ").parse::<u64>().unwrap_or(0);
    }
    say(format!("{count} lines, sum {sum}"));
    Ok(())
}

fn metadata_and_permissions() -> CaseResult {
    fs::write("file", "12345")?;
    fs::create_dir("directory")?;
    symlink("file", "link")?;
    for name in ["file", "directory", "link", "nowhere"] {
        show(
            name,
            fs::symlink_metadata(name).map(|metadata| {
                let kind = metadata.file_type();
                format!(
                    "file {}, directory {}, link {}, mode {:o}",
                    kind.is_file(),
                    kind.is_dir(),
                    kind.is_symlink(),
                    metadata.mode()
                )
            }),
        );
    }
    show("through the link", fs::metadata("link").map(|metadata| metadata.len()));
    fs::set_permissions("file", fs::Permissions::from_mode(0o440))?;
    show("read-only", fs::metadata("file").map(|metadata| metadata.permissions().readonly()));
    Ok(())
}

fn times_of_files_are_set() -> CaseResult {
    let file = File::create("file")?;
    let then = UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    file.set_modified(then)?;
    show("modified", file.metadata().map(|metadata| metadata.modified().is_ok_and(|time| time == then)));
    show("newer than that", fs::metadata("file").map(|metadata| metadata.accessed().is_ok_and(|time| time > then)));
    Ok(())
}

fn directories_are_made_listed_and_removed() -> CaseResult {
    fs::create_dir_all("a/b/c/d")?;
    show_ok("once more", fs::create_dir("a"));
    show_ok("all once more", fs::create_dir_all("a/b"));
    for number in 0..100 {
        fs::write(format!("a/b/file{number}"), "")?;
    }
    say(sorted_names("a/b")?.len());
    say(format!("{:?}", sorted_names("a")?));
    show_ok("not empty", fs::remove_dir("a/b"));
    show_ok("a file", fs::remove_dir("a/b/file1"));
    show_ok("the whole tree", fs::remove_dir_all("a"));
    show_ok("nothing", fs::read_dir("a"));
    Ok(())
}

fn copying_keeps_content_and_mode() -> CaseResult {
    fs::write("from", vec![b'c'; 300_000])?;
    fs::set_permissions("from", fs::Permissions::from_mode(0o750))?;
    show("copied", fs::copy("from", "to"));
    say(fs::read("from")? == fs::read("to")?);
    show("mode", fs::metadata("to").map(|metadata| format!("{:o}", metadata.mode())));
    show("nothing", fs::copy("nowhere", "to"));
    let (mut from, mut to) = (File::open("from")?, File::create("streamed")?);
    show("streamed", io::copy(&mut from, &mut to));
    Ok(())
}

fn links_and_canonical_paths() -> CaseResult {
    fs::create_dir_all("a/b")?;
    fs::write("a/b/file", "x")?;
    symlink("a/b", "short")?;
    fs::hard_link("a/b/file", "hard")?;
    let here = fs::canonicalize(".")?;
    let canonical = fs::canonicalize("short/../b/./file")?;
    say(canonical.strip_prefix(&here).map(|path| path.display().to_string()).unwrap_or_default());
    show("target", fs::read_link("short").map(|path| path.display().to_string()));
    show("links", fs::metadata("hard").map(|metadata| metadata.nlink()));
    show_ok("no link", fs::read_link("hard"));
    show_ok("nowhere", fs::canonicalize("nowhere"));
    Ok(())
}

fn errors_have_their_kinds() -> CaseResult {
    fs::write("file", "")?;
    show_ok("not found", File::open("nowhere"));
    show_ok("not a directory", File::open("file/x"));
    show_ok("is a directory", OpenOptions::new().write(true).open("."));
    show_ok("exists", fs::create_dir("file"));
    show_ok("a name with a zero", File::open("a\0b"));
    show_ok("too long", File::open("n".repeat(300)));
    Ok(())
}

fn a_child_gives_its_status() -> CaseResult {
    for status in ["0", "1", "127", "255", "256", "-1"] {
        show(status, myself(status)?.status().map(describe_status));
    }
    Ok(())
}

fn a_child_gives_its_output() -> CaseResult {
    let output = Command::new("/bin/sh").args(["-c", "echo out; echo err >&2; exit 4"]).output()?;
    say(format!("{:?} {:?}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)));
    say(describe_status(output.status));
    Ok(())
}

fn a_child_reads_its_input() -> CaseResult {
    let mut child = myself("echo")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"through a child\n")?;
    }
    let output = child.wait_with_output()?;
    say(format!("{:?}, {}", String::from_utf8_lossy(&output.stdout), describe_status(output.status)));
    Ok(())
}

fn a_child_with_much_output_on_both_streams() -> CaseResult {
    let output = myself("both")?.output()?;
    say(format!("{} and {} bytes, {}", output.stdout.len(), output.stderr.len(), describe_status(output.status)));
    Ok(())
}

fn a_child_in_another_place() -> CaseResult {
    fs::create_dir("inner")?;
    let output = myself("show")?
        .args(["one", "two words", ""])
        .env("OF_CASE", "value")
        .env_remove("PATH")
        .current_dir("inner")
        .output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let output = Command::new(env::current_exe()?).env_clear().env(ROLE, "show").arg0("another name").output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn a_child_that_cannot_be_started() -> CaseResult {
    show("no such program", Command::new("./nowhere").status().map(describe_status));
    show("no such command", Command::new("no-such-command-anywhere").status().map(describe_status));
    fs::write("text", "just text")?;
    show("not executable", Command::new("./text").status().map(describe_status));
    fs::set_permissions("text", fs::Permissions::from_mode(0o755))?;
    show("no format", Command::new("./text").status().map(describe_status));
    show("no such directory", myself("0")?.current_dir("nowhere").status().map(describe_status));
    Ok(())
}

fn a_child_is_killed() -> CaseResult {
    let mut child = myself("sleep")?.spawn()?;
    show("at first", child.try_wait().map(|status| format!("{:?}", status.map(describe_status))));
    child.kill()?;
    show("killed", child.wait().map(describe_status));
    show("again", child.wait().map(describe_status));
    show_ok("killing the dead", child.kill());
    Ok(())
}

fn children_in_a_row() -> CaseResult {
    let mut sum = 0;
    for number in 0..20 {
        sum += myself(&number.to_string())?.status()?.code().unwrap_or(1000);
    }
    say(sum);
    Ok(())
}

fn a_pipeline_of_three() -> CaseResult {
    let mut first = Command::new("/bin/sh").args(["-c", "printf 'c\\na\\nb\\n'"]).stdout(Stdio::piped()).spawn()?;
    let between = first.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let mut second = Command::new("sort").stdin(between).stdout(Stdio::piped()).spawn()?;
    let between = second.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let third = myself("echo")?.stdin(between).output()?;
    say(format!("{:?}", String::from_utf8_lossy(&third.stdout)));
    show("first", first.wait().map(describe_status));
    show("second", second.wait().map(describe_status));
    Ok(())
}

fn execution_in_place() -> CaseResult {
    say("before");
    show_ok::<()>("no such program", Err(Command::new("./nowhere").exec()));
    Err(myself("show")?.arg("in place").env("OF_CASE", "kept").exec())
}

fn a_panic_is_reported_and_aborts() -> CaseResult {
    let output = myself("index")?.output()?;
    let message = String::from_utf8_lossy(&output.stderr);
    say(message.lines().any(|line| line.contains("index out of bounds")));
    say(describe_status(output.status));
    Ok(())
}

fn an_anonymous_pipe() -> CaseResult {
    let (mut reader, mut writer) = io::pipe()?;
    writer.write_all(b"through a pipe")?;
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    say(text);
    let (reader, mut writer) = io::pipe()?;
    drop(reader);
    show("without a reader", writer.write(b"x"));
    Ok(())
}

fn time_passes() -> CaseResult {
    let (start, day) = (Instant::now(), SystemTime::now());
    std::thread::sleep(Duration::from_millis(30));
    say(start.elapsed() >= Duration::from_millis(30));
    say(day.elapsed().is_ok_and(|time| time >= Duration::from_millis(29)));
    say(day > UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    Ok(())
}

fn memory_grows_and_shrinks() -> CaseResult {
    let mut blocks: Vec<Vec<u64>> = Vec::new();
    for size in 0..200_u64 {
        blocks.push((0..size * 100).collect());
    }
    blocks.retain(|block| block.len() % 200 == 0);
    let large = vec![1_u8; 20 << 20];
    let sum: u64 = blocks.iter().flatten().sum::<u64>() + large.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    say(sum);
    drop(large);
    let mut growing = Vec::new();
    for number in 0..1_000_000_u32 {
        growing.push(number);
    }
    say(growing.iter().map(|&number| u64::from(number)).sum::<u64>());
    Ok(())
}

fn hash_maps_are_seeded_and_work() -> CaseResult {
    let map: HashMap<String, usize> = (0..1000).map(|number| (format!("key {number}"), number)).collect();
    say(map.get("key 500").copied().unwrap_or(0));
    say(map.values().sum::<usize>());
    let (one, other) = (RandomState::new(), RandomState::new());
    say(one.hash_one("text") != other.hash_one("text"));
    Ok(())
}

fn floating_point_is_exact() -> CaseResult {
    let values: Vec<f64> = (1..=20).map(|number| f64::from(number).sqrt().sin()).collect();
    say(format!("{:.15}", values.iter().sum::<f64>()));
    say(format!("{} {} {}", 0.1 + 0.2, f64::MAX, 1.0_f64 / 3.0));
    Ok(())
}

#[inline(never)]
fn recurse(depth: u64, limit: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == limit { frame[0] } else { recurse(depth + 1, limit) + frame[63] - depth }
}

fn deep_recursion_fits_the_stack() -> CaseResult {
    say(recurse(0, 5000));
    Ok(())
}

fn a_stack_overflow_kills() -> CaseResult {
    say(describe_status(myself("overflow")?.output()?.status));
    Ok(())
}

fn standard_streams_are_no_terminals() -> CaseResult {
    say(io::stdin().is_terminal());
    say(io::stdout().is_terminal());
    let mut nothing = String::new();
    show("input", io::stdin().read_line(&mut nothing));
    Ok(())
}
