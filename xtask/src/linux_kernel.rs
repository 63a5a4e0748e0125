//! The Linux that Quire is compared with: the distribution's kernel for virtual machines, with busybox.

use crate::build::Artifacts;
use crate::options::Addition;
use crate::process;
use crate::progress::Step;
use crate::root_files::BUSYBOX;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A package that depends on the newest kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// No mitigations: the emulated CPU has nothing to mitigate, and Quire has none either.
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off";

/// The kernel of the distribution, downloaded as a package and unpacked once.
pub(crate) fn provide(artifacts: &Artifacts) -> Result<PathBuf> {
    let cache = &artifacts.work_directory()?.join("linux");
    if let Some(kernel) = find_kernel(cache) {
        return Ok(kernel);
    }
    fs::create_dir_all(cache).with_context(|| format!("can't make {}", cache.display()))?;
    let depends = process::output_of(Command::new("apt-cache").args(["depends", META_PACKAGE]))?;
    let package = depends.split_whitespace().find(|word| word.starts_with("linux-image-") && *word != META_PACKAGE);
    let package = package.with_context(|| format!("no package {META_PACKAGE} is known (apt-get update?)"))?;
    let step = Step::begin(format!("downloading {package}"));
    process::run(Command::new("apt-get").current_dir(cache).args(["download", "-q", package]).stdout(Stdio::null()))?;
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            process::run(Command::new("dpkg").arg("-x").arg(&path).arg(cache))?;
            fs::remove_file(&path)?;
        }
    }
    step.done();
    find_kernel(cache).with_context(|| format!("the package {package} has no kernel"))
}

fn find_kernel(cache: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(cache.join("boot")).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("vmlinuz-")))
}

/// Where the modules lie in the guest that are loaded at its start.
const MODULES: &str = "/modules";
/// The modules for virtio disks, in the order in which they need each other.
const DISK_MODULES: [&str; 6] = [
    "virtio/virtio.ko",
    "virtio/virtio_ring.ko",
    "virtio/virtio_pci_modern_dev.ko",
    "virtio/virtio_pci_legacy_dev.ko",
    "virtio/virtio_pci.ko",
    "block/virtio_blk.ko",
];

/// The modules that a guest with disks needs, as files for it: [`initial_file_system`] loads them.
pub(crate) fn disk_modules(artifacts: &Artifacts) -> Result<Vec<Addition>> {
    let modules = artifacts.work_directory()?.join("linux/lib/modules");
    let version = fs::read_dir(&modules).with_context(|| format!("can't list {}", modules.display()))?.next();
    let drivers = version.context("the kernel's package has no modules")??.path().join("kernel/drivers");
    let file =
        |(index, name): (usize, &&str)| Addition { host: drivers.join(name), guest: format!("{MODULES}/{index}.ko") };
    Ok(DISK_MODULES.iter().enumerate().map(file).collect())
}

/// A cpio archive with busybox and some files, and an `init` that runs the script and switches the machine off.
pub(crate) fn initial_file_system(files: &[Addition], script: &str) -> Result<Vec<u8>> {
    const PROGRAM_MODE: u32 = 0o755;
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    for name in ["bin", "proc", "dev", "tmp", "mnt"] {
        fs::create_dir(root.join(name))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sh"))?;
    for Addition { host, guest } in files {
        let path = root.join(guest.trim_start_matches('/'));
        path.parent().map(fs::create_dir_all).transpose()?;
        fs::copy(host, &path).with_context(|| format!("copying {}", host.display()))?;
    }
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n/bin/busybox mount -t devtmpfs dev /dev\n\
         /bin/busybox mount -t tmpfs tmp /tmp\n\
         for module in {MODULES}/*.ko; do [ -e $module ] && /bin/busybox insmod $module; done\n\
         {script}\n/bin/busybox poweroff -f\n"
    );
    let path = root.join("init");
    fs::write(&path, init)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(PROGRAM_MODE))?;
    let mut pack = Command::new("/bin/sh");
    pack.current_dir(root).args(["-c", &format!("{BUSYBOX} find . | {BUSYBOX} cpio -o -H newc 2>/dev/null")]);
    let output = pack.output().context("can't start the shell")?;
    if !output.status.success() {
        bail!("`{}` failed ({})", process::describe(&pack), output.status);
    }
    Ok(output.stdout)
}
