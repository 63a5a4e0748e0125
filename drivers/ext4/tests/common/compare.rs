//! Whether a file system holds what it should.

use super::model::{Model, Node};
use super::run;
use ext4::{Device, FileKind, Target};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

impl Model {
    /// Fails unless the file system holds what it should.
    pub(crate) fn compare(&self) {
        for (number, node) in &self.nodes {
            self.compare_inode(*number, node);
        }
    }

    fn compare_inode(&self, number: u32, node: &Node) {
        let inode = run(self.fs.inode(number)).unwrap();
        let facts = (inode.mode, inode.uid, inode.gid, inode.links);
        assert_eq!(facts, (node.mode, node.uid, node.gid, node.links), "inode {number}: {:?}", node.kind());
        let wide = self.fs.facts().inode_bytes > 128;
        for (time, known) in [inode.accessed, inode.modified, inode.changed].iter().zip(node.times) {
            assert_eq!(time.seconds, known.seconds, "inode {number}");
            assert!(!wide || time.nanoseconds == known.nanoseconds, "inode {number}");
        }
        let xattrs: BTreeMap<_, _> = run(self.fs.xattrs(number)).unwrap().into_iter().collect();
        assert!(xattrs == node.xattrs, "inode {number}: attributes");
        match node.kind() {
            FileKind::Directory => self.compare_names(number, node),
            FileKind::Symlink => assert_eq!(run(self.fs.read_link(number)).as_ref(), Ok(&node.target)),
            FileKind::Regular => {
                assert_eq!(inode.size, node.size, "inode {number}");
                self.compare_blocks(number, node);
            }
            FileKind::CharacterDevice | FileKind::BlockDevice => assert_eq!(inode.device(), Some(node.device)),
            FileKind::Fifo | FileKind::Socket => {}
        }
    }

    fn compare_names(&self, number: u32, node: &Node) {
        let mut names = BTreeMap::new();
        run(self.fs.list(number, 0, |entry| {
            assert!(names.insert(entry.name.to_vec(), entry.inode).is_none());
            ControlFlow::Continue(())
        }))
        .unwrap();
        assert_eq!(names.remove(&b"."[..]), Some(number));
        let parent = names.remove(&b".."[..]);
        assert!(node.links == 0 || parent == Some(node.parent));
        assert!(names == node.names, "directory {number}: {:?} and {:?}", names.len(), node.names.len());
        for (name, inode) in &node.names {
            assert_eq!(run(self.fs.lookup(number, name)), Ok(*inode));
        }
    }

    fn compare_blocks(&self, number: u32, node: &Node) {
        let size = self.block_bytes();
        let (mut at, end) = (0, 70_000);
        let mut found = BTreeMap::new();
        while at < end {
            for run_ in run(self.fs.map(number, at, end - at)).unwrap() {
                if let Target::Written(start) = run_.target {
                    for step in 0..run_.count {
                        let mut bytes = vec![0; size as usize];
                        run(self.disk.read((start + step) * size / 512, &mut bytes)).unwrap();
                        let (tag, rest) = bytes.split_at(8);
                        let tag = u64::from_le_bytes(tag.try_into().unwrap());
                        assert!(rest.chunks(8).all(|word| word == tag.to_le_bytes()));
                        found.insert(run_.first + step, tag);
                    }
                }
                at = run_.first + run_.count;
            }
        }
        assert!(found == node.blocks, "file {number}: {} blocks and {}", found.len(), node.blocks.len());
    }
}
