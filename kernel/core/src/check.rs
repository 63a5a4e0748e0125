//! What always holds between the objects, as code. The tests ask after every step.

use crate::account::Account;
use crate::channel::{LetterKind, LetterStage};
use crate::devices::Hardware;
use crate::dma::DmaSpace;
use crate::errand::ErrandStage;
use crate::event::NoticeStage;
use crate::interrupt::InterruptPhase;
use crate::kernel::Kernel;
use crate::list::List;
use crate::machine::{Frame, PAGE_SIZE};
use crate::object::{Node, ObjectRef, cost};
use crate::pool::Id;
use crate::thread::{CallStage, State, Wait};
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec::Vec;

impl Kernel {
    /// Panics if an invariant is broken. `held` are the references that the test holds itself.
    pub(crate) fn check_invariants(&mut self, held: &[ObjectRef]) {
        assert_eq!(self.doomed, None, "nothing is left to be torn down");
        self.scheduler.check_invariants(&mut self.threads);
        self.check_references(held);
        self.check_lines();
        self.check_tables();
        self.check_routes();
    }

    /// Panics if an invariant of memory is broken, or if an account pays for anything that is not there, or not for something
    /// that is. Visits everything.
    pub(crate) fn check_charges(&self, m: &impl Hardware) {
        let pins: Vec<_> = self.dma_mappings.iter().flat_map(|(_, mapping)| mapping.pins()).collect();
        let mut tables = Vec::new();
        self.dma_spaces.iter().for_each(|(id, _)| self.check_translations(m, id, &mut tables));
        let mut bytes = self.memory.check_and_count(m, &pins, &tables);
        let mut pays = |account: Id<Account>, cost: u64| *bytes.entry(account).or_default() += cost;
        for (_, thread) in self.threads.iter() {
            let vector = thread.vector.as_ref().map_or(0, |blocks| size_of_val(blocks.as_slice()) as u64);
            pays(thread.header.account, cost::THREAD + vector);
        }
        for (_, table) in self.tables.iter() {
            pays(table.header.account, cost::TABLE + table.chunk_count() as u64 * cost::TABLE_CHUNK);
        }
        self.endpoints.iter().for_each(|(_, object)| pays(object.header.account, cost::ENDPOINT));
        self.letters.iter().for_each(|(_, letter)| pays(letter.account, cost::LETTER));
        self.queues.iter().for_each(|(_, queue)| pays(queue.header.account, queue.cost()));
        self.events.iter().for_each(|(_, object)| pays(object.header.account, cost::EVENT));
        self.notices.iter().for_each(|(_, notice)| pays(notice.account, cost::NOTICE));
        self.timers.iter().for_each(|(_, object)| pays(object.header.account, cost::TIMER));
        self.interrupts.iter().for_each(|(_, object)| pays(object.header.account, cost::INTERRUPT));
        self.io_ports.iter().for_each(|(_, object)| pays(object.header.account, cost::IO_PORTS));
        self.pagers.iter().for_each(|(_, object)| pays(object.header.account, cost::PAGER));
        for (id, space) in self.dma_spaces.iter() {
            pays(space.header.account, cost::DMA_SPACE + self.check_dma_space(id));
        }
        self.errands.iter().for_each(|(_, errand)| pays(errand.account, cost::ERRAND));
        let mut expected: BTreeMap<Id<Account>, u64> = BTreeMap::new();
        for (account, bytes) in bytes {
            let mut cursor = Some(account);
            while let Some(at) = cursor {
                *expected.entry(at).or_default() += bytes;
                cursor = self.memory.accounts.get(at).and_then(Account::parent);
            }
        }
        for (id, account) in self.memory.accounts.iter() {
            let expected = expected.get(&id).copied().unwrap_or_default();
            assert_eq!(account.used().kernel_bytes, expected, "bytes charged to {id:?}");
        }
    }

    /// The mappings of a DMA space are in its list, no two spaces are one device's; returns the bytes that the mappings cost.
    fn check_dma_space(&self, id: Id<DmaSpace>) -> u64 {
        let requester = self.dma_spaces[id].requester;
        assert_eq!(self.dma_spaces.iter().filter(|(_, other)| other.requester == requester).count(), 1);
        let listed: Vec<_> = self.dma_mappings_of(id).collect();
        let mut all: Vec<_> = self.dma_mappings.iter().filter(|(_, at)| at.space() == id).map(|(at, _)| at).collect();
        assert_eq!(listed.len(), all.len(), "mappings that are in no list");
        all.retain(|at| !listed.contains(at));
        assert!(all.is_empty(), "mappings that are in another list");
        listed.iter().map(|at| self.dma_mappings[*at].cost()).sum()
    }

    /// The device of a space finds the pages of its mappings, and no others; lists the tables.
    fn check_translations(&self, m: &impl Hardware, id: Id<DmaSpace>, tables: &mut Vec<Frame>) {
        let Some(translation) = &self.dma_spaces[id].translation else { return };
        let mut found = BTreeMap::new();
        translation.visit(m, tables, &mut |page, entry| {
            found.insert(page, entry);
        });
        for mapping in self.dma_mappings_of(id) {
            for (address, entry) in self.dma_mappings[mapping].entries() {
                assert_eq!(found.remove(&(address / PAGE_SIZE)), Some(entry), "what a device finds at {address:#x}");
            }
        }
        assert!(found.is_empty(), "a device finds what is not mapped for it: {found:?}");
    }

    /// Every reference that is kept somewhere is counted, and no other.
    fn check_references(&mut self, held: &[ObjectRef]) {
        let mut counted: BTreeMap<String, u32> = BTreeMap::new();
        let mut count = |object: ObjectRef| *counted.entry(format!("{object:?}")).or_default() += 1;
        held.iter().copied().for_each(&mut count);
        for (id, table) in self.tables.iter() {
            table
                .iter()
                .map(|capability| capability.object)
                .filter(|at| *at != ObjectRef::Table(id))
                .for_each(&mut count);
        }
        let watched = self.dma_spaces.iter().filter_map(|(_, space)| space.watch);
        watched.for_each(|(event, _)| count(ObjectRef::Event(event)));
        for (_, letter) in self.letters.iter() {
            letter.handles.iter().flatten().for_each(|capability| count(capability.object));
        }
        for (id, thread) in self.threads.iter() {
            thread.call.handles.iter().flatten().for_each(|capability| count(capability.object));
            if let Some(endpoint) = thread.exceptions {
                count(ObjectRef::Channel(endpoint));
            }
            match thread.state {
                State::Dead => continue,
                State::New => {}
                State::Ready | State::Running | State::Stopped | State::Waiting(_) => count(ObjectRef::Thread(id)),
            }
            count(ObjectRef::Table(thread.table));
        }
        let mut expect = |object: ObjectRef, references: u32| {
            let found = counted.remove(&format!("{object:?}")).unwrap_or_default();
            assert_eq!(found, references, "references of {object:?}");
        };
        self.threads.iter().for_each(|(id, object)| expect(ObjectRef::Thread(id), object.header.references));
        self.tables.iter().for_each(|(id, object)| expect(ObjectRef::Table(id), object.header.references));
        self.endpoints.iter().for_each(|(id, object)| expect(ObjectRef::Channel(id), object.header.references));
        self.queues.iter().for_each(|(id, object)| expect(ObjectRef::Queue(id), object.header.references));
        self.interrupts.iter().for_each(|(id, object)| expect(ObjectRef::Interrupt(id), object.header.references));
        self.io_ports.iter().for_each(|(id, object)| expect(ObjectRef::IoPorts(id), object.header.references));
        self.timers.iter().for_each(|(id, object)| expect(ObjectRef::Timer(id), object.header.references));
        self.events.iter().for_each(|(id, object)| expect(ObjectRef::Event(id), object.header.references));
        self.pagers.iter().for_each(|(id, object)| expect(ObjectRef::Pager(id), object.header.references));
        self.dma_spaces.iter().for_each(|(id, object)| expect(ObjectRef::Dma(id), object.header.references));
        // What is left are kinds that count elsewhere, or not at all.
        let counts_here =
            ["Thread", "Table", "Channel", "Queue", "Interrupt", "IoPorts", "Timer", "Event", "Pager", "Dma"];
        for object in counted.keys() {
            assert!(!counts_here.iter().any(|kind| object.starts_with(kind)), "{object} is gone but referred to");
        }
    }

    /// Whoever stands in a line is in the state that says so, and the other way round.
    fn check_lines(&mut self) {
        let mut standing: BTreeMap<String, String> = BTreeMap::new();
        let lines: Vec<(String, List<Node>)> = self
            .endpoints
            .iter()
            .flat_map(|(id, end)| {
                assert!(end.receivers.is_empty() || end.incoming.is_empty(), "nobody waits for what is there");
                let tells = end.binding.is_some_and(|binding| self.queues.get(binding.queue).is_some());
                assert!(!tells || end.incoming.is_empty() || end.pending, "a queue with room has what comes in");
                [(format!("incoming {id:?}"), end.incoming), (format!("receivers {id:?}"), end.receivers)]
            })
            .chain(self.events.iter().map(|(id, event)| (format!("event {id:?}"), event.waiters)))
            .chain(self.pagers.iter().map(|(id, pager)| (format!("pages {id:?}"), pager.waiters)))
            .chain(self.queues.iter().map(|(id, queue)| (format!("pending {id:?}"), queue.pending)))
            .collect();
        for (name, line) in lines {
            let mut cursor = line.front();
            while let Some(node) = cursor {
                let before = standing.insert(format!("{node:?}"), name.clone());
                assert_eq!(before, None, "{node:?} stands in two lines");
                cursor = line.after(self, node);
            }
        }
        let mut expect = |node: Node, line: Option<String>| {
            assert_eq!(standing.remove(&format!("{node:?}")), line, "where {node:?} stands");
        };
        for (id, thread) in self.threads.iter() {
            let line = match thread.state {
                State::Waiting(Wait::Call) => match thread.call.stage {
                    CallStage::Queued(endpoint) => Some(format!("incoming {endpoint:?}")),
                    CallStage::Received => None,
                },
                State::Waiting(Wait::Receive { endpoint, .. }) => Some(format!("receivers {endpoint:?}")),
                State::Waiting(Wait::Event { event, .. }) => Some(format!("event {event:?}")),
                State::Waiting(Wait::Page(absent)) => self.pager_of(absent.memory).map(|id| format!("pages {id:?}")),
                State::Waiting(Wait::Queue(queue)) => {
                    assert_eq!(self.queues[queue].waiter, Some(id));
                    None
                }
                State::Dead if thread.pending => thread.binding.map(|binding| format!("pending {:?}", binding.queue)),
                State::New | State::Ready | State::Running | State::Stopped | State::Dead => None,
            };
            expect(Node::Thread(id), line);
            let armed = self.alarms.is_armed(thread.alarm);
            assert!(armed || !thread.has_deadline, "a deadline without an alarm");
            assert!(!thread.has_deadline || matches!(thread.state, State::Waiting(_)), "only who waits has a deadline");
        }
        for (id, letter) in self.letters.iter() {
            expect(
                Node::Letter(id),
                match &letter.kind {
                    LetterKind::Sent(endpoint) => Some(format!("incoming {endpoint:?}")),
                    LetterKind::Call { stage: LetterStage::Queued(endpoint), .. } => {
                        Some(format!("incoming {endpoint:?}"))
                    }
                    LetterKind::Call { stage: LetterStage::Received, .. } => None,
                    LetterKind::Call { binding, .. } => Some(format!("pending {:?}", binding.queue)),
                },
            );
        }
        for (id, notice) in self.notices.iter() {
            expect(
                Node::Notice(id),
                match notice.stage {
                    NoticeStage::Waiting(event) => Some(format!("event {event:?}")),
                    NoticeStage::Fired(_) => Some(format!("pending {:?}", notice.binding.queue)),
                },
            );
        }
        for (id, errand) in self.errands.iter() {
            expect(
                Node::Errand(id),
                match errand.stage {
                    ErrandStage::Waiting(absent) => self.pager_of(absent.memory).map(|id| format!("pages {id:?}")),
                    ErrandStage::Over(_) => Some(format!("pending {:?}", errand.binding.queue)),
                },
            );
        }
        let pending = |pending: bool, binding: Option<crate::queue::Binding>| {
            binding.filter(|_| pending).map(|binding| format!("pending {:?}", binding.queue))
        };
        self.endpoints.iter().for_each(|(id, end)| expect(Node::Endpoint(id), pending(end.pending, end.binding)));
        self.timers.iter().for_each(|(id, timer)| expect(Node::Timer(id), pending(timer.pending, timer.binding)));
        self.pagers.iter().for_each(|(id, pager)| expect(Node::Pager(id), pending(pager.pending, pager.binding)));
        for (id, interrupt) in self.interrupts.iter() {
            expect(Node::Interrupt(id), pending(interrupt.phase == InterruptPhase::Pending, interrupt.binding));
        }
        assert!(standing.is_empty(), "nobody else stands in a line: {standing:?}");
        for (id, queue) in self.queues.iter() {
            if let Some(waiter) = queue.waiter {
                assert_eq!(self.threads[waiter].state, State::Waiting(Wait::Queue(id)));
            }
        }
    }

    fn check_tables(&mut self) {
        for (id, table) in self.tables.iter() {
            let started = self.threads.iter().filter(|(_, thread)| match thread.state {
                State::New | State::Dead => false,
                State::Ready | State::Running | State::Stopped | State::Waiting(_) => thread.table == id,
            });
            assert_eq!(started.count(), table.started_threads as usize, "started threads of {id:?}");
        }
    }
}
