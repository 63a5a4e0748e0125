//! Extended attributes: in the inode behind its fields, and in a block that several inodes may share
//! (Documentation/filesystems/ext4/attributes.rst).

use crate::Ext4;
use crate::allocation::{Held, RUN_CREDITS};
use crate::buffers::{Block, Kind};
use crate::bytes::{put, put_u16, put_u32, slice, slice_mut, u8_at, u16_at, u32_at};
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::{ATTRIBUTES_MAGIC as MAGIC, Inode, Time};
use crate::seal::{ATTRIBUTES_CHECKSUM, attributes_sum};
use crate::superblock::field;
use alloc::vec::Vec;

/// Bytes of the header of an attribute block; in an inode there is only the magic number.
const BLOCK_HEADER: usize = 32;
const INODE_HEADER: usize = 4;
/// Bytes of an entry before its name.
const ENTRY_BYTES: usize = 16;
/// Behind the last entry.
const END_BYTES: usize = 4;
/// The compatible feature of attributes.
const FEATURE: u32 = 0x8;
/// Most names of one inode: what a block of 64 KiB can have.
const MOST: usize = 4096;

/// How names are shortened: the number stands for the text.
const PREFIXES: [(u8, &[u8]); 7] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (8, b"system.richacl"),
    (7, b"system."),
];

/// Attributes that are access control lists, which the disk has in a shorter form.
fn is_access_list(prefix: u8) -> bool {
    matches!(prefix, 2 | 3)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    prefix: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    fn entry_bytes(&self) -> usize {
        ENTRY_BYTES + self.name.len().next_multiple_of(4)
    }

    fn bytes(&self) -> usize {
        self.entry_bytes() + self.value.len().next_multiple_of(4)
    }

    /// What a block notes of it, by which blocks are compared.
    fn hash(&self) -> u32 {
        let name = self.name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        let mut padded = self.value.clone();
        padded.resize(self.value.len().next_multiple_of(4), 0);
        padded.chunks(4).fold(name, |hash, word| hash.rotate_left(16) ^ u32_at(word, 0))
    }
}

/// An attribute's name taken apart; none if there is no such name space.
fn split_name(full: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, text)| {
        let rest = full.strip_prefix(*text)?;
        let whole = !text.ends_with(b".");
        (rest.is_empty() == whole).then_some((*prefix, rest))
    })
}

fn full_name(attribute: &Attribute) -> Option<Vec<u8>> {
    let (_, text) = PREFIXES.iter().find(|(prefix, _)| *prefix == attribute.prefix)?;
    Some([text, attribute.name.as_slice()].concat())
}

/// Reads the entries from `at` on, whose values lie relative to `base`.
fn parse(bytes: &[u8], at: usize, base: usize) -> Option<Vec<Attribute>> {
    let mut found = Vec::new();
    let mut at = at;
    loop {
        if at + END_BYTES > bytes.len() || found.len() > MOST {
            return None;
        }
        if u32_at(bytes, at) == 0 {
            return Some(found);
        }
        let name_bytes = usize::from(u8_at(bytes, at));
        let (value_at, size) = (usize::from(u16_at(bytes, at + 2)), u32_at(bytes, at + 8) as usize);
        let start = base + value_at;
        let end = start.checked_add(size)?;
        let in_other_inode = u32_at(bytes, at + 4) != 0;
        if in_other_inode || at + ENTRY_BYTES + name_bytes > bytes.len() || end > bytes.len() {
            return None;
        }
        found.push(Attribute {
            prefix: u8_at(bytes, at + 1),
            name: slice(bytes, at + ENTRY_BYTES, name_bytes).into(),
            value: slice(bytes, start, size).into(),
        });
        at += ENTRY_BYTES + name_bytes.next_multiple_of(4);
    }
}

/// Writes entries from `at` on, and their values from the end downwards, relative to `base`.
fn store(bytes: &mut [u8], at: usize, base: usize, attributes: &[&Attribute], hashed: Hashed) {
    slice_mut(bytes, at, usize::MAX).fill(0);
    let (mut at, mut end) = (at, bytes.len());
    for attribute in attributes {
        end = end.saturating_sub(attribute.value.len().next_multiple_of(4));
        put(bytes, at, &[attribute.name.len() as u8, attribute.prefix]);
        let value_at = if attribute.value.is_empty() { 0 } else { end.saturating_sub(base) };
        put_u16(bytes, at + 2, value_at as u16);
        put_u32(bytes, at + 8, attribute.value.len() as u32);
        if hashed == Hashed::Yes {
            put_u32(bytes, at + 12, attribute.hash());
        }
        put(bytes, at + ENTRY_BYTES, &attribute.name);
        put(bytes, end, &attribute.value);
        at += attribute.entry_bytes();
    }
}

/// Whether entries carry their hashes: in blocks they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hashed {
    Yes,
    No,
}

/// The hash of a whole block.
fn block_hash(attributes: &[&Attribute]) -> u32 {
    let hashes: Vec<u32> = attributes.iter().map(|attribute| attribute.hash()).collect();
    if hashes.contains(&0) {
        return 0;
    }
    hashes.iter().fold(0_u32, |sum, hash| sum.rotate_left(16) ^ hash)
}

/// An access control list as programs see it, from how the disk has it, or back.
fn convert_access_list(value: &[u8], to: Form) -> Option<Vec<u8>> {
    let (from_version, to_version) = match to {
        Form::Program => (1, 2_u32),
        Form::Disk => (2, 1),
    };
    if value.len() < 4 || u32_at(value, 0) != from_version {
        return None;
    }
    let mut out: Vec<u8> = to_version.to_le_bytes().into();
    let mut at = 4;
    while at < value.len() {
        let has_id = matches!(u16_at(value, at), 2 | 8);
        out.extend_from_slice(slice(value, at, 4));
        match to {
            Form::Program if has_id => out.extend_from_slice(slice(value, at + 4, 4)),
            Form::Program => out.extend_from_slice(&u32::MAX.to_le_bytes()),
            Form::Disk if has_id => out.extend_from_slice(slice(value, at + 4, 4)),
            Form::Disk => {}
        }
        at += if to == Form::Program && !has_id { 4 } else { 8 };
    }
    (at == value.len()).then_some(out)
}

/// The two forms of access control lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Disk,
    Program,
}

/// All attributes of an inode.
struct Attributes {
    found: Vec<Attribute>,
    /// The block with some of them.
    block: Option<Block>,
}

impl<D: Device> Ext4<D> {
    /// Where attributes are in an inode: behind its fields.
    fn room_in_inode(&self, inode: &Inode) -> (usize, usize) {
        (128 + usize::from(inode.extra_bytes), usize::from(self.superblock.inode_bytes))
    }

    async fn attribute_block(&self, inode: &Inode) -> Result<Option<Block>> {
        let number = inode.attribute_block;
        if number == 0 {
            return Ok(None);
        }
        self.check_blocks(number, 1, Place::Inode(inode.number))?;
        let corrupt = |what| Error::corrupt(what, Place::Block(number));
        let check = |bytes: &[u8]| {
            if u32_at(bytes, 0) != MAGIC || u32_at(bytes, 4) == 0 || u32_at(bytes, 8) != 1 {
                return Err(corrupt("attribute block"));
            }
            let sum = || attributes_sum(&self.superblock, number, bytes);
            if self.superblock.has_checksums() && sum() != u32_at(bytes, ATTRIBUTES_CHECKSUM) {
                return Err(corrupt("checksum of an attribute block"));
            }
            Ok(())
        };
        Ok(Some(self.buffers.get(number, Kind::Attributes, check).await?))
    }

    async fn load_attributes(&self, inode: &Inode) -> Result<Attributes> {
        let corrupt = || Error::corrupt("attributes", Place::Inode(inode.number));
        let (block, at) = self.inode_place(inode.number).await?;
        let (start, end) = self.room_in_inode(inode);
        let mut found = block.read(|bytes| {
            let bytes = slice(bytes, at, end);
            if u32_at(bytes, start) != MAGIC || end < start + INODE_HEADER {
                return Ok(Vec::new());
            }
            parse(bytes, start + INODE_HEADER, start + INODE_HEADER).ok_or_else(corrupt)
        })?;
        let block = self.attribute_block(inode).await?;
        if let Some(block) = &block {
            found.extend(block.read(|bytes| parse(bytes, BLOCK_HEADER, 0)).ok_or_else(corrupt)?);
        }
        Ok(Attributes { found, block })
    }

    /// The extended attributes of an inode: full names and values.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such inode. [`Error::Corrupt`], [`Error::Device`].
    pub async fn xattrs(&self, inode: u32) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let _guard = self.lock.shared().await;
        let inode = self.load(inode).await?;
        let attributes = self.load_attributes(&inode).await?.found;
        let corrupt = || Error::corrupt("access control list", Place::Inode(inode.number));
        let mut shown = Vec::new();
        for attribute in attributes {
            let Some(name) = full_name(&attribute) else { continue };
            let value = if is_access_list(attribute.prefix) {
                convert_access_list(&attribute.value, Form::Program).ok_or_else(corrupt)?
            } else {
                attribute.value
            };
            shown.push((name, value));
        }
        Ok(shown)
    }

    /// Sets an extended attribute, over the one that has the name.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no such name space, or no access control list. [`Error::AttributesTooBig`]: no room with the inode
    /// and one block. [`Error::Full`], [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`], [`Error::ReadOnly`].
    pub async fn set_xattr(&self, inode: u32, name: &[u8], value: &[u8], now: Time) -> Result<()> {
        let (prefix, rest) = split_name(name).filter(|(_, rest)| rest.len() < 256).ok_or(Error::Invalid)?;
        let value = if is_access_list(prefix) {
            convert_access_list(value, Form::Disk).ok_or(Error::Invalid)?
        } else {
            value.into()
        };
        let new = Attribute { prefix, name: rest.into(), value };
        self.change_attributes(inode, now, |found| {
            found.retain(|old| (old.prefix, &old.name) != (new.prefix, &new.name));
            found.push(new);
            Ok(())
        })
        .await
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// [`Error::NotFound`]: no such inode or name. [`Error::Full`], [`Error::Corrupt`], [`Error::Device`],
    /// [`Error::ReadOnly`].
    pub async fn remove_xattr(&self, inode: u32, name: &[u8], now: Time) -> Result<()> {
        let (prefix, rest) = split_name(name).ok_or(Error::NotFound)?;
        self.change_attributes(inode, now, |found| {
            let before = found.len();
            found.retain(|old| (old.prefix, old.name.as_slice()) != (prefix, rest));
            if found.len() == before { Err(Error::NotFound) } else { Ok(()) }
        })
        .await
    }

    async fn change_attributes(
        &self,
        inode: u32,
        now: Time,
        edit: impl FnOnce(&mut Vec<Attribute>) -> Result<()>,
    ) -> Result<()> {
        // The inode, the old and the new block, and what counts these.
        let change = self.change(3 + 2 * RUN_CREDITS).await?;
        let mut inode = self.load(inode).await?;
        let Attributes { mut found, block } = self.load_attributes(&inode).await?;
        edit(&mut found)?;
        self.store_attributes(&change, &mut inode, &found, block).await?;
        inode.changed = now;
        self.store(&change, &inode).await?;
        change.finish().await?;
        Ok(())
    }

    /// Writes all attributes of an inode anew: in it as far as they fit, the rest into a block. The inode is to be stored.
    async fn store_attributes(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        all: &[Attribute],
        block: Option<Block>,
    ) -> Result<()> {
        let (start, end) = self.room_in_inode(inode);
        let (inside, mut outside) = divide(all, end.saturating_sub(start + INODE_HEADER + END_BYTES));
        outside.sort_by(|a, b| (a.prefix, a.name.len(), &a.name).cmp(&(b.prefix, b.name.len(), &b.name)));
        let room = self.superblock.block_bytes as usize - BLOCK_HEADER - END_BYTES;
        if outside.iter().map(|attribute| attribute.bytes()).sum::<usize>() > room {
            return Err(Error::AttributesTooBig);
        }
        if end >= start + INODE_HEADER + END_BYTES {
            let (place, at) = self.inode_place(inode.number).await?;
            change.edit(&place, at + start..at + end, |bytes| {
                store(bytes, INODE_HEADER, INODE_HEADER, &inside, Hashed::No);
                put_u32(bytes, 0, if inside.is_empty() { 0 } else { MAGIC });
            });
        }
        if !all.is_empty() {
            self.note_feature(change).await?;
        }
        self.store_attribute_block(change, inode, &outside, block).await
    }

    async fn store_attribute_block(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        outside: &[&Attribute],
        old: Option<Block>,
    ) -> Result<()> {
        if outside.is_empty() {
            return self.release_attribute_block(change, inode, old).await;
        }
        let alone = old.filter(|block| block.read(|bytes| u32_at(bytes, 4)) == 1);
        let block = match alone {
            Some(block) => block,
            None => {
                let shared = self.attribute_block(inode).await?;
                self.release_attribute_block(change, inode, shared).await?;
                let (group, _) = self.superblock.inode_group(inode.number)?;
                let (number, _) = self.take_blocks(change, self.superblock.group_start(group), 1).await?;
                inode.attribute_block = number;
                inode.add_blocks(&self.superblock, 1);
                change.fresh(number, Kind::Attributes)?
            }
        };
        let size = self.superblock.block_bytes as usize;
        change.edit(&block, 0..size, |bytes| {
            store(bytes, BLOCK_HEADER, 0, outside, Hashed::Yes);
            slice_mut(bytes, 0, BLOCK_HEADER).fill(0);
            for (at, value) in [(0, MAGIC), (4, 1), (8, 1), (12, block_hash(outside))] {
                put_u32(bytes, at, value);
            }
        });
        Ok(())
    }

    /// Gives up an inode's attribute block, which others may still have. The inode is to be stored.
    async fn release_attribute_block(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        block: Option<Block>,
    ) -> Result<()> {
        let Some(block) = block else { return Ok(()) };
        let users = block.read(|bytes| u32_at(bytes, 4));
        if users > 1 {
            change.edit(&block, 4..8, |bytes| put_u32(bytes, 0, users - 1));
        } else {
            self.free_blocks(change, block.number(), 1, Held::Metadata).await?;
        }
        inode.attribute_block = 0;
        inode.remove_blocks(&self.superblock, 1);
        Ok(())
    }

    /// Gives up the attributes outside an inode that goes away. The inode is to be stored.
    pub(crate) async fn drop_attributes(&self, change: &Change<'_, D>, inode: &mut Inode) -> Result<()> {
        let block = self.attribute_block(inode).await?;
        self.release_attribute_block(change, inode, block).await
    }

    /// Notes in the superblock that there are attributes.
    async fn note_feature(&self, change: &Change<'_, D>) -> Result<()> {
        if self.superblock.features.has(FEATURE) {
            return Ok(());
        }
        change.edit_superblock(field::COMPATIBLE, |features| features | FEATURE).await
    }
}

/// Those that fit into so many bytes, and the rest.
fn divide(all: &[Attribute], room: usize) -> (Vec<&Attribute>, Vec<&Attribute>) {
    let mut left = room;
    all.iter().partition(|attribute| {
        let fits = attribute.bytes() <= left;
        if fits {
            left -= attribute.bytes();
        }
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(prefix: u8, name: &[u8], value: &[u8]) -> Attribute {
        Attribute { prefix, name: name.into(), value: value.into() }
    }

    #[test]
    fn names_have_known_name_spaces() {
        assert_eq!(split_name(b"user.a"), Some((1, &b"a"[..])));
        assert_eq!(split_name(b"system.posix_acl_access"), Some((2, &b""[..])));
        assert_eq!(split_name(b"system.other"), Some((7, &b"other"[..])));
        for none in [&b"user."[..], b"user", b"os2.x", b""] {
            assert_eq!(split_name(none), None);
        }
        assert_eq!(full_name(&attribute(6, b"capability", b"")), Some(b"security.capability".to_vec()));
    }

    #[test]
    fn entries_come_back() {
        let all = [attribute(1, b"one", b"value"), attribute(1, b"empty", b""), attribute(6, b"long name", &[7; 50])];
        let mut bytes = [0xFF; 200];
        store(&mut bytes, 4, 4, &all.iter().collect::<Vec<_>>(), Hashed::No);
        assert_eq!(parse(&bytes, 4, 4).unwrap(), all);
    }

    #[test]
    fn values_outside_are_refused() {
        let all = attribute(1, b"one", b"value");
        let mut bytes = [0; 64];
        store(&mut bytes, 0, 0, &[&all], Hashed::Yes);
        for (at, value) in [(2, 60_u16), (8, 0xFFFF), (0, 0x01FF)] {
            let mut bytes = bytes;
            put_u16(&mut bytes, at, value);
            assert_eq!(parse(&bytes, 0, 0), None, "{at}");
        }
    }

    #[test]
    fn access_lists_change_their_form_and_back() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &7_u16.to_le_bytes(), &id.to_le_bytes()].concat();
        let program = [&2_u32.to_le_bytes()[..], &entry(1, u32::MAX), &entry(2, 1000), &entry(0x20, u32::MAX)].concat();
        let disk = convert_access_list(&program, Form::Disk).unwrap();
        assert_eq!(disk.len(), 4 + 4 + 8 + 4);
        assert_eq!(convert_access_list(&disk, Form::Program), Some(program));
        assert_eq!(convert_access_list(&disk, Form::Disk), None);
        assert_eq!(convert_access_list(&disk[..10], Form::Program), None);
    }
}
