//! What is started, and with what.

use crate::devices;
use crate::disks::Disks;
use crate::filesystems::FileSystems;
use crate::loader::{Files, Program};
use crate::orders;
use crate::successors::{self, Legacy};
use crate::swap;
use crate::watch::Watcher;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use boot_archive::Archive;
use driver_protocol::{console, pages, purpose};
use log::{debug, error, info, warn};
use quire_api::abi::startup::Purpose;
use quire_api::abi::system::{AccountLimits, Shutdown};
use quire_api::account::UNLIMITED;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error, Executor, IoPorts, Memory, Object, Rights, system};
use supervisor::plan::{DriverUnderTest, OBJECT_TESTS, PAGER, POSIX_SERVER, Plan, SERIAL, UnknownTest};

/// The part of the machine's memory that the disk of the store of pages may take: one in so many frames.
const DISK_SHARE: u64 = 4;
/// Bytes of kernel memory for that disk.
const DISK_KERNEL_BYTES: u64 = 16 << 20;

/// A serial line of a PC: its first port and its interrupt.
struct SerialLine {
    first_port: u16,
    gsi: u32,
}

/// How many ports a 16550 has.
const UART_PORTS: u16 = 8;
/// The register of a 16550 that keeps what is written to it and does nothing else.
const UART_SCRATCH: u16 = 7;
/// COM1, the console.
const CONSOLE_LINE: SerialLine = SerialLine { first_port: 0x3f8, gsi: 4 };
/// COM2, the link to the host.
const HOST_LINE: SerialLine = SerialLine { first_port: 0x2f8, gsi: 3 };

/// The service line, on which the machine's owner has programs replaced: where COM3 is, with an interrupt of its own.
const SERVICE_LINE: SerialLine = SerialLine { first_port: 0x3e8, gsi: 5 };

/// What a driver may use: 8 MiB.
pub(crate) const DRIVER_LIMITS: AccountLimits = AccountLimits { frames: 2048, kernel_bytes: 1 << 20 };
/// Frames that stay with the supervisor and the drivers, whatever the posix-server does: 16 MiB.
const RESERVED_FRAMES: u64 = 4096;

/// What a driver may do with its device and its clients.
pub(crate) const DEVICE_RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::WAIT).union(Rights::DUPLICATE);
/// What a driver may do with the memory that outlives it.
pub(crate) const KEPT_RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::MAP);
/// What a server may do with the end of a channel that it serves.
pub(crate) const SERVE_RIGHTS: Rights = Rights::RECEIVE.union(Rights::WAIT);
/// What a client may do with its end of a channel.
pub(crate) const CLIENT_RIGHTS: Rights =
    Rights::SEND.union(Rights::WAIT).union(Rights::DUPLICATE).union(Rights::TRANSFER);
/// What the posix-server may do with the account for cached pages.
const CACHE_RIGHTS: Rights = Rights::READ.union(Rights::USE).union(Rights::DUPLICATE).union(Rights::TRANSFER);
/// What a program may do with the archive.
const ARCHIVE_RIGHTS: Rights =
    Rights::READ.union(Rights::MAP).union(Rights::EXECUTE).union(Rights::DUPLICATE).union(Rights::TRANSFER);

/// The priority of drivers: what they wait for is short and can't be put off.
pub(crate) const DRIVER_PRIORITY: u8 = 24;
/// The priority of servers, above that of the programs they serve.
const SERVER_PRIORITY: u8 = 20;

/// Starts everything, then watches it.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let watcher = Watcher {
        executor: Executor::new(rt::account()?)?,
        hardware: Rc::new(startup.take(Purpose::HARDWARE)?),
        programs: Rc::default(),
    };
    if let Err(reason) = start(&watcher, startup) {
        error!("{reason}");
        watcher.shut_down(Shutdown::Failure);
    }
    watcher.executor.block_on(core::future::pending())
}

/// Starts what the command line asks for. An error is a sentence for people.
fn start(watcher: &Watcher, startup: &Startup) -> Result<(), String> {
    let (memory, bytes) = rt::archive().map_err(|error| format!("the boot archive: {}", error.describe()))?;
    let archive = Archive::parse(bytes).map_err(|error| format!("the boot archive: {error}"))?;
    let files = Files { memory, archive };
    let plan = Plan::from_test(startup.argument("test"))
        .map_err(|UnknownTest(name)| format!("test={name}: there is no such test"))?;
    if let Some(line) = start_serial(watcher, files, &SERVICE_LINE, startup.arguments())? {
        orders::begin(watcher, line);
    }
    match plan {
        Plan::Posix => start_posix(watcher, files, startup.arguments()),
        Plan::Test => start_test(watcher, files, Lines::default(), Subject::None, startup.arguments()),
        Plan::TestWithDrivers => {
            let lines = start_lines(watcher, files, startup.arguments())?;
            start_test(watcher, files, lines, Subject::None, startup.arguments())
        }
        Plan::TestWithDisk => start_test_with_disk(watcher, files, startup),
        Plan::TestWithFiles => start_test_with_files(watcher, files, startup.arguments()),
        Plan::TestOfDriver => start_test_of_driver(watcher, files, startup),
    }
}

/// The clients' ends of the drivers' channels.
#[derive(Default)]
struct Lines {
    console: Option<ChannelEndpoint>,
    host_link: Option<ChannelEndpoint>,
    entropy: Option<ChannelEndpoint>,
    virtio_console: Option<ChannelEndpoint>,
}

impl Lines {
    fn give_to(&self, program: &mut Program) -> Result<(), Error> {
        let all = [
            (purpose::CONSOLE, &self.console),
            (purpose::HOST_LINK, &self.host_link),
            (purpose::ENTROPY, &self.entropy),
            (purpose::VIRTIO_CONSOLE, &self.virtio_console),
        ];
        for (purpose, line) in all {
            if let Some(line) = line {
                program.give(purpose, line, CLIENT_RIGHTS)?;
            }
        }
        Ok(())
    }
}

/// Starts a driver for each serial line that is there.
fn start_lines(watcher: &Watcher, files: Files, arguments: &str) -> Result<Lines, String> {
    let console = start_serial(watcher, files, &CONSOLE_LINE, arguments)?;
    let host_link = start_serial(watcher, files, &HOST_LINE, arguments)?;
    Ok(Lines { console, host_link, ..Lines::default() })
}

/// Starts the drivers and the posix-server.
fn start_posix(watcher: &Watcher, files: Files, arguments: &str) -> Result<(), String> {
    let mut lines = start_lines(watcher, files, arguments)?;
    let free_frames = system::system_info().map_or(u64::MAX, |info| info.free_frames);
    let pages = start_pager(watcher, files, free_frames / DISK_SHARE, arguments)?;
    let disks = Disks::new(&watcher.executor);
    let found = devices::begin(watcher, files, &disks, arguments);
    let found = found.map_err(|error| format!("PCI: {}", error.describe()))?;
    (lines.entropy, lines.virtio_console) = (found.entropy, found.console);
    if lines.console.is_none() && lines.virtio_console.is_none() {
        return Err(String::from("the console: there is no UART at COM1, and no other"));
    }
    let filesystems = FileSystems::new(watcher, files, &disks, arguments);
    let limits = AccountLimits { frames: free_frames.saturating_sub(RESERVED_FRAMES), kernel_bytes: u64::MAX };
    let mut server = Program::load(files, POSIX_SERVER, &limits)?;
    let failed = |error: Error| format!("{POSIX_SERVER}: can't be started: {}", error.describe());
    swap::begin(watcher, files, &disks, server.account().duplicate(Rights::all()).map_err(failed)?);
    hand_over(watcher, files, &mut server, &lines, &pages, &filesystems)
        .and_then(|()| launch(watcher, server, SERVER_PRIORITY, arguments))
        .map_err(failed)
}

/// Gives the posix-server what it needs.
fn hand_over(
    watcher: &Watcher,
    files: Files,
    server: &mut Program,
    lines: &Lines,
    pages: &ChannelEndpoint,
    filesystems: &Rc<FileSystems>,
) -> Result<(), Error> {
    server.give(Purpose::ARCHIVE, files.memory, ARCHIVE_RIGHTS)?;
    lines.give_to(server)?;
    server.give(purpose::PAGES, pages, CLIENT_RIGHTS)?;
    server.give(purpose::CACHE, &rt::account()?.create_child(&UNLIMITED)?, CACHE_RIGHTS)?;
    let supervisor = watcher.serve(rt::account()?, server.name(), Some(filesystems.clone()))?;
    server.give(Purpose::SUPERVISOR, &supervisor, CLIENT_RIGHTS)
}

/// Starts the store of pages, again whenever it ends, and returns the client's end of its channel.
fn start_pager(watcher: &Watcher, files: Files, disk_frames: u64, arguments: &str) -> Result<ChannelEndpoint, String> {
    let failed = |error: Error| format!("{PAGER}: {}", error.describe());
    let account = rt::account().map_err(failed)?;
    let limits = AccountLimits { frames: disk_frames, kernel_bytes: DISK_KERNEL_BYTES };
    let disk_account = account.create_child(&limits).map_err(failed)?;
    let disk = Memory::create(&disk_account, pages::MAX_FILES * pages::MAX_FILE_BYTES).map_err(failed)?;
    let (server_end, client_end) = ChannelEndpoint::pair(account).map_err(failed)?;
    let ends = successors::only_end(&server_end).map_err(failed)?;
    let hand_over = Box::new(move |program: &mut Program| {
        program.give(purpose::SERVE, &server_end, SERVE_RIGHTS)?;
        program.give(purpose::DISK, &disk, DEVICE_RIGHTS)
    });
    let (arguments, is_finished) = (String::from(arguments), Rc::default());
    let legacy =
        Legacy { path: PAGER, limits: DRIVER_LIMITS, hand_over, ends, arguments, is_finished, dies_on_request: true };
    successors::keep_alive(watcher, files, legacy).map(|_| client_end)
}

/// Starts a driver for a serial line and returns the client's end of its channel; `None` if there is no UART.
fn start_serial(
    watcher: &Watcher,
    files: Files,
    line: &SerialLine,
    arguments: &str,
) -> Result<Option<ChannelEndpoint>, String> {
    let failed = |error: Error| format!("{SERIAL} for port {:#x}: {}", line.first_port, error.describe());
    let account = rt::account().map_err(failed)?;
    let ports = watcher.hardware.io_ports(account, line.first_port, UART_PORTS).map_err(failed)?;
    if !is_uart(&ports) {
        debug!("no UART at {:#x}", line.first_port);
        return Ok(None);
    }
    let interrupt = watcher.hardware.interrupt(account, line.gsi).map_err(failed)?;
    let (server_end, client_end) = ChannelEndpoint::pair(account).map_err(failed)?;
    let ends = successors::only_end(&server_end).map_err(failed)?;
    let kept = kept_memory().map_err(failed)?;
    let hand_over = Box::new(move |program: &mut Program| {
        program.give(purpose::PORTS, &ports, DEVICE_RIGHTS)?;
        program.give(purpose::INTERRUPT, &interrupt, DEVICE_RIGHTS)?;
        program.give(purpose::KEPT, &kept, KEPT_RIGHTS)?;
        program.give(purpose::SERVE, &server_end, SERVE_RIGHTS)
    });
    let (arguments, is_finished) = (String::from(arguments), Rc::default());
    let legacy =
        Legacy { path: SERIAL, limits: DRIVER_LIMITS, hand_over, ends, arguments, is_finished, dies_on_request: false };
    successors::keep_alive(watcher, files, legacy).map(|_| Some(client_end))
}

/// Memory for the drivers of a console, which outlives them.
pub(crate) fn kept_memory() -> Result<Memory, Error> {
    Memory::create(rt::account()?, console::KEPT_BYTES)
}

/// Whether a UART answers: where there is none, all reads give the same value.
fn is_uart(ports: &IoPorts) -> bool {
    [0x5a_u32, 0xa5].into_iter().all(|value| {
        ports.write(UART_SCRATCH, 1, value).is_ok() && ports.read(UART_SCRATCH, 1).is_ok_and(|read| read == value)
    })
}

/// Starts the object tests when the first disk is known.
fn start_test_with_disk(watcher: &Watcher, files: Files, startup: &Startup) -> Result<(), String> {
    let disks = Disks::new(&watcher.executor);
    let arguments = String::from(startup.arguments());
    devices::begin(watcher, files, &disks, &arguments).map_err(|error| format!("PCI: {}", error.describe()))?;
    let watcher = watcher.clone();
    watcher.executor.clone().spawn(async move {
        disks.ready().await;
        let name = disks.list().first().map(|disk| disk.name);
        let opened = match name {
            Some(name) => disks.open(name, true).await.map_err(|refusal| format!("{refusal:?}")),
            None => Err(String::from("there is no disk")),
        };
        let started = opened.and_then(|disk| {
            start_test(&watcher, files, Lines::default(), Subject::Channel(purpose::BLOCK, disk), &arguments)
        });
        if let Err(reason) = started {
            error!("{OBJECT_TESTS}: {reason}");
            watcher.shut_down(Shutdown::Failure);
        }
    });
    Ok(())
}

/// Starts a driver, and the test of it.
fn start_test_of_driver(watcher: &Watcher, files: Files, startup: &Startup) -> Result<(), String> {
    let value = startup.argument("driver").unwrap_or_default();
    let driver = DriverUnderTest::parse(value).ok_or_else(|| format!("driver={value}: not NAME:VENDOR:DEVICE"))?;
    let channel = devices::begin_test(watcher, files, driver, startup.arguments())?;
    start_test(watcher, files, Lines::default(), Subject::Channel(purpose::DRIVER, channel), startup.arguments())
}

/// Starts the object tests, which ask for file servers.
fn start_test_with_files(watcher: &Watcher, files: Files, arguments: &str) -> Result<(), String> {
    let disks = Disks::new(&watcher.executor);
    devices::begin(watcher, files, &disks, arguments).map_err(|error| format!("PCI: {}", error.describe()))?;
    let filesystems = FileSystems::new(watcher, files, &disks, arguments);
    start_test(watcher, files, Lines::default(), Subject::Files(filesystems), arguments)
}

/// What a test is about, besides the kernel.
enum Subject {
    None,
    /// What is behind a channel.
    Channel(Purpose, ChannelEndpoint),
    /// File servers, if it asks for them.
    Files(Rc<FileSystems>),
}

/// Starts the object tests, which end the machine themselves.
fn start_test(watcher: &Watcher, files: Files, lines: Lines, subject: Subject, arguments: &str) -> Result<(), String> {
    let failed = |error: Error| format!("{OBJECT_TESTS}: can't be started: {}", error.describe());
    let mut tests = Program::load(files, OBJECT_TESTS, &UNLIMITED)?;
    let (channel, filesystems) = match subject {
        Subject::None => (None, None),
        Subject::Channel(purpose, channel) => (Some((purpose, channel)), None),
        Subject::Files(filesystems) => (None, Some(filesystems)),
    };
    let account = rt::account().map_err(failed)?;
    let supervisor = watcher.serve(account, tests.name(), filesystems).map_err(failed)?;
    tests
        .give(Purpose::SUPERVISOR, &supervisor, CLIENT_RIGHTS)
        .and_then(|()| tests.give(Purpose::HARDWARE, &*watcher.hardware, Rights::all()))
        .and_then(|()| tests.give(Purpose::ARCHIVE, files.memory, ARCHIVE_RIGHTS))
        .and_then(|()| lines.give_to(&mut tests))
        .and_then(|()| channel.map_or(Ok(()), |(purpose, channel)| tests.give(purpose, &channel, CLIENT_RIGHTS)))
        .and_then(|()| launch(watcher, tests, SERVER_PRIORITY, arguments))
        .map_err(failed)
}

/// Runs a program that has all it needs, and watches it.
fn launch(watcher: &Watcher, program: Program, priority: u8, arguments: &str) -> Result<(), Error> {
    prepare(&program, priority)?;
    watcher.start(program, rt::account()?, arguments)
}

/// Gives a program its priority.
pub(crate) fn prepare(program: &Program, priority: u8) -> Result<(), Error> {
    match program.thread().set_priority(priority) {
        Ok(()) => {}
        // The supervisor can't give more than it has itself.
        Err(Error::MissingRights) => warn!("{}: stays at the ordinary priority", program.name()),
        Err(error) => return Err(error),
    }
    info!("starting {}", program.name());
    Ok(())
}
