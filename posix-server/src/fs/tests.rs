//! The name space as a whole: paths, permissions, opening, and the tree against a model.

extern crate std;
use super::change::{self, New, Rename};
use super::content::Content;
use super::open::{self, How, Opened, Opener};
use super::walk::{Actor, LastLink, Walk};
use super::*;
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::file::io::SliceSource;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::format;
use std::string::String;

struct World {
    context: FsContext,
    credentials: Credentials,
}

impl World {
    fn new() -> Self {
        let (filesystem, root) = tmpfs::new(0o755);
        let namespace = Namespace::new(&filesystem, root);
        Self { context: FsContext::new(&namespace), credentials: Credentials::root() }
    }

    fn as_user(&self, uid: u32) -> Self {
        Self { context: self.context.clone(), credentials: Credentials::user(uid, uid) }
    }

    fn actor(&self) -> Actor<'_> {
        Actor { context: &self.context, credentials: &self.credentials }
    }

    fn parent(&self, path: &str) -> Result<walk::Parent> {
        Walk::new(self.actor()).parent(&self.context.cwd, path.as_bytes())
    }

    fn place(&self, path: &str) -> Result<Location> {
        Walk::new(self.actor()).place(&self.context.cwd, path.as_bytes(), LastLink::Follow)
    }

    fn make(&self, path: &str, permissions: u32, new: New) -> Result<()> {
        change::create(self.actor(), &self.parent(path)?, permissions, new).map(|_| ())
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        self.make(path, 0o777, New::Directory)
    }

    fn create(&self, path: &str) -> Result<()> {
        self.make(path, 0o666, New::Node(Body::Regular(Content::empty())))
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.make(path, 0o777, New::Link(target.as_bytes().to_vec()))
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        let old = Walk::new(self.actor()).place(&self.context.cwd, old.as_bytes(), LastLink::Keep)?;
        change::link(self.actor(), &old, &self.parent(new)?)
    }

    fn unlink(&self, path: &str) -> Result<()> {
        change::unlink(self.actor(), &self.parent(path)?)
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        change::remove_directory(self.actor(), &self.parent(path)?)
    }

    fn rename(&self, old: &str, new: &str, how: Rename) -> Result<()> {
        change::rename(self.actor(), &self.parent(old)?, &self.parent(new)?, how)
    }

    fn open(&self, path: &str, flags: u32) -> Result<Rc<OpenFile>> {
        let devices = self.context.namespace.devices();
        let opener = Opener { actor: self.actor(), devices, terminal: &|| None };
        match open::open(opener, &self.context.cwd, path.as_bytes(), How::lenient(flags, 0o644))? {
            Opened::File(file) | Opened::Waiting(file, _) => Ok(file),
        }
    }

    /// All paths below the root with the number of the inode's links, sorted.
    fn tree(&self) -> BTreeMap<String, u32> {
        let mut found = BTreeMap::new();
        let mut open = Vec::from([(String::new(), self.context.root.dentry.clone())]);
        while let Some((path, dentry)) = open.pop() {
            found.insert(path.clone(), dentry.inode().links());
            let Ok(directory) = dentry.inode().directory() else { continue };
            let mut names = Vec::new();
            directory
                .list(body::FIRST_ENTRY, &mut |entry| {
                    names.push(entry.name.to_vec());
                    body::Listing::Continue
                })
                .unwrap();
            for name in names {
                let child = directory.lookup(&dentry, &name).unwrap();
                open.push((format!("{path}/{}", String::from_utf8_lossy(&name)), child));
            }
        }
        found
    }
}

#[test]
fn paths_lead_through_dots_links_and_the_root() {
    let world = World::new();
    world.mkdir("d").unwrap();
    world.create("d/f").unwrap();
    world.symlink("/d", "absolute").unwrap();
    world.symlink("d/../absolute/f", "winding").unwrap();
    for path in ["d/f", "/d/./f", "../../d//f", "absolute/f", "winding", "absolute/../d/f"] {
        assert!(world.place(path).is_ok(), "{path}");
    }
    let refused = [
        ("", Errno::ENOENT),
        ("d/x", Errno::ENOENT),
        ("d/f/", Errno::ENOTDIR),
        ("d/f/.", Errno::ENOTDIR),
        ("d/f/x", Errno::ENOTDIR),
        ("winding/", Errno::ENOTDIR),
        ("d/x/..", Errno::ENOENT),
    ];
    for (path, errno) in refused {
        assert_eq!(world.place(path).err(), Some(errno), "{path}");
    }
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let world = World::new();
    world.create("link0").unwrap();
    for number in 1..=41 {
        world.symlink(&format!("link{}", number - 1), &format!("link{number}")).unwrap();
    }
    assert!(world.place("link40").is_ok());
    assert_eq!(world.place("link41").err(), Some(Errno::ELOOP));
}

#[test]
fn every_directory_on_the_way_must_be_searchable() {
    let world = World::new();
    world.mkdir("closed").unwrap();
    world.create("closed/f").unwrap();
    world.place("closed").unwrap().inode().set_permissions(0o700);
    let user = world.as_user(1000);
    assert!(user.place("closed").is_ok());
    for path in ["closed/f", "closed/nothing", "closed/..", "closed/."] {
        assert_eq!(user.place(path).err(), Some(Errno::EACCES), "{path}");
    }
    assert_eq!(user.create("f").err(), Some(Errno::EACCES));
    assert_eq!(user.create("closed").err(), Some(Errno::EEXIST), "that the name is taken comes first");
}

#[test]
fn a_name_in_a_sticky_directory_is_its_owners() {
    let world = World::new();
    world.mkdir("tmp").unwrap();
    world.place("tmp").unwrap().inode().set_permissions(0o1777);
    let (alice, bob) = (world.as_user(1), world.as_user(2));
    alice.create("tmp/a").unwrap();
    assert_eq!(bob.unlink("tmp/a"), Err(Errno::EPERM));
    assert_eq!(bob.rename("tmp/a", "tmp/b", Rename::Replace), Err(Errno::EPERM));
    alice.rename("tmp/a", "tmp/b", Rename::Replace).unwrap();
    world.unlink("tmp/b").unwrap();
}

#[test]
fn opening_follows_dangling_links_when_it_may_create() {
    let world = World::new();
    world.symlink("target", "link").unwrap();
    assert_eq!(world.open("link", linux::O_RDONLY).err(), Some(Errno::ENOENT));
    assert_eq!(world.open("link", linux::O_CREAT | linux::O_EXCL).err(), Some(Errno::EEXIST));
    world.open("link", linux::O_CREAT | linux::O_WRONLY).unwrap();
    assert!(world.place("target").is_ok());
    assert_eq!(world.open("link", linux::O_NOFOLLOW).err(), Some(Errno::ELOOP));
    assert_eq!(world.open("target/", linux::O_CREAT).err(), Some(Errno::EISDIR));
    assert_eq!(world.open("/", linux::O_RDWR).err(), Some(Errno::EISDIR));
}

#[test]
fn an_unlinked_file_lives_as_long_as_it_is_open() {
    let world = World::new();
    let file = world.open("f", linux::O_CREAT | linux::O_RDWR).unwrap();
    file.write(&mut SliceSource::new(b"content")).unwrap();
    let inodes = file.inode().filesystem().inodes();
    world.unlink("f").unwrap();
    assert_eq!((file.inode().links(), file.inode().size()), (0, 7));
    let filesystem = file.inode().filesystem().clone();
    drop(file);
    assert_eq!(filesystem.inodes(), inodes - 1);
}

#[test]
fn a_removed_working_directory_takes_no_new_names_but_leads_up() {
    let mut world = World::new();
    world.mkdir("d").unwrap();
    world.context.cwd = world.place("d").unwrap();
    world.rmdir("../d").unwrap();
    assert_eq!(world.create("f"), Err(Errno::ENOENT));
    assert!(world.place("..").unwrap().is_same(&world.context.root));
    assert_eq!(world.context.cwd.shown_path(&world.context.root), b"/d (deleted)");
}

#[test]
fn a_long_chain_of_removed_directories_goes_without_recursion() {
    let mut world = World::new();
    let mut depth = 0;
    while depth < 5_000 {
        world.mkdir("d").unwrap();
        world.context.cwd = world.place("d").unwrap();
        depth += 1;
    }
    let deepest = world.context.cwd.clone();
    let mut above = deepest.parent();
    while depth > 0 {
        let in_parent = World {
            context: FsContext { cwd: above.clone(), ..world.context.clone() },
            credentials: Credentials::root(),
        };
        in_parent.rmdir("d").unwrap();
        above = above.parent();
        depth -= 1;
    }
    world.context.cwd = world.context.root.clone();
    drop(deepest);
}

#[test]
fn the_root_of_a_process_is_not_left() {
    let mut world = World::new();
    world.mkdir("jail").unwrap();
    world.mkdir("jail/d").unwrap();
    world.create("outside").unwrap();
    world.symlink("/outside", "jail/link").unwrap();
    world.context.root = world.place("jail").unwrap();
    world.context.cwd = world.place("/d").unwrap();
    for path in ["../../../outside", "/../outside", "/link"] {
        assert_eq!(world.place(path).err(), Some(Errno::ENOENT), "{path}");
    }
}

#[test]
fn what_is_mounted_covers_and_its_dot_dot_leads_out() {
    let world = World::new();
    world.mkdir("mnt").unwrap();
    world.create("mnt/covered").unwrap();
    let (filesystem, root) = tmpfs::new(0o755);
    world.context.namespace.mount(&filesystem, root, world.place("mnt").unwrap()).unwrap();
    world.create("mnt/new").unwrap();
    assert_eq!(world.place("mnt/covered").err(), Some(Errno::ENOENT));
    assert!(world.place("mnt/..").unwrap().is_same(&world.context.root));
    assert_eq!(world.place("mnt/new").unwrap().shown_path(&world.context.root), b"/mnt/new");
    assert_eq!(world.rmdir("mnt"), Err(Errno::EBUSY));
    world.create("f").unwrap();
    assert_eq!(world.rename("f", "mnt/f", Rename::Replace), Err(Errno::EXDEV));
    assert_eq!(world.link("f", "mnt/f"), Err(Errno::EXDEV));
}

#[test]
fn exchanging_a_file_and_a_directory_keeps_the_links_right() {
    let world = World::new();
    for path in ["a", "b", "a/d"] {
        world.mkdir(path).unwrap();
    }
    world.create("b/f").unwrap();
    world.rename("a/d", "b/f", Rename::Exchange).unwrap();
    let tree = world.tree();
    assert_eq!((tree["/a"], tree["/b"], tree["/a/d"], tree["/b/f"]), (2, 3, 1, 2));
}

/// A tree as a map from path to file: a directory, or the number of a file that several paths may share.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Directory,
    File(usize),
}

#[derive(Clone, Debug, Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
    files: usize,
}

impl Model {
    fn node(&self, path: &str) -> Result<Option<&Node>> {
        self.check_above(path)?;
        Ok(self.nodes.get(path))
    }

    fn check_above(&self, path: &str) -> Result<()> {
        for (index, _) in path.match_indices('/').skip(1) {
            match self.nodes.get(&path[..index]) {
                None => return Err(Errno::ENOENT),
                Some(Node::File(_)) => return Err(Errno::ENOTDIR),
                Some(Node::Directory) => {}
            }
        }
        Ok(())
    }

    fn has_children(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.nodes.keys().any(|other| other.starts_with(&below))
    }

    fn add(&mut self, path: &str, node: Node) -> Result<()> {
        if self.node(path)?.is_some() {
            return Err(Errno::EEXIST);
        }
        self.nodes.insert(String::from(path), node);
        Ok(())
    }

    fn create(&mut self, path: &str) -> Result<()> {
        self.files += 1;
        self.add(path, Node::File(self.files))
    }

    fn link(&mut self, old: &str, new: &str) -> Result<()> {
        let node = self.node(old)?.cloned().ok_or(Errno::ENOENT)?;
        if self.node(new)?.is_some() {
            return Err(Errno::EEXIST);
        }
        if node == Node::Directory { Err(Errno::EPERM) } else { self.add(new, node) }
    }

    fn unlink(&mut self, path: &str) -> Result<()> {
        match self.node(path)? {
            None => Err(Errno::ENOENT),
            Some(Node::Directory) => Err(Errno::EISDIR),
            Some(Node::File(_)) => {
                self.nodes.remove(path);
                Ok(())
            }
        }
    }

    fn rmdir(&mut self, path: &str) -> Result<()> {
        match self.node(path)? {
            None => Err(Errno::ENOENT),
            Some(Node::File(_)) => Err(Errno::ENOTDIR),
            Some(Node::Directory) if self.has_children(path) => Err(Errno::ENOTEMPTY),
            Some(Node::Directory) => {
                self.nodes.remove(path);
                Ok(())
            }
        }
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<()> {
        self.check_above(old)?;
        self.check_above(new)?;
        let node = self.nodes.get(old).cloned().ok_or(Errno::ENOENT)?;
        let target = self.nodes.get(new).cloned();
        if new.starts_with(&format!("{old}/")) {
            return Err(Errno::EINVAL);
        }
        if old.starts_with(&format!("{new}/")) {
            return Err(Errno::ENOTEMPTY);
        }
        if old == new {
            return Ok(());
        }
        match (&node, &target) {
            (Node::File(one), Some(Node::File(other))) if one == other => return Ok(()),
            (Node::Directory, Some(Node::File(_))) => return Err(Errno::ENOTDIR),
            (Node::File(_), Some(Node::Directory)) => return Err(Errno::EISDIR),
            (Node::Directory, Some(Node::Directory)) if self.has_children(new) => return Err(Errno::ENOTEMPTY),
            (Node::Directory | Node::File(_), _) => {}
        }
        let below = format!("{old}/");
        let moved: Vec<String> =
            self.nodes.keys().filter(|path| *path == old || path.starts_with(&below)).cloned().collect();
        for path in moved {
            let node = self.nodes.remove(&path).unwrap();
            self.nodes.insert(format!("{new}{}", &path[old.len()..]), node);
        }
        Ok(())
    }

    /// The paths with the number of links that each should have.
    fn tree(&self) -> BTreeMap<String, u32> {
        let is_in = |path: &str, directory: &str| {
            path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/') && !rest[1..].contains('/'))
        };
        let subdirectories = |directory: &str| {
            self.nodes.iter().filter(|(path, node)| **node == Node::Directory && is_in(path, directory)).count() as u32
        };
        let mut tree = BTreeMap::from([(String::new(), 2 + subdirectories(""))]);
        for (path, node) in &self.nodes {
            let links = match node {
                Node::Directory => 2 + subdirectories(path),
                Node::File(number) => self.nodes.values().filter(|other| **other == Node::File(*number)).count() as u32,
            };
            tree.insert(path.clone(), links);
        }
        tree
    }
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("/a"), Just("/b"), Just("/c")], 1..4).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_tree_behaves_like_a_map(steps in proptest::collection::vec((0u8..7, path(), path()), 1..60)) {
        let world = World::new();
        let mut model = Model::default();
        for (what, one, other) in steps {
            let (real, expected) = match what {
                0 | 1 => (world.mkdir(&one), model.add(&one, Node::Directory)),
                2 => (world.create(&one), model.create(&one)),
                3 => (world.link(&one, &other), model.link(&one, &other)),
                4 => (world.unlink(&one), model.unlink(&one)),
                5 => (world.rmdir(&one), model.rmdir(&one)),
                _ => (world.rename(&one, &other, Rename::Replace), model.rename(&one, &other)),
            };
            prop_assert_eq!(real, expected, "step {} {} {}", what, one, other);
            prop_assert_eq!(world.tree(), model.tree());
        }
        prop_assert_eq!(world.context.root.inode().filesystem().inodes() as usize,
            1 + model.nodes.values().filter(|node| **node == Node::Directory).count()
            + model.nodes.values().filter_map(|node| match node { Node::File(number) => Some(*number), Node::Directory => None })
                .collect::<std::collections::BTreeSet<_>>().len());
    }
}
