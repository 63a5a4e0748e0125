//! Disks of a guest: image files, as QEMU's virtio-blk devices.

use crate::image::{self, Reuse, Sizes};
use crate::process;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a guest's root file system is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Root {
    /// In its memory: the files come with the boot archive.
    #[default]
    Archive,
    /// On an image that is made for this guest, and goes with it.
    Image(Sizes),
    /// On the image that lasts.
    LastingImage(Sizes, Reuse),
    /// On an image that somebody else has made.
    Disk(Disk),
}

/// An image file that is to be a disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) file: PathBuf,
    pub(crate) changes: Changes,
    pub(crate) layer: Layer,
    /// Where the guest mounts its file system, if it does.
    pub(crate) mount: Option<String>,
    pub(crate) interface: Interface,
}

/// What the guest sees a disk as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Interface {
    #[default]
    Virtio,
    Nvme,
}

/// What becomes of what the guest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changes {
    /// The file has it.
    Kept,
    /// The guest works on a copy, which goes with it.
    Lost,
    /// The same, and there is something wrong with it, so that it is not checked afterwards.
    LostAndDamaged,
}

/// What lies between a disk and its file.
#[derive(Clone, Debug, Default)]
pub(crate) enum Layer {
    #[default]
    Nothing,
    /// Everything that is written is logged to this file, too, in the format of Linux's dm-log-writes.
    WriteLog(PathBuf),
    /// Requests fail as these rules say (QEMU's `blkdebug`).
    Failures(Vec<Failure>),
}

/// Which requests fail.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// `read`, `write`, `flush`, `discard` or `write-zeroes`.
    pub(crate) request: &'static str,
    /// Only those that touch this sector of 512 bytes.
    pub(crate) sector: Option<u64>,
    /// Only the first of them.
    pub(crate) once: bool,
}

/// A disk of a guest that boots.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    file: PathBuf,
    layer: Layer,
    boot: Boot,
    interface: Interface,
    is_damaged: bool,
}

/// Whether the firmware boots from a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    First,
    Never,
}

impl Root {
    /// The same, with other sizes of an image that we make, and more or less regard for one that is there.
    pub(super) fn with(self, sizes: Sizes, reuse: Reuse) -> Self {
        match self {
            Self::Image(_) => Self::Image(sizes),
            Self::LastingImage(..) => Self::LastingImage(sizes, reuse),
            Self::Archive | Self::Disk(_) => self,
        }
    }
}

impl Disk {
    /// A disk whose changes are kept.
    pub(crate) fn kept(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            changes: Changes::Kept,
            layer: Layer::Nothing,
            mount: None,
            interface: Interface::Virtio,
        }
    }

    /// The guest's name of the file system on this disk, if it is the guest's disk with this index.
    pub(super) fn device(&self, index: usize) -> Result<String> {
        match image::volumes(&self.file)?.first() {
            Some((partition, _)) => Ok(device(index, *partition)),
            None => bail!("{} has no ext file system", self.file.display()),
        }
    }

    /// The disk, or a copy of it in `directory`.
    pub(super) fn attach(&self, index: usize, directory: &Path) -> Result<Attached> {
        let file = match self.changes {
            Changes::Kept => self.file.clone(),
            Changes::Lost | Changes::LostAndDamaged => {
                let copy = directory.join(format!("disk{index}"));
                let mut cp = Command::new("cp");
                process::run(cp.args(["--sparse=always", "--reflink=auto"]).arg(&self.file).arg(&copy))?;
                copy
            }
        };
        let is_damaged = self.changes == Changes::LostAndDamaged;
        Ok(Attached { layer: self.layer.clone(), interface: self.interface, is_damaged, ..Attached::of(file) })
    }
}

/// The guest's name of a disk, or of a partition of it.
pub(super) fn device(index: usize, partition: Option<u32>) -> String {
    let letter = u8::try_from(index).ok().and_then(|index| b'a'.checked_add(index)).map_or('?', char::from);
    let partition = partition.map(|number| number.to_string()).unwrap_or_default();
    format!("/dev/vd{letter}{partition}")
}

impl Attached {
    /// A file that is a disk.
    pub(super) fn of(file: PathBuf) -> Self {
        Self { file, layer: Layer::Nothing, boot: Boot::Never, interface: Interface::Virtio, is_damaged: false }
    }

    /// A file that the firmware boots from.
    pub(super) fn bootable(file: PathBuf) -> Self {
        Self { file, layer: Layer::Nothing, boot: Boot::First, interface: Interface::Virtio, is_damaged: false }
    }

    /// Whether this is its file.
    pub(super) fn is(&self, file: &Path) -> bool {
        self.file == file
    }

    /// QEMU's arguments for the disk with this index.
    pub(super) fn arguments(&self, index: usize, properties: &str) -> Vec<String> {
        let file = json!({ "driver": "file", "filename": self.file });
        let name = format!("disk{index}");
        let mut node = self.layer.over(json!({ "driver": "raw", "file": file }));
        if let Value::Object(fields) = &mut node {
            fields.insert("node-name".to_owned(), json!(name));
        }
        let boot = match self.boot {
            Boot::First => ",bootindex=0",
            Boot::Never => "",
        };
        // An error of the file is an error of the disk; otherwise the machine would stop.
        let device = match self.interface {
            Interface::Virtio => format!(
                "virtio-blk-pci,drive={name},serial={name},disable-legacy=on,rerror=report,werror=report{boot}{properties}"
            ),
            Interface::Nvme => format!("nvme,drive={name},serial={name}{boot}"),
        };
        ["-blockdev".to_owned(), node.to_string(), "-device".to_owned(), device].to_vec()
    }

    /// Has the file systems on it checked, which must have been unmounted.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_damaged {
            return Ok(());
        }
        for (partition, volume) in image::volumes(&self.file)? {
            let name = partition.map(|number| format!("partition {number} of ")).unwrap_or_default();
            volume.check().with_context(|| format!("{name}{} is not in order", self.file.display()))?;
        }
        Ok(())
    }
}

impl Layer {
    /// QEMU's description of this layer over an image.
    fn over(&self, image: Value) -> Value {
        match self {
            Self::Nothing => image,
            Self::WriteLog(file) => json!({
                "driver": "blklogwrites",
                "file": image,
                "log": { "driver": "file", "filename": file },
                "log-sector-size": 512,
            }),
            Self::Failures(failures) => {
                let rules: Vec<Value> = failures.iter().map(Failure::rule).collect();
                json!({ "driver": "blkdebug", "image": image, "inject-error": rules })
            }
        }
    }
}

impl Failure {
    fn rule(&self) -> Value {
        const EIO: u32 = 5;
        let mut rule = json!({ "event": "none", "iotype": self.request, "errno": EIO, "once": self.once });
        if let (Value::Object(fields), Some(sector)) = (&mut rule, self.sector) {
            fields.insert("sector".to_owned(), json!(sector));
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_partitions_have_the_names_of_linux() {
        assert_eq!(device(0, None), "/dev/vda");
        assert_eq!(device(2, Some(3)), "/dev/vdc3");
    }

    #[test]
    fn a_layer_lies_between_the_device_and_its_file() {
        let attached = |layer| Attached { layer, ..Attached::of(PathBuf::from("/a,b")) };
        let node = |layer| serde_json::from_str::<Value>(&attached(layer).arguments(1, "")[1]).unwrap();
        assert_eq!(node(Layer::Nothing)["file"]["filename"], "/a,b");
        let logged = node(Layer::WriteLog(PathBuf::from("/log")));
        assert_eq!((&logged["node-name"], &logged["log"]["filename"]), (&json!("disk1"), &json!("/log")));
        let failure = Failure { request: "read", sector: Some(7), once: true };
        assert_eq!(node(Layer::Failures(vec![failure]))["inject-error"][0]["sector"], 7);
    }
}
