//! Makes a running program of an image: a file in the boot archive, or what replaces it.

use alloc::format;
use alloc::string::String;
use boot_archive::{Archive, Content};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::startup::{Grant, MAGIC, MAX_ARGUMENTS, MAX_GRANTS, Purpose, Startup};
use quire_api::abi::system::AccountLimits;
use quire_api::abi::thread::{Registers, ThreadFlags};
use quire_api::{
    Account, AddressSpace, Commit, Error, HandleTable, MapFlags, Memory, Object, Protection, Rights, Thread, rt,
};
use supervisor::image::{Image, Segment};
use zerocopy::IntoBytes;

/// Where a program's first stack ends. Its last page holds the start-up record.
const STACK_END: u64 = 0x7fff_0000_0000;
/// The stack's size in bytes.
const STACK_BYTES: u64 = 1 << 20;

/// The instruction `jmp` with its own address.
const JUMP_TO_ITSELF: [u8; 2] = [0xeb, 0xfe];

/// What a program may do with its own account: use it, but not raise its limits.
const ACCOUNT_RIGHTS: Rights = Rights::USE.union(Rights::READ).union(Rights::DUPLICATE).union(Rights::TRANSFER);

/// The archive, as a memory to map and as bytes to read.
#[derive(Clone, Copy)]
pub(crate) struct Files {
    pub(crate) memory: &'static Memory,
    pub(crate) archive: Archive<'static>,
}

/// A program that is set up but does not run yet.
pub(crate) struct Program {
    name: &'static str,
    account: Account,
    thread: Thread,
    space: AddressSpace,
    table: HandleTable,
    entry: u64,
    grants: [Grant; MAX_GRANTS],
    grant_count: usize,
}

impl Program {
    /// Maps the program at `path` of the archive into a new space, on a new account with these limits. An error is a
    /// sentence that names the file.
    pub(crate) fn load(files: Files, path: &'static str, limits: &AccountLimits) -> Result<Self, String> {
        let entry = files.archive.find(path.as_bytes()).ok_or_else(|| format!("{path}: not in the boot archive"))?;
        let Content::File { offset, bytes } = entry.content() else {
            return Err(format!("{path}: not a file"));
        };
        if !entry.is_intact() {
            return Err(format!("{path}: damaged: its checksum does not match"));
        }
        let image = Image::parse(bytes).map_err(|error| format!("{path}: {error}"))?;
        Self::of_image(files.memory, offset, path, &image, limits)
            .map_err(|error| format!("{path}: can't be set up: {}", error.describe()))
    }

    /// Maps the program whose image begins at `file_offset` of a memory, and is called what `path` ends in.
    pub(crate) fn of_image(
        memory: &Memory,
        file_offset: u64,
        path: &'static str,
        image: &Image,
        limits: &AccountLimits,
    ) -> Result<Self, Error> {
        let account = rt::account()?.create_child(limits)?;
        let space = AddressSpace::create(&account)?;
        let table = HandleTable::create(&account)?;
        let mut commit = Commit::new();
        for segment in &image.segments {
            add_segment(&mut commit, memory, file_offset, segment);
        }
        let writable = Protection::READ | Protection::WRITE;
        commit.map_zero(STACK_END - STACK_BYTES, STACK_BYTES, writable, MapFlags::empty());
        space.commit(&commit)?;
        for segment in image.segments.iter().filter(|segment| segment.is_private()) {
            clear_tail(&space, segment)?;
        }
        let thread = Thread::create(&account, &space, &table, ThreadFlags::empty())?;
        let name = path.rsplit('/').next().unwrap_or(path);
        thread.set_name(name)?;
        let mut program = Self {
            name,
            account,
            thread,
            space,
            table,
            entry: image.entry,
            grants: [Grant::default(); MAX_GRANTS],
            grant_count: 0,
        };
        program.give_its_own()?;
        Ok(program)
    }

    /// Gives the program what every program has.
    fn give_its_own(&mut self) -> Result<(), Error> {
        let account = self.table.install(&self.account, ACCOUNT_RIGHTS)?;
        self.record(Purpose::ACCOUNT, account)?;
        let space = self.table.install(&self.space, Rights::all())?;
        self.record(Purpose::SPACE, space)?;
        let table = self.table.install(&self.table, Rights::all())?;
        self.record(Purpose::TABLE, table)?;
        let thread = self.table.install(&self.thread, Rights::all())?;
        self.record(Purpose::THREAD, thread)?;
        self.give(Purpose::LOG, rt::log()?, Rights::WRITE | Rights::DUPLICATE | Rights::TRANSFER)
    }

    /// Gives the program a handle to `object`, with those of its rights that `rights` names.
    pub(crate) fn give(&mut self, purpose: Purpose, object: &impl Object, rights: Rights) -> Result<(), Error> {
        let handle = self.table.install(object, rights)?;
        self.record(purpose, handle)
    }

    fn record(&mut self, purpose: Purpose, handle: quire_api::Handle) -> Result<(), Error> {
        let grant = self.grants.get_mut(self.grant_count).ok_or(Error::Full)?;
        *grant = Grant { purpose, handle };
        self.grant_count += 1;
        Ok(())
    }

    /// The program's name: the last part of its path.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The account that pays for it.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Its first thread.
    pub(crate) fn thread(&self) -> &Thread {
        &self.thread
    }

    /// Has the program do nothing but spin from now on, for tests of who notices.
    pub(crate) fn spin(&self) -> Result<(), Error> {
        let code = Memory::create(&self.account, PAGE_SIZE)?;
        code.write_all(0, &JUMP_TO_ITSELF)?;
        let mut commit = Commit::new();
        let executable = Protection::READ | Protection::EXECUTE;
        commit.map(&code, 0, 0, PAGE_SIZE, executable, MapFlags::FIND);
        let rip = self.space.commit(&commit)?.address;
        self.thread.suspend()?;
        self.thread.set_registers(&Registers { rip, ..self.thread.registers()? })?;
        self.thread.resume()
    }

    /// Starts the program with these arguments, cut to what fits.
    pub(crate) fn start(&self, arguments: &str) -> Result<(), Error> {
        let mut record = Startup {
            magic: MAGIC,
            grant_count: self.grant_count as u32,
            argument_bytes: arguments.len().min(MAX_ARGUMENTS) as u32,
            grants: self.grants,
            arguments: [0; MAX_ARGUMENTS],
        };
        for (to, from) in record.arguments.iter_mut().zip(arguments.as_bytes()) {
            *to = *from;
        }
        let record_address = STACK_END - PAGE_SIZE;
        self.space.write_all(record_address, record.as_bytes())?;
        self.thread.start(&Registers {
            rip: self.entry,
            rsp: record_address,
            rdi: record_address,
            ..Registers::default()
        })
    }
}

/// Maps a segment straight from the archive; a writable one privately, with zero pages after the file's.
fn add_segment(commit: &mut Commit, archive: &Memory, file_offset: u64, segment: &Segment) {
    let mapped = segment.mapped_bytes();
    let flags = if segment.is_private() { MapFlags::PRIVATE } else { MapFlags::empty() };
    if mapped > 0 {
        let offset = file_offset.saturating_add(segment.file_offset);
        commit.map(archive, offset, segment.address, mapped, segment.protection, flags);
    }
    if segment.memory_bytes > mapped {
        let address = segment.address + mapped;
        commit.map_zero(address, segment.memory_bytes - mapped, segment.protection, MapFlags::empty());
    }
}

/// Clears what follows a writable segment's bytes in its last page from the file.
fn clear_tail(space: &AddressSpace, segment: &Segment) -> Result<(), Error> {
    let zeros = [0; PAGE_SIZE as usize];
    let len = (segment.mapped_bytes() - segment.file_bytes) as usize;
    space.write_all(segment.address + segment.file_bytes, zeros.get(..len).unwrap_or_default())
}
