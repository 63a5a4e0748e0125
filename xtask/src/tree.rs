//! A tree of files for a guest: as a part of the boot archive, or as a file system on a disk.

use anyhow::{Context as _, Result, bail};
use boot_archive::{Builder, Metadata};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Where the tree lies in a boot archive.
const PREFIX: &str = "root";
/// How many links a path may go through.
const MAX_LINKS: usize = 16;

/// Files, directories and symbolic links by their path: absolute, `""` for the root. Adding a path twice replaces the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, (Metadata, Node)>,
}

#[derive(Clone, Debug, Hash)]
enum Node {
    Directory,
    File(Vec<u8>),
    Symlink(String),
}

impl Tree {
    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str, metadata: Metadata) {
        self.add(path, metadata, Node::Directory);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, metadata: Metadata, content: Vec<u8>) {
        self.add(path, metadata, Node::File(content));
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, metadata: Metadata, target: &str) {
        self.add(path, metadata, Node::Symlink(target.to_owned()));
    }

    fn add(&mut self, path: &str, metadata: Metadata, node: Node) {
        self.nodes.insert(path.to_owned(), (metadata, node));
    }

    /// How many bytes the files have, each rounded up to whole blocks, and the other nodes count as one block.
    pub(crate) fn size_bytes(&self) -> u64 {
        const BLOCK_BYTES: u64 = 4096;
        let size = |node: &Node| match node {
            Node::File(content) => (content.len() as u64).next_multiple_of(BLOCK_BYTES),
            Node::Directory | Node::Symlink(_) => BLOCK_BYTES,
        };
        self.nodes.values().map(|(_, node)| size(node)).sum()
    }

    /// A number that another tree most likely does not have.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, (Metadata { mode, uid, gid, modified_s }, node)) in &self.nodes {
            (path, mode, uid, gid, modified_s, node).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Adds all of it to a boot archive.
    pub(crate) fn move_to(self, archive: &mut Builder) -> Result<()> {
        for (path, (metadata, node)) in self.nodes {
            let path = format!("{PREFIX}{path}");
            match node {
                Node::Directory => archive.directory(&path, metadata)?,
                Node::File(content) => archive.file(&path, metadata, content)?,
                Node::Symlink(target) => archive.symlink(&path, metadata, &target)?,
            };
        }
        Ok(())
    }

    /// Makes all of it below a directory of the host, with modes and times, but as files of whoever we are. Gives the paths of all
    /// that was made, relative to the directory.
    pub(crate) fn write_to(&self, directory: &Path) -> Result<Vec<String>> {
        let mut made = Vec::new();
        for (path, (_, node)) in &self.nodes {
            let place = self.resolved(path)?;
            let host = directory.join(place.trim_start_matches('/'));
            write_node(&host, node).with_context(|| format!("making {}", host.display()))?;
            made.push(place);
        }
        // A directory may be one that nothing can be made in, and gets another time by what is made in it.
        for ((metadata, node), place) in self.nodes.values().zip(&made).rev() {
            if !matches!(node, Node::Symlink(_)) {
                let host = directory.join(place.trim_start_matches('/'));
                fs::set_permissions(&host, Permissions::from_mode(metadata.mode))?;
                let age = Duration::from_secs(u64::try_from(metadata.modified_s).unwrap_or_default());
                // What may be neither read nor written keeps its time.
                if let Ok(file) = File::open(&host) {
                    file.set_modified(UNIX_EPOCH + age)?;
                }
            }
        }
        Ok(made)
    }

    /// The path without links of the tree before its last component: making it on the host must not follow them there.
    fn resolved(&self, path: &str) -> Result<String> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let prefixes = path.match_indices('/').map(|(end, _)| end).filter(|end| *end > 0);
            let link = prefixes.filter_map(|end| Some((end, self.link(path.get(..end)?)?))).next();
            let Some((end, target)) = link else { return Ok(path) };
            let rest = path.get(end..).unwrap_or_default();
            let parent = path.get(..end).and_then(|link| link.rsplit_once('/')).map_or("", |(parent, _)| parent);
            let whole =
                if target.starts_with('/') { format!("{target}{rest}") } else { format!("{parent}/{target}{rest}") };
            path = without_dots(&whole);
        }
        bail!("{path}: too many symbolic links")
    }

    fn link(&self, path: &str) -> Option<&str> {
        match self.nodes.get(path)? {
            (_, Node::Symlink(target)) => Some(target),
            (_, Node::Directory | Node::File(_)) => None,
        }
    }
}

/// A path without `.` and `..`; never above the root.
fn without_dots(path: &str) -> String {
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    components.iter().map(|name| format!("/{name}")).collect()
}

fn write_node(host: &Path, node: &Node) -> Result<()> {
    if let Some(parent) = host.parent() {
        fs::create_dir_all(parent)?;
    }
    match node {
        Node::Directory => fs::create_dir_all(host)?,
        Node::File(content) => fs::write(host, content)?,
        Node::Symlink(target) => symlink(PathBuf::from(target), host)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_a_link_is_made_in_the_tree() {
        let mut tree = Tree::default();
        tree.directory("", Metadata::of_root(0o755));
        tree.directory("/bin", Metadata::of_root(0o555));
        tree.symlink("/usr/bin", Metadata::of_root(0o777), "../bin");
        tree.symlink("/outside", Metadata::of_root(0o777), "/../../bin");
        tree.file("/usr/bin/a", Metadata::of_root(0o4755), vec![1]);
        tree.file("/outside/b/c", Metadata::of_root(0o600), vec![2, 3]);
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let made = tree.write_to(root).unwrap();
        assert!(made.contains(&"/bin/a".to_owned()) && made.contains(&"/bin/b/c".to_owned()), "{made:?}");
        assert_eq!(fs::read(root.join("bin/a")).unwrap(), [1]);
        assert_eq!(fs::read(root.join("bin/b/c")).unwrap(), [2, 3]);
        assert_eq!(fs::metadata(root.join("bin/a")).unwrap().permissions().mode() & 0o7777, 0o4755);
        assert_eq!(fs::metadata(root.join("bin")).unwrap().permissions().mode() & 0o7777, 0o555);
        fs::set_permissions(root.join("bin"), Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn trees_are_told_apart() {
        let mut tree = Tree::default();
        tree.file("/a", Metadata::of_root(0o644), vec![1]);
        let first = tree.fingerprint();
        assert_eq!(first, tree.clone().fingerprint());
        tree.file("/a", Metadata::of_root(0o600), vec![1]);
        assert_ne!(first, tree.fingerprint());
    }
}
