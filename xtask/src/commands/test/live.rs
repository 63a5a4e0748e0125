//! Programs that are replaced in a guest that runs, while files on its disk are open.

use super::{Context, Counts};
use crate::build::{self, Artifacts, workspace};
use crate::guest::orders::Orders;
use crate::guest::{Console, Guest, LogLevel, MachineEnd, Root, Service};
use crate::image::{MEBIBYTE, Sizes};
use crate::options::{Addition, TestLength};
use crate::payload::Init;
use crate::process;
use crate::strip::without_sections;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a guest may take from its start to a prompt, and to anything else.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const PROMPT: &str = "# ";
/// How long a new image may be on its way at most. On a host that has nothing else to do, a driver's takes about a second.
const LIVE_TIMEOUT: Duration = Duration::from_secs(60);

/// The program that holds files open, and where it does.
const PROGRAM: &str = "held_files";
const GUEST_PROGRAM: &str = "/held_files";
const WORKERS: u32 = 3;
/// What has the driver that is built for this test say what it is, and what it says.
const LABEL: (&str, &str) = ("QUIRE_LABEL", "rebuilt");

/// The load, compiled for both systems.
pub(super) fn load(artifacts: &Artifacts) -> Result<PathBuf> {
    let program = artifacts.work_directory()?.join(PROGRAM);
    let source = workspace().join("posix-server/tests/disk").join(PROGRAM).with_extension("c");
    process::run(Command::new("musl-gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    Ok(program)
}

/// A rebuilt driver of the disk, the file server, the swap server and the console's driver are put live into a guest whose programs write and
/// read files all the time; so is what is no program, or none of the kind: the former goes on.
pub(super) fn replacement(context: &Context) -> Result<Counts> {
    let artifacts = context.posix()?;
    let rebuilt = rebuild(artifacts)?;
    let sizes = Sizes { root_bytes: 128 * MEBIBYTE, swap_bytes: 64 * MEBIBYTE };
    let additions = vec![Addition { host: load(artifacts)?, guest: GUEST_PROGRAM.to_owned() }];
    let guest = Guest { root: Root::Image(sizes), additions, service: Service::Line, ..context.guest() };
    let mut console = guest.console(artifacts, &Init::shell())?;
    console.expect(PROMPT, BOOT_TIMEOUT)?;
    let mut orders = console.orders()?;
    console.send_line(&format!("{GUEST_PROGRAM} /root {WORKERS} 600 &"))?;
    console.expect("held: ", ANSWER_TIMEOUT)?;
    let mut counts = Counts::default();
    counts.try_one("a rebuilt driver of the disk is put live", || {
        replace(&mut console, &mut orders, "virtio-blk", &rebuilt)?;
        let list = orders.list()?;
        let is_replaced = |line: &str| line.starts_with("virtio-blk") && line.contains("replaced");
        ensure!(list.lines().any(is_replaced), "the guest tells of\n{list}");
        ensure!(console.text().contains(LABEL.1), "the new driver does not say that it is");
        Ok(())
    });
    for name in ["files", "swap", "serial", "virtio-blk"] {
        counts.try_one(&format!("{name} is put live again"), || {
            replace(&mut console, &mut orders, name, &image(artifacts, name)?)
        });
    }
    for (what, bad) in
        [("what is no program", b"#!/bin/sh".to_vec()), ("another's program", image(artifacts, "serial")?)]
    {
        counts.try_one(&format!("{what} is refused, and the driver before goes on"), || {
            ensure!(orders.replace("virtio-blk", &bad).is_err(), "it was taken");
            wait_for_progress(&mut console)
        });
    }
    counts.try_one("files held open all the time are what they should be", || end(&mut console));
    Ok(counts)
}

/// Who is killed about once a second, and how long programs must not notice.
const STORM: [&str; 2] = ["kill=virtio-blk,files,serial", "kill_ms=1000"];
const STORM_SECONDS: u32 = 25;
const LONG_STORM_SECONDS: u32 = 600;

/// The disk's driver, the file server and the console's driver are killed again and again, as programs write and read files and the console. No call
/// fails, nothing that was written is lost, and the console shows every line once.
pub(super) fn crash_storm(context: &Context) -> Result<Counts> {
    let seconds = match context.length() {
        TestLength::Usual => STORM_SECONDS,
        TestLength::Long => LONG_STORM_SECONDS,
    };
    let artifacts = context.posix()?;
    let mut counts = Counts::default();
    counts.try_one("a storm of crashes", || storm(&loaded(context, artifacts, &STORM, seconds)?, artifacts, seconds));
    Ok(counts)
}

/// A driver that hangs, or that takes all the time of the processor, is ended, and programs notice only the delay.
pub(super) fn watchdog(context: &Context) -> Result<Counts> {
    const SECONDS: u32 = 30;
    let artifacts = context.posix()?;
    let mut counts = Counts::default();
    for words in [["hang=virtio-blk,files", "kill_ms=2000"], ["spin=virtio-blk,serial", "kill_ms=2000"]] {
        counts.try_one(words[0], || storm(&loaded(context, artifacts, &words, SECONDS)?, artifacts, SECONDS));
    }
    Ok(counts)
}

/// A guest with a disk and the load, to which the words have something happen.
fn loaded(context: &Context, artifacts: &Artifacts, words: &[&str], seconds: u32) -> Result<Guest> {
    let sizes = Sizes { root_bytes: 128 * MEBIBYTE, swap_bytes: 0 };
    let additions = vec![Addition { host: load(artifacts)?, guest: GUEST_PROGRAM.to_owned() }];
    Ok(Guest {
        root: Root::Image(sizes),
        additions,
        service: Service::Line,
        // What happens is told as warnings, and the console is to show what programs write.
        log: LogLevel::Off,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        timeout: Some(2 * Duration::from_secs(seconds.into()) + 2 * BOOT_TIMEOUT),
        ..context.guest()
    })
}

fn storm(guest: &Guest, artifacts: &Artifacts, seconds: u32) -> Result<()> {
    let mut console = guest.console(artifacts, &Init::shell())?;
    console.expect(PROMPT, BOOT_TIMEOUT)?;
    console.send_line(&format!("stty -echo; {GUEST_PROGRAM} /root {WORKERS} {seconds}"))?;
    let text = console.expect("held: over, ", Duration::from_secs((seconds + 60).into()))?;
    let errors = console.expect(" errors", ANSWER_TIMEOUT)?;
    check_lines(&text)?;
    text.lines().filter(|line| line.contains("calls took")).for_each(|line| println!("{line}"));
    print!("{}", console.orders()?.list()?);
    ensure!(errors == "0", "{errors} errors; the console:\n{text}");
    console.send_line("exit")?;
    match console.wait()? {
        MachineEnd::Clean => Ok(()),
        end @ (MachineEnd::Failure | MachineEnd::Reset | MachineEnd::Other(_)) => bail!("{end}"),
    }
}

/// All lines are there, whole, in order, and once.
fn check_lines(text: &str) -> Result<()> {
    const LETTERS: u32 = 60;
    let mut next = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let letters = |number: u32| (0..LETTERS).map(move |place| char::from(b'a' + ((number * 7 + place) % 26) as u8));
        if line == format!("line {next}: {}", letters(next).collect::<String>()) {
            next += 1;
        } else if !line.starts_with("held: ") && next > 0 {
            bail!("instead of line {next} the console shows {line:?}:\n{text}");
        }
    }
    ensure!(next > 0, "the console shows no lines:\n{text}");
    Ok(())
}

/// The disk's driver, built so that it says so. What others use is built as before.
fn rebuild(artifacts: &Artifacts) -> Result<Vec<u8>> {
    let began = Instant::now();
    build::guest_program_with("virtio-blk", &[LABEL])?;
    let took = began.elapsed();
    let rebuilt = image(artifacts, "virtio-blk");
    build::guest_program("virtio-blk")?;
    println!("the driver was built in {:.1} s", took.as_secs_f64());
    rebuilt
}

fn image(artifacts: &Artifacts, name: &str) -> Result<Vec<u8>> {
    let path = artifacts.bare_metal(name);
    Ok(without_sections(fs::read(&path).with_context(|| format!("can't read {}", path.display()))?))
}

fn replace(console: &mut Console, orders: &mut Orders, name: &str, image: &[u8]) -> Result<()> {
    let began = Instant::now();
    let text = orders.replace(name, image)?;
    let took = began.elapsed();
    println!("{text}; {} KiB, handed over and live in {:.2} s", image.len() >> 10, took.as_secs_f64());
    ensure!(took < LIVE_TIMEOUT, "that took too long");
    wait_for_progress(console)
}

/// The programs go on: they have done more than before.
fn wait_for_progress(console: &mut Console) -> Result<()> {
    console.skip();
    let first = rounds(console)?;
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    while rounds(console)? <= first {
        ensure!(Instant::now() < deadline, "nothing is written or read any more; the console:\n{}", console.text());
    }
    Ok(())
}

fn rounds(console: &mut Console) -> Result<u64> {
    console.expect("held: ", ANSWER_TIMEOUT)?;
    let rounds = console.expect(" rounds", ANSWER_TIMEOUT)?;
    rounds.parse().with_context(|| format!("{rounds:?} is no number of rounds"))
}

fn end(console: &mut Console) -> Result<()> {
    console.send_line("touch /root/stop; wait")?;
    let text = console.expect("held: over, ", ANSWER_TIMEOUT)?;
    let errors = console.expect(" errors", ANSWER_TIMEOUT)?;
    ensure!(errors == "0", "{errors} errors; the console:\n{text}");
    console.send_line("exit")?;
    match console.wait()? {
        MachineEnd::Clean => Ok(()),
        end @ (MachineEnd::Failure | MachineEnd::Reset | MachineEnd::Other(_)) => {
            bail!("{end}; the console:\n{}", console.text())
        }
    }
}
