//! The start of the server in the guest.

use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use boot_archive::init::{Init, PATH as INIT_PATH, Stdio, Tracing};
use boot_archive::{Archive, Content};
use driver_protocol::purpose;
use log::{error, info};
use posix_protocol::host_link::ExitStatus as LinkStatus;
use posix_server::cred::Credentials;
use posix_server::dev::HardwareRandom;
use posix_server::errno::Errno;
use posix_server::exec::shim_image::ShimImage;
use posix_server::exec::stack::Strings;
use posix_server::exec::{Executor as Caller, Program, SetIds, prepare};
use posix_server::fs::boot::MachineTerminal;
use posix_server::fs::diskfs::Disks;
use posix_server::fs::pagerfs::Store;
use posix_server::fs::{Namespace, boot};
use posix_server::host_link::HostLink;
use posix_server::platform::{
    self, Account, Ending, EntropyChannel, Executor, Line, Memory, PageChannel, SupervisorDisks,
};
use posix_server::process::limits::DEFAULT_STACK_BYTES;
use posix_server::process::server::{Parts, Server};
use posix_server::process::tree::ExitStatus;
use posix_server::process::{FirstProcess, start_first};
use posix_server::random;
use posix_server::trace::Trace;
use posix_server::tty::Terminal;
use posix_server::tty::serial::{self, ByteStream};
use posix_server::tty::settings::WindowSize;
use quire_api::abi::startup::Purpose;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error};

/// The paths of the shim and the vDSO in the archive.
const SHIM_PATH: &[u8] = b"boot/mlibc-shim";
const VDSO_PATH: &[u8] = b"boot/mlibc-vdso";
/// The most frames that one process may use: all but a fourth of what there is, so that others go on working beside it.
const PROCESS_SHARE: (u64, u64) = (3, 4);
/// How many processes there may be, for each MiB of memory, and at most.
const PROCESSES_PER_MIB: u64 = 4;
const MAX_PROCESSES: u64 = 4096;

/// What the server was given, for the moment of its end.
struct End {
    executor: quire_api::Executor,
    supervisor: Rc<ChannelEndpoint>,
    disks: Option<Rc<Disks>>,
    console: Line,
    terminal: Option<Rc<Terminal>>,
    link: Option<Rc<HostLink>>,
}

/// The channels that the server was given besides those that it needs to the end.
struct Channels {
    host: Option<Line>,
    pages: Option<PageChannel>,
    entropy: Option<EntropyChannel>,
    /// The machine's terminals: first the one that is the console.
    consoles: Vec<(MachineTerminal, Line)>,
}

impl Channels {
    fn take(executor: &quire_api::Executor, startup: &Startup) -> Self {
        let channel = |purpose| startup.take::<ChannelEndpoint>(purpose).ok();
        let all = [(MachineTerminal::Serial, purpose::CONSOLE), (MachineTerminal::Virtio, purpose::VIRTIO_CONSOLE)];
        let found = all.into_iter().filter_map(|(terminal, purpose)| Some((terminal, channel(purpose)?)));
        let mut consoles: Vec<_> = found.map(|(terminal, channel)| (terminal, Line::new(executor, channel))).collect();
        // The last that the command line names, as on Linux (`console=hvc0`, `console=ttyS0,115200`).
        let is_named = |(terminal, _): &(MachineTerminal, Line)| {
            let name = values(startup.arguments(), "console").last().unwrap_or_default();
            name.split(',').next() == Some(terminal.name())
        };
        consoles.sort_by_key(|console| !is_named(console));
        Self {
            host: channel(purpose::HOST_LINK).map(|channel| Line::new(executor, channel)),
            pages: channel(purpose::PAGES).map(|channel| PageChannel::new(executor, channel)),
            entropy: channel(purpose::ENTROPY).map(|channel| EntropyChannel::new(executor, channel)),
            consoles,
        }
    }
}

/// Starts the first process and serves for ever.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = quire_api::Executor::new(rt::account()?)?;
    platform::initialize(rt::account()?, startup.take(purpose::CACHE)?)?;
    let supervisor = Rc::new(startup.take(Purpose::SUPERVISOR)?);
    let channels = Channels::take(&executor, startup);
    let console = channels.consoles.first().map(|(_, line)| line.clone()).ok_or(Error::NotFound)?;
    let end = End { executor: executor.clone(), supervisor, disks: None, console, terminal: None, link: None };
    executor.spawn(async move {
        if let Err((reason, end)) = start(end, channels, startup.arguments()).await {
            error!("{reason}");
            if let Some(disks) = &end.disks {
                // The machine ends with a failure anyway.
                let _ = disks.close().await;
            }
            platform::shut_down(&end.executor, &end.supervisor, Ending::Failure).await;
        }
    });
    executor.block_on(core::future::pending())
}

/// Starts the first process; what can't be done is said, and the machine ends.
async fn start(mut end: End, channels: Channels, words: &str) -> Result<(), (String, End)> {
    match boot_up(&mut end, channels, words).await {
        Ok(server) => {
            let callback = alloc::boxed::Box::new(move |status| finish(end, status));
            server.on_end.replace(Some(callback));
            // The tasks that serve the threads keep the server.
            Ok(())
        }
        Err(reason) => Err((reason, end)),
    }
}

async fn boot_up(end: &mut End, channels: Channels, words: &str) -> Result<Rc<Server>, String> {
    let (archive_memory, bytes) = rt::archive().map_err(|error| format!("the boot archive: {}", error.describe()))?;
    let archive = Archive::parse(bytes).map_err(|error| format!("the boot archive: {error}"))?;
    let view = Rc::new(move |offset, length| Memory::view(archive_memory, offset, length));
    let part = |path| {
        file(&archive, path)
            .and_then(|(offset, bytes)| view(offset, bytes.len() as u64).map_err(|error| error.to_string()))
            .map_err(|error| format!("{}: {error}", String::from_utf8_lossy(path)))
    };
    let shim = ShimImage::new(&part(SHIM_PATH)?, &part(VDSO_PATH)?)
        .map_err(|error| format!("the shim and the vDSO: {error}"))?;
    let (_, record) = file(&archive, INIT_PATH).map_err(|error| format!("boot/init: {error}"))?;
    let init = Init::decode(record).map_err(|error| format!("boot/init: {error}"))?;
    let (frames, _) = platform::frames();
    let executor = Executor::new(&end.executor);
    let disks = find_disks(end, &executor).await.map_err(|error| format!("the disks: {error}"))?;
    let namespace = root(&executor, &disks, words, &archive, &(view as boot::ArchiveMemory)).await?;
    let server = Server::new(Parts {
        executor,
        namespace,
        shim,
        process_frames: frames / PROCESS_SHARE.1 * PROCESS_SHARE.0,
        max_processes: (frames / 256 * PROCESSES_PER_MIB).min(MAX_PROCESSES),
    });
    // It is set once.
    let _ = server.disks.set(disks);
    if let Some(source) = channels.entropy {
        let source: Rc<dyn random::Source> = Rc::new(source);
        random::attach(&server.executor, source.clone());
        server.namespace.devices().set_hardware_random(HardwareRandom::new(&server.executor, source));
    }
    start_store(&server, channels.pages).map_err(|error| format!("the store of pages: {error}"))?;
    start_init(end, (channels.host, channels.consoles), &server, &init, words).await?;
    Ok(server)
}

/// The disks that the supervisor knows.
async fn find_disks(end: &mut End, executor: &Executor) -> Result<Rc<Disks>, Errno> {
    let source = SupervisorDisks::new(&end.executor, &end.supervisor);
    let list = source.list().await;
    let disks = Disks::new(executor, Box::new(source), list, Account::for_cache()?);
    end.disks = Some(disks.clone());
    Ok(disks)
}

/// The values of a word of the command line, which may come several times.
fn values<'a>(words: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    words.split(' ').filter_map(move |word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Whether disks that the command line names are not to be written (`ro`).
fn is_read_only(words: &str) -> bool {
    words.split(' ').any(|word| word == "ro")
}

/// The name space: the boot archive's tree, or the disk that the command line names (`root=`).
async fn root(
    executor: &Executor,
    disks: &Rc<Disks>,
    words: &str,
    archive: &Archive<'_>,
    memory: &boot::ArchiveMemory,
) -> Result<Rc<Namespace>, String> {
    let Some(name) = values(words, "root").last() else {
        return boot::root(archive, memory).map_err(|error| error.to_string());
    };
    let tree = boot::archive_tree(archive, memory).map_err(|error| error.to_string())?;
    boot::disk_root(executor, disks, name.as_bytes(), is_read_only(words), tree)
        .await
        .map_err(|error| format!("the root on {name}: {error}"))
}

/// Mounts the disks that the command line names (`mount=DEVICE:DIRECTORY`).
async fn mount_disks(server: &Rc<Server>, words: &str) -> Result<(), String> {
    for value in values(words, "mount") {
        let (disk, directory) = value.split_once(':').ok_or_else(|| format!("mount={value}: there is no directory"))?;
        boot::mount_disk_at(server, disk.as_bytes(), directory.as_bytes(), is_read_only(words))
            .await
            .map_err(|error| format!("{disk} on {directory}: {error}"))?;
    }
    Ok(())
}

/// Lets programs use the store of pages, if there is one.
fn start_store(server: &Server, pages: Option<PageChannel>) -> Result<(), posix_server::errno::Errno> {
    let Some(pages) = pages else { return Ok(()) };
    let payer = Account::for_cache()?;
    let store = Store::new(&server.executor, Rc::new(pages), payer)?;
    // It is started once.
    let _ = server.page_store.set(store);
    Ok(())
}

/// A file of the archive: where it begins, and its bytes.
fn file<'a>(archive: &Archive<'a>, path: &[u8]) -> Result<(u64, &'a [u8]), String> {
    let entry = archive.find(path).ok_or("it is not in the boot archive")?;
    match entry.content() {
        Content::File { offset, bytes } => Ok((offset, bytes)),
        Content::Directory | Content::Symlink(_) => Err(String::from("it is no file")),
    }
}

async fn start_init(
    end: &mut End,
    (host, consoles): (Option<Line>, Vec<(MachineTerminal, Line)>),
    server: &Rc<Server>,
    init: &Init<'_>,
    words: &str,
) -> Result<(), String> {
    let failed = |what: &str| {
        let what = String::from(what);
        move |error: posix_server::errno::Errno| format!("{what}: {error}")
    };
    let kinds: Vec<_> = consoles.iter().map(|(terminal, _)| *terminal).collect();
    let terminals = boot::mount_system(server, &kinds).map_err(failed("/dev and /proc"))?;
    let terminal = terminals.first().cloned().ok_or("there is no console")?;
    mount_disks(server, words).await?;
    for (terminal, (_, line)) in terminals.iter().zip(consoles) {
        let line: Rc<dyn ByteStream> = Rc::new(line);
        serial::attach(&server.executor, terminal, &line);
    }
    end.terminal = Some(terminal.clone());
    if let Some((rows, columns)) = init.console_size() {
        terminal.set_window(WindowSize { rows, columns, ..WindowSize::default() });
    }
    let (executor, namespace) = (&server.executor, &server.namespace);
    let directory = init.directory;
    if namespace.root().inode().filesystem().volume().is_some() {
        let made = boot::make_directory(executor, namespace, directory, 0o755).await;
        made.map_err(failed("the first directory"))?;
    }
    let context = boot::persistently(executor, || boot::first_context(namespace, directory)).await;
    let context = context.map_err(failed("the first directory"))?;
    let files = match init.stdio {
        Stdio::Console => boot::console_files(&server.namespace, &terminal).map_err(failed("/dev/console"))?,
        Stdio::HostLink => {
            let link = HostLink::new();
            let line: Rc<dyn ByteStream> = Rc::new(host.ok_or("there is no second serial port for the host link")?);
            link.attach(&server.executor, &line);
            end.link = Some(link.clone());
            if init.trace == Tracing::On && server.trace.set(Trace::new(link.clone())).is_err() {
                return Err(String::from("the trace was started twice"));
            }
            boot::link_files(&server.namespace, &link).map_err(failed("the host link"))?
        }
    };
    let credentials = Credentials::root();
    let account = Account::for_process(server.process_frames).map_err(failed("the first account"))?;
    let name = String::from_utf8_lossy(init.program()).into_owned();
    let strings = || Strings {
        arguments: init.arguments().map(<[u8]>::to_vec).collect::<Vec<_>>(),
        environment: init.environment().map(<[u8]>::to_vec).collect(),
    };
    let caller = Caller { context: &context, credentials: &credentials, set_ids: SetIds::Honoured };
    let prepared = boot::persistently(executor, || {
        Program::open(caller, init.program(), strings(), DEFAULT_STACK_BYTES)
            .and_then(|program| prepare(program, caller, &account, &server.shim, DEFAULT_STACK_BYTES))
    });
    let prepared = prepared.await.map_err(failed(&name))?;
    let first = FirstProcess { files, fs: context.clone(), credentials: credentials.clone(), account, prepared };
    let process = start_first(server, first).map_err(failed(&name))?;
    if init.stdio == Stdio::Console {
        process.is_immune.set(true);
        boot::give_console(server, &terminal, process.pid);
    }
    info!("started {name}");
    Ok(())
}

/// The first process has ended: the host is told, the lines are let run dry, the machine ends.
fn finish(end: End, status: ExitStatus) {
    let executor = end.executor.clone();
    executor.spawn(async move {
        let link_status = match status {
            ExitStatus::Exited(code) => LinkStatus::Code(code),
            ExitStatus::Killed { signal, .. } => LinkStatus::Signal(signal.number()),
        };
        if let Some(link) = &end.link {
            link.send_exit(link_status);
            link.drained().await;
        }
        if let Some(terminal) = &end.terminal {
            terminal.release_output();
            terminal.drained().await;
        }
        if let Some(disks) = &end.disks
            && let Err(errno) = disks.close().await
        {
            error!("what was stored is not all on the disks: {errno}");
        }
        end.console.drain().await;
        let ending = match status {
            // A shell that somebody left has the status of its last command; the machine itself did well.
            ExitStatus::Exited(_) => Ending::Success,
            // With a link the host knows the status.
            ExitStatus::Killed { .. } if end.link.is_some() => Ending::Success,
            ExitStatus::Killed { .. } => Ending::Failure,
        };
        platform::shut_down(&end.executor, &end.supervisor, ending).await;
    });
}
