//! The service: fills and writebacks, in the order in which they are due.
//!
//! 1. A request that a file's pager has taken becomes a [`Job`], due when the delay is over. Many are under way at once.
//! 2. [`Service::work`] does those that are due: reads from the disk and supplies, or stores on the disk and says that it is
//!    written. What can't be done is failed at once, so that nobody waits for it.
//! 3. The [`Setting`]s decide what goes wrong instead. They lie in memory that the client has too, and are looked at for each job:
//!    what counts down or happens once is noted there *before* it happens, so that a successor does not die of it again.
//!
//! Nothing here needs to survive: what was taken and not done is asked of the successor again, and all else is told it by the
//! client.

use alloc::collections::BTreeMap;
use driver_protocol::pages::{Death, Setting};

const NS_PER_MS: u64 = 1_000_000;
/// So many bytes are read ahead at most.
const MAX_AHEAD_BYTES: u64 = 256 << 10;
const PAGE_BYTES: u64 = 4096;

/// Nothing can be done with the range, or with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Whether the service takes the requests of a file's pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attendance {
    /// It does.
    Present,
    /// It does not: nobody does.
    Absent,
}

/// A file: a part of the disk, and the pager of the memory in which others have its pages. Ranges are whole pages.
pub trait File {
    /// Begins or ends to take the requests of its pager.
    fn attend(&mut self, attendance: Attendance);

    /// Reads from the disk and supplies.
    fn fill(&self, offset: u64, len_bytes: u64) -> Result<(), Failed>;

    /// Reads from the disk, and no more.
    fn read(&self, offset: u64, len_bytes: u64) -> Result<(), Failed>;

    /// Stores on the disk.
    fn store(&self, offset: u64, len_bytes: u64) -> Result<(), Failed>;

    /// Says that a range has been written back.
    fn written(&self, offset: u64, len_bytes: u64);

    /// Says that what was asked for can't be done.
    fn fail(&self, offset: u64, len_bytes: u64);
}

/// The settings, where the client can change them.
pub trait Settings {
    /// What is set; 0 if that can't be read.
    fn get(&self, setting: Setting) -> u64;

    /// Sets it.
    fn set(&self, setting: Setting, value: u64);
}

/// What a pager is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To supply, and perhaps so many bytes more after the range.
    Fill {
        /// The bytes that are likely to be needed next.
        ahead_bytes: u64,
    },
    /// To write back.
    Writeback,
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The file's number.
    pub number: u64,
    /// What is to be done.
    pub kind: Kind,
    /// Where the range starts, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len_bytes: u64,
}

/// When there is something to do again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something happens.
    AtEvent,
    /// At this time at the latest, in ns.
    At(u64),
    /// Never: the program is to end here, without a word.
    Dead,
}

/// Whether the service goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    Dead,
}

/// The moments of a job at which the service may be told to die.
struct Moments {
    before: Death,
    during: Death,
    after: Death,
}

impl Kind {
    const fn moments(self) -> Moments {
        match self {
            Self::Fill { .. } => {
                Moments { before: Death::BeforeFill, during: Death::DuringFill, after: Death::AfterFill }
            }
            Self::Writeback => {
                Moments { before: Death::BeforeWriteback, during: Death::DuringWriteback, after: Death::AfterWriteback }
            }
        }
    }

    /// Which settings make it fail: the number that counts down, and the rate.
    const fn failures(self) -> (Setting, Setting) {
        match self {
            Self::Fill { .. } => (Setting::FailFills, Setting::FillFailures),
            Self::Writeback => (Setting::FailWritebacks, Setting::WritebackFailures),
        }
    }

    /// Where it is counted: how many, and how many bytes.
    const fn counts(self) -> (Setting, Setting) {
        match self {
            Self::Fill { .. } => (Setting::Fills, Setting::FilledBytes),
            Self::Writeback => (Setting::Writebacks, Setting::WrittenBytes),
        }
    }
}

/// All files, and what is to be done for them.
#[derive(Debug)]
pub struct Service<F, S> {
    files: BTreeMap<u64, F>,
    settings: Option<S>,
    /// By the time at which they are due, then in the order in which they came.
    jobs: BTreeMap<(u64, u64), Job>,
    next_job: u64,
    chance: u64,
}

impl<F: File, S: Settings> Service<F, S> {
    /// A service without files. `seed` decides which jobs fail where a part of them is to.
    pub fn new(seed: u64) -> Self {
        Self { files: BTreeMap::new(), settings: None, jobs: BTreeMap::new(), next_job: 0, chance: seed | 1 }
    }

    /// Obeys these settings from now on.
    pub fn attach(&mut self, settings: S) {
        settings.set(Setting::Servers, settings.get(Setting::Servers).saturating_add(1));
        self.settings = Some(settings);
        self.look();
    }

    /// The settings have changed.
    pub fn look(&mut self) {
        let attendance = self.attendance();
        if attendance == Attendance::Absent {
            // Whoever takes requests next is asked again.
            self.jobs.clear();
        }
        self.files.values_mut().for_each(|file| file.attend(attendance));
    }

    /// Serves a file from now on.
    pub fn serve(&mut self, number: u64, mut file: F) {
        self.forget(number);
        file.attend(self.attendance());
        self.files.insert(number, file);
    }

    /// Serves it no longer.
    pub fn forget(&mut self, number: u64) {
        self.jobs.retain(|_, job| job.number != number);
        self.files.remove(&number);
    }

    /// Something was asked of a file's pager.
    pub fn request(&mut self, now_ns: u64, job: Job) {
        let due_ns = now_ns.saturating_add(self.setting(Setting::DelayMs).saturating_mul(NS_PER_MS));
        self.jobs.insert((due_ns, self.next_job), job);
        self.next_job = self.next_job.wrapping_add(1);
    }

    /// Does what is due.
    pub fn work(&mut self, now_ns: u64) -> Next {
        if self.dies(Death::Now) {
            return Next::Dead;
        }
        if self.setting(Setting::Hang) != 0 {
            return Next::AtEvent;
        }
        while let Some(entry) = self.jobs.first_entry() {
            let (due_ns, _) = *entry.key();
            if due_ns > now_ns {
                return Next::At(due_ns);
            }
            let job = entry.remove();
            match self.run(job) {
                Life::Alive => {}
                Life::Dead => return Next::Dead,
            }
        }
        Next::AtEvent
    }

    fn run(&mut self, job: Job) -> Life {
        let Moments { before, during, after } = job.kind.moments();
        if self.dies(before) {
            return Life::Dead;
        }
        let is_to_fail = self.is_to_fail(job.kind);
        let dies = !is_to_fail && self.dies(during);
        let Some(file) = self.files.get(&job.number) else { return Life::Alive };
        if dies {
            half(file, job);
            return Life::Dead;
        }
        if is_to_fail || perform(file, job).is_err() {
            file.fail(job.offset, job.len_bytes);
            self.count(Setting::Failures, 1);
            return Life::Alive;
        }
        let (times, bytes) = job.kind.counts();
        self.count(times, 1);
        self.count(bytes, job.len_bytes);
        if self.dies(after) { Life::Dead } else { Life::Alive }
    }

    fn attendance(&self) -> Attendance {
        if self.setting(Setting::Absent) == 0 { Attendance::Present } else { Attendance::Absent }
    }

    fn setting(&self, setting: Setting) -> u64 {
        self.settings.as_ref().map_or(0, |settings| settings.get(setting))
    }

    fn set(&self, setting: Setting, value: u64) {
        if let Some(settings) = &self.settings {
            settings.set(setting, value);
        }
    }

    fn count(&self, setting: Setting, by: u64) {
        self.set(setting, self.setting(setting).saturating_add(by));
    }

    /// Takes one from a setting that counts down; false if it is at its end.
    fn count_down(&self, setting: Setting) -> bool {
        let left = self.setting(setting);
        if left > 0 {
            self.set(setting, left - 1);
        }
        left > 0
    }

    /// Whether it is time to die.
    fn dies(&self, moment: Death) -> bool {
        if Death::from_number(self.setting(Setting::Die)) != Some(moment) || self.count_down(Setting::DieAfter) {
            return false;
        }
        self.set(Setting::Die, 0);
        true
    }

    fn is_to_fail(&mut self, kind: Kind) -> bool {
        let (next, rate) = kind.failures();
        if self.count_down(next) {
            return true;
        }
        match self.setting(rate) {
            0 => false,
            rate => self.random() % 1000 < rate,
        }
    }

    /// A number that looks random (xorshift64: Marsaglia, 2003).
    fn random(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }
}

/// Does all of a job.
fn perform(file: &impl File, job: Job) -> Result<(), Failed> {
    match job.kind {
        Kind::Fill { ahead_bytes } => {
            file.fill(job.offset, job.len_bytes)?;
            if ahead_bytes > 0 {
                // Nobody waits for it.
                let after = job.offset.saturating_add(job.len_bytes);
                let _ = file.fill(after, ahead_bytes.min(MAX_AHEAD_BYTES));
            }
        }
        Kind::Writeback => {
            file.store(job.offset, job.len_bytes)?;
            file.written(job.offset, job.len_bytes);
        }
    }
    Ok(())
}

/// Does half of a job; whoever sees that has died in the middle.
fn half(file: &impl File, job: Job) {
    let half = job.len_bytes / 2 / PAGE_BYTES * PAGE_BYTES;
    // It is over anyway.
    let _ = match job.kind {
        Kind::Fill { .. } => {
            file.fill(job.offset, half).and_then(|()| file.read(job.offset + half, job.len_bytes - half))
        }
        Kind::Writeback => file.store(job.offset, half),
    };
}

#[cfg(test)]
mod tests;
