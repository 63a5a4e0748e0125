//! The store: files' memories, and what their server is told.
//!
//! # What the server has to know
//! 1. Of which files it is the pager ([`Request::Serve`]), what was cut off them ([`Request::Truncate`]), and which are gone
//!    ([`Request::Remove`]). That is noted for each file in [`Orders`], where an order replaces earlier ones that it makes needless: so
//!    there are no more than files, however long nobody takes them.
//! 2. One task tells it. An order that was not answered stays, and is given to the successor, which is told of all files. What was cut
//!    off a file comes first: nobody must answer for bytes that are gone.
//! 3. Whoever wants something written back waits until the file's orders are through ([`Store::settled`]): what is stored after a
//!    truncation must not be cut off by it.
//!
//! The task notices that the server has died by its call [`Request::Attach`], which is answered by nothing else.

use crate::errno::{Errno, Result};
use crate::fs::paged::{PageSource, PagedMemory};
use crate::platform::{self, Account, Executor, LocalFuture, Memory, Pager, Successor};
use crate::wait::{Listener, WaitQueue};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};
use core::pin::pin;
use driver_protocol::pages::{MAX_FILE_BYTES, MAX_FILES, Request, SETTINGS_BYTES, Setting};
use futures_util::future::{Either, join, select};

/// How long the server has for a page, unless somebody sets it, in ns.
const DEADLINE_NS: u64 = 30_000_000_000;
/// How long the task waits before it tries to reach a server again, in ns: at first, and at most.
const FIRST_PAUSE_NS: u64 = 1_000_000;
const LONGEST_PAUSE_NS: u64 = 500_000_000;

/// What goes along with a request.
pub enum Enclosed<'a> {
    /// Nothing.
    Nothing,
    /// The settings.
    Settings(&'a Memory),
    /// A file's pager, and its memory.
    File(&'a Pager, &'a Memory),
}

/// The server of a store, as it is reached.
pub trait PageServer {
    /// Asks for something. `EIO` if the server refuses; other errors say that it is gone.
    fn call(&self, request: Request, enclosed: Enclosed<'_>) -> LocalFuture<Result<()>>;
}

/// What the server is still to be told of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Orders {
    /// Everything from here on, in bytes.
    cut: Option<u64>,
    serve: bool,
    remove: bool,
}

impl Orders {
    /// Both, where `later` came later.
    fn merged(self, later: Self) -> Self {
        let cut = match (self.cut, later.cut) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { cut, serve: self.serve || later.serve, remove: self.remove || later.remove }
    }
}

/// A store of numbered files.
pub struct Store {
    executor: Executor,
    server: Rc<dyn PageServer>,
    settings: Memory,
    payer: Account,
    files: RefCell<BTreeMap<u64, Weak<PagedMemory>>>,
    orders: RefCell<BTreeMap<u64, Orders>>,
    /// What is being told, and of which file.
    current: Cell<u64>,
    /// The settings have changed.
    must_look: Cell<bool>,
    /// The server that was attached has ended.
    is_gone: Cell<bool>,
    /// Woken when there are orders, and when one is through.
    changed: WaitQueue,
    deadline_ns: Cell<u64>,
    successor: Cell<Successor>,
}

impl core::fmt::Debug for Store {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// A store whose files' memories are paid by an account. `ENOMEM`.
    pub fn new(executor: &Executor, server: Rc<dyn PageServer>, payer: Account) -> Result<Rc<Self>> {
        let store = Rc::new(Self {
            executor: executor.clone(),
            server,
            settings: Memory::create(SETTINGS_BYTES)?,
            payer,
            files: RefCell::default(),
            orders: RefCell::default(),
            current: Cell::new(0),
            must_look: Cell::new(false),
            is_gone: Cell::new(false),
            changed: WaitQueue::new(),
            deadline_ns: Cell::new(DEADLINE_NS),
            successor: Cell::new(Successor::Awaited),
        });
        executor.spawn(tell(store.clone()));
        Ok(store)
    }

    /// Who pays for the pages in memory.
    pub fn payer(&self) -> &Account {
        &self.payer
    }

    /// How long the server has for a page of a file that is first used from now on, in ns.
    pub fn deadline_ns(&self) -> u64 {
        self.deadline_ns.get()
    }

    /// Sets that.
    pub fn set_deadline_ns(&self, deadline_ns: u64) {
        self.deadline_ns.set(deadline_ns);
    }

    /// Whether those wait for a successor who use a file that is first used from now on.
    pub fn successor(&self) -> Successor {
        self.successor.get()
    }

    /// Sets that.
    pub fn set_successor(&self, successor: Successor) {
        self.successor.set(successor);
    }

    /// A setting of the server.
    pub fn setting(&self, setting: Setting) -> u64 {
        let mut bytes = [0; 8];
        self.settings.read(setting.offset_bytes(), &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Sets one, and has the server look.
    pub fn set(&self, setting: Setting, value: u64) {
        self.settings.write(setting.offset_bytes(), &value.to_le_bytes());
        self.must_look.set(true);
        self.changed.wake();
    }

    /// Waits until the server has heard all that there is to tell it. `EIO` if it does not within its deadline.
    pub async fn settled(&self) -> Result<()> {
        let deadline_ns = platform::now_ns().saturating_add(self.deadline_ns.get());
        let mut sleep = pin!(self.executor.sleep_until(deadline_ns));
        loop {
            let listener = self.changed.listen();
            if !self.has_orders() {
                return Ok(());
            }
            match select(listener, sleep.as_mut()).await {
                Either::Left(_) => {}
                Either::Right(_) => return Err(Errno::EIO),
            }
        }
    }

    /// Has everything written back that was stored until now. `EIO`.
    pub async fn write_back(&self) -> Result<()> {
        self.settled().await?;
        let mut result = Ok(());
        for paged in self.paged_files() {
            let written = paged.write_back(0, u64::MAX).await;
            result = result.and(written);
        }
        result
    }

    /// Whether there are files.
    pub fn has_files(&self) -> bool {
        !self.files.borrow().is_empty()
    }

    /// Forgets all pages that are as the server has them.
    pub fn drop_clean(&self) {
        for paged in self.paged_files() {
            paged.drop_clean(0, u64::MAX);
        }
    }

    fn paged_files(&self) -> Vec<Rc<PagedMemory>> {
        self.files.borrow().values().filter_map(Weak::upgrade).collect()
    }

    fn has_orders(&self) -> bool {
        self.current.get() != 0 || self.must_look.get() || !self.orders.borrow().is_empty()
    }

    fn order(&self, number: u64, orders: Orders) {
        let mut all = self.orders.borrow_mut();
        let before = all.get(&number).copied().unwrap_or_default();
        all.insert(number, before.merged(orders));
        drop(all);
        self.changed.wake();
    }

    /// A number that no file has, nor one of which the server still has something. `ENOSPC`.
    fn free_number(&self) -> Result<u64> {
        let (files, orders) = (self.files.borrow(), self.orders.borrow());
        let is_free =
            |number: &u64| !files.contains_key(number) && !orders.contains_key(number) && self.current.get() != *number;
        (1..MAX_FILES).find(is_free).ok_or(Errno::ENOSPC)
    }

    /// Takes the next file that there is something to tell of.
    fn take_orders(&self) -> Option<(u64, Orders)> {
        let (number, orders) = self.orders.borrow_mut().pop_first()?;
        self.current.set(number);
        Some((number, orders))
    }

    /// Tells what there is to tell of a file; what was not heard is to be told again.
    async fn carry_out(&self, number: u64, mut orders: Orders) -> Result<()> {
        let result = self.carry_out_all(number, &mut orders).await;
        if result.is_err() && orders != Orders::default() {
            let later = self.orders.borrow_mut().remove(&number).unwrap_or_default();
            self.orders.borrow_mut().insert(number, orders.merged(later));
        }
        self.current.set(0);
        self.changed.wake();
        result
    }

    async fn carry_out_all(&self, number: u64, orders: &mut Orders) -> Result<()> {
        if orders.remove {
            heard(self.server.call(Request::Remove { number }, Enclosed::Nothing).await)?;
            *orders = Orders::default();
        }
        if let Some(len_bytes) = orders.cut {
            heard(self.server.call(Request::Truncate { number, len_bytes }, Enclosed::Nothing).await)?;
            orders.cut = None;
        }
        if orders.serve {
            self.serve(number).await?;
            orders.serve = false;
        }
        Ok(())
    }

    async fn serve(&self, number: u64) -> Result<()> {
        let paged = self.files.borrow().get(&number).and_then(Weak::upgrade);
        match paged {
            Some(paged) => {
                let file = Enclosed::File(paged.pager(), paged.memory());
                let served = self.server.call(Request::Serve { number }, file);
                heard(served.await)
            }
            None => Ok(()),
        }
    }

    /// Tells the server what there is to tell, until it is gone.
    async fn tell_until_gone(&self) {
        loop {
            let listener = self.changed.listen();
            if self.is_gone.get() {
                return;
            }
            if let Err(errno) = self.tell_next(listener).await {
                let is_known = errno == Errno::ESRCH;
                let pause_ns = if is_known { FIRST_PAUSE_NS } else { LONGEST_PAUSE_NS };
                self.executor.sleep_until(platform::now_ns().saturating_add(pause_ns)).await;
            }
        }
    }

    /// Tells one thing, or waits until there is one.
    async fn tell_next(&self, news: Listener) -> Result<()> {
        if self.must_look.get() {
            heard(self.server.call(Request::Look, Enclosed::Nothing).await)?;
            self.must_look.set(false);
            self.changed.wake();
        } else if let Some((number, orders)) = self.take_orders() {
            self.carry_out(number, orders).await?;
        } else {
            news.await;
        }
        Ok(())
    }

    /// There is a server, which knows of no file.
    fn begin(&self) {
        self.is_gone.set(false);
        let files: Vec<u64> = self.files.borrow().keys().copied().collect();
        let serve = Orders { serve: true, ..Orders::default() };
        files.into_iter().for_each(|number| self.order(number, serve));
    }
}

/// Whether the server has heard: a refusal would be no other if it were asked again.
fn heard(answer: Result<()>) -> Result<()> {
    match answer {
        Err(Errno::EIO) => Ok(()),
        other => other,
    }
}

/// Tells server after server what it has to know.
async fn tell(store: Rc<Store>) {
    let mut pause_ns = FIRST_PAUSE_NS;
    loop {
        let began_ns = platform::now_ns();
        store.begin();
        let attached = store.server.call(Request::Attach, Enclosed::Settings(&store.settings));
        let watch = async {
            // Whatever it says: it is no longer there.
            let _ = attached.await;
            store.is_gone.set(true);
            store.changed.wake();
        };
        join(watch, store.tell_until_gone()).await;
        if platform::now_ns().saturating_sub(began_ns) > pause_ns {
            pause_ns = FIRST_PAUSE_NS;
        } else {
            // Nobody is there, not even a channel to wait at.
            store.executor.sleep_until(platform::now_ns().saturating_add(pause_ns)).await;
            pause_ns = (pause_ns * 2).min(LONGEST_PAUSE_NS);
        }
    }
}

/// The content of a file, as far as the store has it.
pub struct PagedFile {
    store: Rc<Store>,
    number: u64,
    paged: OnceCell<Rc<PagedMemory>>,
}

impl PagedFile {
    /// A new file of no bytes. `ENOSPC`.
    pub fn new(store: &Rc<Store>) -> Result<Self> {
        let number = store.free_number()?;
        store.files.borrow_mut().insert(number, Weak::new());
        Ok(Self { store: store.clone(), number, paged: OnceCell::new() })
    }
}

impl PageSource for PagedFile {
    fn max_bytes(&self) -> u64 {
        MAX_FILE_BYTES
    }

    fn paged(&self) -> Option<&Rc<PagedMemory>> {
        self.paged.get()
    }

    fn make_memory(&self, len_bytes: u64) -> Result<Memory> {
        let store = &self.store;
        let (deadline_ns, successor) = (store.deadline_ns.get(), store.successor.get());
        // Nothing was ever stored, so that there is nothing to ask for.
        let paged = PagedMemory::new(&store.executor, &store.payer, (0, len_bytes), deadline_ns, successor)?;
        let memory = paged.memory().clone();
        store.files.borrow_mut().insert(self.number, Rc::downgrade(&paged));
        if self.paged.set(paged).is_ok() {
            store.order(self.number, Orders { serve: true, ..Orders::default() });
        }
        Ok(memory)
    }

    fn cut(&self, len_bytes: u64) {
        if self.paged.get().is_some() {
            let whole = len_bytes.next_multiple_of(platform::PAGE_SIZE);
            self.store.order(self.number, Orders { cut: Some(whole), ..Orders::default() });
        }
    }

    fn write_back(&self, offset: u64, len_bytes: u64) -> LocalFuture<Result<()>> {
        let (store, paged) = (self.store.clone(), self.paged.get().cloned());
        Box::pin(async move {
            let Some(paged) = paged else { return Ok(()) };
            store.settled().await?;
            paged.write_back(offset, len_bytes).await
        })
    }
}

impl Drop for PagedFile {
    fn drop(&mut self) {
        self.store.files.borrow_mut().remove(&self.number);
        if self.paged.get().is_some() {
            let mut orders = self.store.orders.borrow_mut();
            orders.insert(self.number, Orders { remove: true, ..Orders::default() });
            drop(orders);
            self.store.changed.wake();
        }
    }
}
