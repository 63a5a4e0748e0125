//! `/proc/sysvipc`: the System V objects, as `ipcs` lists them.

use super::add;
use crate::process::Server;
use crate::sysv::Permissions;
use alloc::string::String;
use alloc::vec::Vec;

/// The columns of owner and maker.
fn people(permissions: &Permissions) -> String {
    let (creator_uid, creator_gid) = permissions.creator();
    alloc::format!("{:5} {:5} {creator_uid:5} {creator_gid:5}", permissions.uid, permissions.gid)
}

/// `msg`.
pub(super) fn message_queues(server: &Server) -> Vec<u8> {
    let mut text = String::from(
        "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n",
    );
    for queue in server.ipc.messages.borrow().iter() {
        let permissions = *queue.permissions.borrow();
        let (messages, bytes) = queue.body.filling();
        let (sent, received) = (queue.body.sent.get(), queue.body.received.get());
        add!(text, "{:10} {:10}  {:4o}  ", permissions.key(), queue.id, permissions.mode());
        add!(text, "{bytes:10} {messages:10} {:5} {:5} {} ", sent.pid, received.pid, people(&permissions));
        add!(text, "{:10} {:10} {:10}\n", sent.time_s, received.time_s, queue.changed_s.get());
    }
    text.into_bytes()
}

/// `sem`.
pub(super) fn semaphore_sets(server: &Server) -> Vec<u8> {
    let mut text =
        String::from("       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
    for set in server.ipc.semaphores.borrow().iter() {
        let permissions = *set.permissions.borrow();
        add!(text, "{:10} {:10}  {:4o} ", permissions.key(), set.id, permissions.mode());
        add!(text, "{:10} {} ", set.body.len(), people(&permissions));
        add!(text, "{:10} {:10}\n", set.body.operated_s.get(), set.changed_s.get());
    }
    text.into_bytes()
}

/// `shm`.
pub(super) fn segments(server: &Server) -> Vec<u8> {
    let mut text = String::from(concat!(
        "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime",
        "      dtime      ctime                   rss                  swap\n"
    ));
    for segment in server.ipc.segments.table.borrow().iter() {
        let permissions = *segment.permissions.borrow();
        let body = &segment.body;
        let resident_bytes = body.memory.resident_pages() * crate::platform::PAGE_SIZE;
        add!(text, "{:10} {:10}  {:4o} {:21} ", permissions.key(), segment.id, permissions.mode(), body.size_bytes);
        add!(text, "{:5} {:5}  {:5} ", body.maker, body.last_user.get(), body.attachments());
        add!(text, "{} {:10} {:10} ", people(&permissions), body.attached_s.get(), body.detached_s.get());
        add!(text, "{:10} {resident_bytes:21} {:21}\n", segment.changed_s.get(), 0);
    }
    text.into_bytes()
}
