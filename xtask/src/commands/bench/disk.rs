//! `cargo xtask bench --disk`: reading and writing an ext4 file system on a virtio disk, on Linux and on Quire, on copies of the same image.
//!
//! By the clock, because the device works while the processor waits, and instructions say nothing then. What is in memory already is
//! measured by instructions, too.

use super::table::{self, Comparison, Row, Sides};
use super::{TIMEOUT, measuring_guest};
use crate::build::{Artifacts, workspace};
use crate::guest::{Changes, CpuClock, Disk, Ending, Guest, Input, Machine, Media, Ports, Program, Stream};
use crate::image::{MEBIBYTE, Volume};
use crate::linux_kernel;
use crate::options::Addition;
use crate::process;
use crate::progress::{Step, note};
use crate::tree::Tree;
use anyhow::{Context as _, Result, bail};
use boot_archive::Metadata;
use std::path::PathBuf;
use std::process::Command;

/// The size of the file system, and of each of the two files in it.
const VOLUME_BYTES: u64 = 256 * MEBIBYTE;
const FILE_BYTES: usize = 32 << 20;
/// Where it is mounted.
const DIRECTORY: &str = "/mnt";
const GUEST_PROGRAM: &str = "/disk";
/// What has nothing to do with the device.
const IN_MEMORY: [&str; 3] = ["seqcached", "randcached", "cachedwrite"];

/// The program, and the image.
struct Bench {
    program: PathBuf,
    volume: Volume,
    _directory: tempfile::TempDir,
}

/// Measures.
pub(super) fn compare(artifacts: &Artifacts, boots: u32) -> Result<Comparison> {
    let bench = prepare(artifacts)?;
    let mut comparison = Comparison::default();
    for boot in 1..=boots {
        let step = Step::begin(format!("measuring the disk on Linux and on Quire (boot {boot} of {boots})"));
        bench.measure(artifacts, CpuClock::Measured, &mut comparison.wall, |_| true)?;
        step.done();
    }
    let step = Step::begin("counting instructions");
    let is_in_memory = |row: &Row| IN_MEMORY.contains(&row.name.as_str());
    bench.measure(artifacts, CpuClock::Instructions, &mut comparison.instructions, is_in_memory)?;
    step.done();
    Ok(comparison)
}

fn prepare(artifacts: &Artifacts) -> Result<Bench> {
    const MODE: u32 = 0o644;
    let program = artifacts.work_directory()?.join("disk");
    let source = workspace().join("posix-server/tests/bench/disk.c");
    process::run(Command::new("musl-gcc").args(["-static", "-O2", "-o"]).arg(&program).arg(source))?;
    let directory = tempfile::Builder::new().prefix("quire-").tempdir().context("can't make a temporary directory")?;
    let volume = Volume { file: directory.path().join("volume"), offset: 0 };
    let mut tree = Tree::default();
    for name in ["/sequential", "/random"] {
        tree.file(name, Metadata::of_root(MODE), vec![b'q'; FILE_BYTES]);
    }
    volume.make(VOLUME_BYTES, &tree)?;
    Ok(Bench { program, volume, _directory: directory })
}

impl Bench {
    fn measure(
        &self,
        artifacts: &Artifacts,
        clock: CpuClock,
        sides: &mut Sides,
        wanted: impl Fn(&Row) -> bool,
    ) -> Result<()> {
        let disk = Disk { changes: Changes::Lost, mount: Some(DIRECTORY.to_owned()), ..Disk::kept(&self.volume.file) };
        let guest = measuring_guest(clock);
        let keep = |rows: Vec<Row>| rows.into_iter().filter(&wanted).collect();
        sides.linux.add(keep(self.on_linux(artifacts, &guest, &disk)?));
        sides.quire.add(keep(self.on_quire(artifacts, &Guest { disks: vec![disk], ..guest })?));
        Ok(())
    }

    fn on_linux(&self, artifacts: &Artifacts, guest: &Guest, disk: &Disk) -> Result<Vec<Row>> {
        let kernel = linux_kernel::provide(artifacts)?;
        let mut files = linux_kernel::disk_modules(artifacts)?;
        files.push(Addition { host: self.program.clone(), guest: GUEST_PROGRAM.to_owned() });
        let script = format!(
            "/bin/busybox mount -t ext4 /dev/vda {DIRECTORY} && {GUEST_PROGRAM} {DIRECTORY}; /bin/busybox umount {DIRECTORY}"
        );
        let initrd = linux_kernel::initial_file_system(&files, &script)?;
        let mut media = Media::with_kernel(kernel, &initrd, linux_kernel::COMMAND_LINE.to_owned())?;
        media.attach(std::slice::from_ref(disk))?;
        let mut machine = Machine::start(guest, &media, Ports::Console)?;
        if machine.wait()?.is_none() {
            note(&format!("Linux did not end within {TIMEOUT:?}; what it measured until then follows"));
        }
        let rows = table::parse("Linux", &machine.log().text());
        if rows.is_empty() {
            bail!("Linux measured nothing; its console:\n{}", machine.log().text());
        }
        Ok(rows)
    }

    fn on_quire(&self, artifacts: &Artifacts, guest: &Guest) -> Result<Vec<Row>> {
        let program = Program::of_host(&self.program, &[DIRECTORY.to_owned()])?;
        let mut output = Vec::new();
        let mut sink = |stream, bytes: &[u8]| {
            if stream == Stream::Output {
                output.extend_from_slice(bytes);
            }
            Ok(())
        };
        let finished = guest.exec(artifacts, &program, Input::Bytes(Vec::new()), &mut sink)?;
        match finished.ending {
            Ending::Program(_) => {}
            Ending::TimedOut | Ending::Died(_) => {
                note(&format!("Quire: {:?}; what was measured until then follows\n{}", finished.ending, finished.tail));
            }
        }
        Ok(table::parse("Quire", &String::from_utf8_lossy(&output)))
    }
}
