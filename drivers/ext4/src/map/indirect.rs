//! The block maps of ext2 and ext3: twelve blocks named in the inode, then tables of one, two and three levels.

use super::{Extent, Lie, Progress, State};
use crate::Ext4;
use crate::allocation::{Held, RUN_CREDITS};
use crate::buffers::{Block, Kind};
use crate::bytes::{put_u32, u32_at};
use crate::change::Change;
use crate::device::Device;
use crate::error::{Place, Result};
use crate::inode::Inode;
use crate::superblock::Superblock;
use alloc::vec::Vec;
use core::ops::Range;

/// Blocks that the inode names itself.
const DIRECT: u32 = 12;
/// Most tables on the way to a block.
const MOST_LEVELS: u32 = 3;
/// Groups whose blocks one transaction frees at most.
const MOST_GROUPS: usize = 16;
/// Tables that one transaction works on at most.
const MOST_TABLES: u32 = 8;

/// Blocks that filling one hole may touch: new tables, the blocks, the inode.
pub(super) const FILL_CREDITS: u32 = MOST_LEVELS * (2 + RUN_CREDITS) + RUN_CREDITS + 1;
/// Blocks that one cut may touch.
pub(super) const CUT_CREDITS: u32 =
    MOST_GROUPS as u32 * RUN_CREDITS + MOST_TABLES * (1 + RUN_CREDITS) + MOST_LEVELS * (1 + RUN_CREDITS) + 1;

/// Pointers in a table.
fn width(superblock: &Superblock) -> u64 {
    u64::from(superblock.block_bytes / 4)
}

/// Blocks that a file with such a map may have.
pub(super) fn most_blocks(superblock: &Superblock) -> u64 {
    let width = width(superblock);
    (u64::from(DIRECT) + width + width * width + width * width * width).min(u64::from(u32::MAX))
}

/// The way to a block: a pointer in the inode, then one in each table.
struct Way {
    /// The pointer of the inode.
    slot: u32,
    /// The pointers in the tables, from the inode on.
    pointers: Vec<u32>,
    /// Blocks that lie below one pointer at each level, from the inode on.
    sizes: Vec<u64>,
    /// The first block below the inode's pointer.
    base: u64,
}

impl Way {
    fn to(superblock: &Superblock, block: u32) -> Option<Self> {
        if block < DIRECT {
            let base = u64::from(block);
            return Some(Self { slot: block, pointers: Vec::new(), sizes: alloc::vec![1], base });
        }
        let width = width(superblock);
        let mut base = u64::from(DIRECT);
        let mut size = width;
        for level in 1..=MOST_LEVELS {
            if u64::from(block) < base + size {
                return Some(Self::below(level, base, size, u64::from(block) - base, width));
            }
            base += size;
            size *= width;
        }
        None
    }

    fn below(level: u32, base: u64, size: u64, mut rest: u64, width: u64) -> Self {
        let (mut pointers, mut sizes) = (Vec::new(), alloc::vec![size]);
        let mut size = size;
        for _ in 0..level {
            size /= width;
            pointers.push((rest / size) as u32);
            sizes.push(size);
            rest %= size;
        }
        Self { slot: DIRECT - 1 + level, pointers, sizes, base }
    }

    /// The first block below the pointer at a level; 0 is the inode's.
    fn start(&self, level: usize) -> u64 {
        let below = self.pointers.iter().zip(self.sizes.iter().skip(1)).take(level);
        self.base + below.map(|(pointer, size)| u64::from(*pointer) * size).sum::<u64>()
    }
}

/// What a way leads to.
enum Found {
    /// The last table.
    Table(Vec<Block>),
    /// A pointer is missing, after these tables.
    Missing(Vec<Block>),
}

impl<D: Device> Ext4<D> {
    async fn table(&self, inode: &Inode, pointer: u32) -> Result<Block> {
        self.check_blocks(u64::from(pointer), 1, Place::Inode(inode.number))?;
        self.buffers.get(u64::from(pointer), Kind::Plain, |_| Ok(())).await
    }

    /// The tables on a way, as far as they exist.
    async fn tables(&self, inode: &Inode, way: &Way) -> Result<Found> {
        let mut tables: Vec<Block> = Vec::new();
        let mut pointer = slot(inode, way.slot);
        for index in &way.pointers {
            if pointer == 0 {
                return Ok(Found::Missing(tables));
            }
            let table = self.table(inode, pointer).await?;
            pointer = pointer_in(&table, *index);
            tables.push(table);
        }
        Ok(Found::Table(tables))
    }

    /// What lies at a block of a file with a block map.
    pub(super) async fn find_mapped(&self, inode: &Inode, block: u32) -> Result<Lie> {
        let Some(way) = Way::to(&self.superblock, block) else { return Ok(Lie::Until(u64::from(u32::MAX))) };
        let tables = match self.tables(inode, &way).await? {
            Found::Table(tables) => tables,
            Found::Missing(tables) => {
                let size = way.sizes.get(tables.len()).copied().unwrap_or(1);
                return Ok(Lie::Until(way.start(tables.len()) + size));
            }
        };
        let width = width(&self.superblock) as u32;
        Ok(match tables.last() {
            None => lie(block, block..DIRECT, |at| slot(inode, at)),
            Some(table) => {
                let index = way.pointers.last().copied().unwrap_or(0);
                table.read(|bytes| lie(block, index..width, |at| u32_at(bytes, 4 * at as usize)))
            }
        })
    }

    /// Finds blocks for a hole, as many as lie in one table.
    pub(super) async fn find_for_mapped(&self, goal: u64, first: u32, count: u32) -> Result<(u64, u32)> {
        let way = Way::to(&self.superblock, first).ok_or(crate::Error::FileTooBig)?;
        let left = match way.pointers.last() {
            Some(index) => width(&self.superblock) as u32 - index,
            None => DIRECT - first,
        };
        self.find_narrow(goal, count.min(left)).await
    }

    /// Gives a file blocks, which are free, at a hole: not more than were [found](Ext4::find_for_mapped).
    pub(super) async fn attach_mapped(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        first: u32,
        start: u64,
        count: u32,
    ) -> Result<()> {
        let way = Way::to(&self.superblock, first).ok_or(crate::Error::FileTooBig)?;
        let mut goal = start;
        let table = self.make_tables(change, inode, &way, &mut goal).await?;
        let index = way.pointers.last().copied().unwrap_or(first);
        self.take_run(change, start, count).await?;
        let start = u32::try_from(start).map_err(|_| crate::Error::FileTooBig)?;
        inode.add_blocks(&self.superblock, u64::from(count));
        let store = |bytes: &mut [u8]| {
            for step in 0..count {
                put_u32(bytes, 4 * step as usize, start + step);
            }
        };
        let bytes = 4 * index as usize..4 * (index + count) as usize;
        match table {
            Some(table) => change.edit(&table, bytes, store),
            None => store(crate::bytes::slice_mut(&mut inode.map, bytes.start, bytes.len())),
        }
        Ok(())
    }

    /// Blocks whose numbers fit into a map.
    async fn find_narrow(&self, goal: u64, count: u32) -> Result<(u64, u32)> {
        let (start, count) = self.find_blocks(goal, count).await?;
        if u32::try_from(start + u64::from(count)).is_ok() { Ok((start, count)) } else { Err(self.full()) }
    }

    /// The last table on a way, with all before it; none for a block that the inode names.
    async fn make_tables(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        way: &Way,
        goal: &mut u64,
    ) -> Result<Option<Block>> {
        let mut last: Option<Block> = None;
        let mut at = way.slot;
        for index in &way.pointers {
            let pointer = last.as_ref().map_or_else(|| slot(inode, at), |table| pointer_in(table, at));
            let table = if pointer == 0 {
                let (number, count) = self.find_narrow(*goal, 1).await?;
                self.take_run(change, number, count).await?;
                *goal = number + 1;
                let number = number as u32;
                inode.add_blocks(&self.superblock, 1);
                set_pointer(change, inode, last.as_ref(), at, number);
                change.fresh(u64::from(number), Kind::Plain)?
            } else {
                self.table(inode, pointer).await?
            };
            last = Some(table);
            at = *index;
        }
        Ok(last)
    }

    /// See [`cut`](Ext4::cut).
    pub(super) async fn cut_mapped(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        first: u32,
        last: u32,
    ) -> Result<Progress> {
        let mut groups: Vec<u32> = Vec::new();
        let mut tables_left = MOST_TABLES;
        let first = u64::from(first);
        let mut end = (u64::from(last) + 1).min(most_blocks(&self.superblock));
        while end > first {
            let Some(way) = Way::to(&self.superblock, (end - 1) as u32) else { return Ok(Progress::Done) };
            let tables = match self.tables(inode, &way).await? {
                Found::Table(tables) => tables,
                Found::Missing(tables) => {
                    end = way.start(tables.len()).max(first);
                    continue;
                }
            };
            if tables_left == 0 {
                return Ok(Progress::More);
            }
            tables_left -= u32::from(!tables.is_empty());
            let index = way.pointers.last().copied().unwrap_or(way.slot);
            let base = end - 1 - u64::from(index);
            let from = (first.max(base) - base) as u32;
            let done = self.cut_table(change, inode, tables.last(), from..index + 1, &mut groups).await?;
            if done > from {
                return Ok(Progress::More);
            }
            self.free_empty_tables(change, inode, &way, &tables).await?;
            end = base + u64::from(from);
        }
        Ok(Progress::Done)
    }

    /// Frees what the pointers of a range of a table name, the last ones first; gives the first one that was worked on.
    async fn cut_table(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        table: Option<&Block>,
        range: Range<u32>,
        groups: &mut Vec<u32>,
    ) -> Result<u32> {
        let mut end = range.end;
        while end > range.start {
            let pointer = |at: u32| table.map_or_else(|| slot(inode, at), |table| pointer_in(table, at));
            let last = pointer(end - 1);
            if last == 0 {
                end -= 1;
                continue;
            }
            let mut from = end - 1;
            while from > range.start && pointer(from - 1) != 0 && pointer(from - 1) == last - (end - from) {
                from -= 1;
            }
            let count = end - from;
            let start = u64::from(last - (count - 1));
            for block in [start, u64::from(last)] {
                let group = self.superblock.group_of(block).map_or(0, |(group, _)| group);
                if !groups.contains(&group) {
                    groups.push(group);
                }
            }
            if groups.len() > MOST_GROUPS {
                return Ok(end);
            }
            self.free_blocks(change, start, u64::from(count), super::held(inode)).await?;
            inode.remove_blocks(&self.superblock, u64::from(count));
            let bytes = 4 * from as usize..4 * end as usize;
            match table {
                Some(table) => change.edit(table, bytes, |bytes| bytes.fill(0)),
                None => crate::bytes::slice_mut(&mut inode.map, bytes.start, bytes.len()).fill(0),
            }
            end = from;
        }
        Ok(end)
    }

    /// Frees the tables on a way that have become empty, the last one first.
    async fn free_empty_tables(
        &self,
        change: &Change<'_, D>,
        inode: &mut Inode,
        way: &Way,
        tables: &[Block],
    ) -> Result<()> {
        for (level, table) in tables.iter().enumerate().rev() {
            if table.read(|bytes| bytes.iter().any(|byte| *byte != 0)) {
                return Ok(());
            }
            self.free_blocks(change, table.number(), 1, Held::Metadata).await?;
            inode.remove_blocks(&self.superblock, 1);
            match level.checked_sub(1) {
                Some(above) => {
                    let at = way.pointers.get(above).copied().unwrap_or(0);
                    set_pointer(change, inode, tables.get(above), at, 0);
                }
                None => set_pointer(change, inode, None, way.slot, 0),
            }
        }
        Ok(())
    }
}

/// A pointer of the inode.
fn slot(inode: &Inode, index: u32) -> u32 {
    u32_at(&inode.map, 4 * index as usize)
}

fn pointer_in(table: &Block, index: u32) -> u32 {
    table.read(|bytes| u32_at(bytes, 4 * index as usize))
}

/// Sets a pointer of a table, or of the inode.
fn set_pointer<D: Device>(change: &Change<'_, D>, inode: &mut Inode, table: Option<&Block>, index: u32, to: u32) {
    let at = 4 * index as usize;
    match table {
        Some(table) => change.edit(table, at..at + 4, |bytes| put_u32(bytes, 0, to)),
        None => put_u32(&mut inode.map, at, to),
    }
}

/// What lies at `block`, whose pointer is the first of `range`: pointers that go on, or nothing.
fn lie(block: u32, range: Range<u32>, pointer: impl Fn(u32) -> u32) -> Lie {
    let start = pointer(range.start);
    let same = |at: &u32| match start {
        0 => pointer(*at) == 0,
        _ => start.checked_add(at - range.start) == Some(pointer(*at)),
    };
    let count = range.clone().take_while(same).count() as u32;
    if start == 0 {
        return Lie::Until(u64::from(block) + u64::from(count));
    }
    Lie::In(Extent { first: block, count: count.max(1), start: u64::from(start), state: State::Written })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_every_level_count_back_to_their_block() {
        let superblock = crate::superblock::tests::example(1024);
        for block in [0, 11, 12, 267, 268, 268 + 255, 268 + 65_535, 268 + 65_536, 16_843_019] {
            let way = Way::to(&superblock, block).unwrap();
            assert_eq!(way.start(way.pointers.len()), u64::from(block), "{block}");
        }
        assert!(Way::to(&superblock, 16_843_020).is_none());
        assert_eq!(most_blocks(&superblock), 16_843_020);
    }
}
