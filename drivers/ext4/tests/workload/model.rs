//! What a file system should have, and what it has.

use crate::simulated::Disk;
use ext4::device::SECTOR_BYTES;
use ext4::{Device as _, Ext4, FileKind, ROOT, Rename, Result, Target};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// What a block of a file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A value, again and again.
    Data(u64),
    /// Nothing, but it has a place.
    Zeroes,
    /// What nobody wrote.
    Garbage,
}

/// A file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: FileKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    /// Of a regular file.
    pub(crate) size: u64,
    pub(crate) target: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) blocks: BTreeMap<u64, Content>,
}

impl Node {
    pub(crate) fn new(kind: FileKind, mode: u16, uid: u32, target: &[u8]) -> Self {
        let (xattrs, blocks) = Default::default();
        Self { kind, mode, uid, size: 0, target: target.to_vec(), xattrs, blocks }
    }
}

/// All files below the root, and their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) nodes: BTreeMap<u32, Node>,
    pub(crate) names: BTreeMap<(u32, Vec<u8>), u32>,
}

impl Model {
    pub(crate) fn node(&mut self, inode: u32) -> &mut Node {
        self.nodes.get_mut(&inode).unwrap()
    }

    /// Files of a kind; of directories only those that have a name.
    pub(crate) fn of_kind(&self, kind: FileKind) -> Vec<u32> {
        let all = self.nodes.iter().filter(|(_, node)| node.kind == kind).map(|(inode, _)| *inode);
        all.filter(|inode| kind != FileKind::Directory || self.is_named(*inode)).collect()
    }

    fn is_named(&self, inode: u32) -> bool {
        self.names.values().any(|named| *named == inode)
    }

    pub(crate) fn nameless(&self) -> Vec<u32> {
        self.nodes.keys().copied().filter(|inode| !self.is_named(*inode)).collect()
    }

    /// What is left after a mount that ends files without a name.
    pub(crate) fn without_nameless(&self) -> Self {
        let mut model = self.clone();
        for inode in self.nameless() {
            model.nodes.remove(&inode);
        }
        model
    }

    pub(crate) fn is_empty(&self, directory: u32) -> bool {
        !self.names.keys().any(|(parent, _)| *parent == directory)
    }

    fn is_directory(&self, inode: u32) -> bool {
        self.nodes[&inode].kind == FileKind::Directory
    }

    fn is_below(&self, directory: u32, top: u32) -> bool {
        let mut at = directory;
        while at != top {
            let Some(((parent, _), _)) = self.names.iter().find(|(_, inode)| **inode == at) else { return false };
            at = *parent;
        }
        true
    }

    /// Renames as rename(2) does. Whether it is possible.
    pub(crate) fn rename(&mut self, from: &(u32, Vec<u8>), to: &(u32, Vec<u8>), how: Rename) -> bool {
        let moved = self.names[from];
        let other = self.names.get(to).copied();
        let circle = self.is_directory(moved) && self.is_below(to.0, moved);
        match (how, other) {
            (Rename::NoReplace, Some(_)) | (Rename::Exchange, None) => return false,
            _ if circle => return false,
            (Rename::Exchange, Some(other)) => {
                if self.is_directory(other) && self.is_below(from.0, other) {
                    return false;
                }
                self.names.insert(from.clone(), other);
                self.names.insert(to.clone(), moved);
                return true;
            }
            (_, Some(other)) if other == moved => return true,
            (_, Some(other)) if self.is_directory(other) != self.is_directory(moved) => return false,
            (_, Some(other)) if self.is_directory(other) && !self.is_empty(other) => return false,
            (Rename::Replace | Rename::NoReplace, _) => {}
        }
        self.names.remove(from);
        self.names.insert(to.clone(), moved);
        true
    }
}

/// What a mounted file system has below its root, but `lost+found`.
pub(crate) async fn observe(fs: &Ext4<Disk>, disk: &Disk) -> Result<Model> {
    let mut model = Model::default();
    let mut directories = vec![ROOT];
    while let Some(directory) = directories.pop() {
        let mut entries = Vec::new();
        fs.list(directory, 0, |entry| {
            entries.push((entry.inode, entry.name.to_vec(), entry.kind));
            ControlFlow::Continue(())
        })
        .await?;
        for (inode, name, kind) in entries {
            if name == b"." || name == b".." || name == b"lost+found" {
                continue;
            }
            model.names.insert((directory, name), inode);
            if model.nodes.contains_key(&inode) {
                continue;
            }
            let node = observe_node(fs, disk, inode).await?;
            assert!(kind.is_none_or(|kind| kind == node.kind));
            if node.kind == FileKind::Directory {
                directories.push(inode);
            }
            model.nodes.insert(inode, node);
        }
    }
    Ok(model)
}

async fn observe_node(fs: &Ext4<Disk>, disk: &Disk, number: u32) -> Result<Node> {
    let inode = fs.inode(number).await?;
    let kind = inode.kind().unwrap();
    let mut node = Node::new(kind, inode.mode, inode.uid, &[]);
    node.xattrs = fs.xattrs(number).await?.into_iter().collect();
    if kind == FileKind::Symlink {
        node.target = fs.read_link(number).await?;
    }
    if kind == FileKind::Regular {
        node.size = inode.size;
        node.blocks = observe_blocks(fs, disk, number).await?;
    }
    Ok(node)
}

async fn observe_blocks(fs: &Ext4<Disk>, disk: &Disk, number: u32) -> Result<BTreeMap<u64, Content>> {
    let block = u64::from(fs.facts().block_bytes);
    let mut blocks = BTreeMap::new();
    let mut at = 0;
    while at < 64 {
        for run in fs.map(number, at, 64 - at).await? {
            for index in 0..run.count {
                match run.target {
                    Target::Hole => continue,
                    Target::Unwritten(_) => blocks.insert(run.first + index, Content::Zeroes),
                    Target::Written(start) => {
                        blocks.insert(run.first + index, content(disk, block, start + index).await?)
                    }
                };
            }
            at = run.first + run.count;
        }
    }
    Ok(blocks)
}

async fn content(disk: &Disk, block: u64, at: u64) -> Result<Content> {
    let mut bytes = vec![0; block as usize];
    disk.read(at * block / SECTOR_BYTES as u64, &mut bytes).await?;
    let value = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let uniform = bytes.chunks(8).all(|word| word == value.to_le_bytes());
    Ok(if uniform { Content::Data(value) } else { Content::Garbage })
}
