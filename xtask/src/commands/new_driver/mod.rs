//! `cargo xtask new-driver NAME`: a driver that builds, passes its tests on the host and runs in the guest, to go on from.
//!
//! What it drives is the beginning of QEMU's `edu` device: it recognises it. See `docs/writing-a-driver.md`.

use super::SUCCESS;
use crate::build::workspace;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;

/// The files of a new driver, by their places in its directory. `@NAME@` is its name, `@CRATE@` that in Rust's paths.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("Cargo.toml.txt")),
    ("build.rs", include_str!("../../../../drivers/edu/build.rs")),
    ("src/lib.rs", include_str!("lib.rs.txt")),
    ("src/main.rs", include_str!("main.rs.txt")),
    ("src/machine.rs", include_str!("machine.rs.txt")),
    ("src/registers.rs", include_str!("registers.rs.txt")),
    ("src/simulation.rs", include_str!("simulation.rs.txt")),
    ("src/device.rs", include_str!("device.rs.txt")),
    ("src/device/tests.rs", include_str!("tests.rs.txt")),
];

/// Lists that a driver is in: the file, a line that is there, how often, and the line to be put after it.
const LISTS: &[(&str, &str, usize, &str)] = &[
    ("Cargo.toml", "    \"drivers/edu\",\n", 2, "    \"drivers/@NAME@\",\n"),
    ("xtask/src/build.rs", "    \"edu\",\n", 1, "    \"@NAME@\",\n"),
    ("xtask/src/commands/test/host.rs", "    \"edu\",\n", 1, "    \"@NAME@\",\n"),
    (
        "xtask/src/commands/test/architecture.rs",
        "const RULES: &[Rule] = &[\n",
        1,
        "    Rule {\n        package: \"@NAME@\",\n        imports: &[\"quire-abi\", \"quire-api\", \"driver-protocol\", \
         \"driver-runtime\"],\n        code: Code::Safe,\n    },\n",
    ),
];

/// Makes the driver, unless there is one of that name.
pub(crate) fn run(name: &str) -> Result<u8> {
    make(workspace(), name)?;
    println!("drivers/{name}: a driver, to go on from (docs/writing-a-driver.md)");
    println!("    cargo test --package {name}         its tests, on a simulated device");
    println!("    cargo xtask native driver:{name}    the driver in a guest, on QEMU's edu device");
    Ok(SUCCESS)
}

fn make(workspace: &Path, name: &str) -> Result<()> {
    if !is_name(name) {
        bail!("{name:?}: a driver's name has small letters, digits and single hyphens, and begins with a letter");
    }
    let directory = workspace.join("drivers").join(name);
    if directory.exists() {
        bail!("{} is there already", directory.display());
    }
    // All that can't be done is found out before anything is.
    let mut lists = Vec::new();
    for (file, line, count, more) in LISTS {
        let path = workspace.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
        lists.push((path, listed(&text, line, *count, &fill_in(more, name)).with_context(|| (*file).to_owned())?));
    }
    for (place, text) in FILES {
        let path = directory.join(place);
        fs::create_dir_all(path.parent().unwrap_or(&directory))?;
        fs::write(&path, fill_in(text, name)).with_context(|| format!("can't write {}", path.display()))?;
    }
    lists
        .iter()
        .try_for_each(|(path, text)| fs::write(path, text).with_context(|| format!("can't write {}", path.display())))
}

fn is_name(name: &str) -> bool {
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split('-').all(|part| !part.is_empty() && is_part(part))
}

fn fill_in(text: &str, name: &str) -> String {
    text.replace("@NAME@", name).replace("@CRATE@", &name.replace('-', "_"))
}

/// The text with `more` after each of the `count` places where the line is.
fn listed(text: &str, line: &str, count: usize, more: &str) -> Result<String> {
    let found = text.matches(line).count();
    if found != count {
        bail!("the line {:?} is there {found} times instead of {count}: put {more:?} in by hand", line.trim());
    }
    Ok(text.replace(line, &format!("{line}{more}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lists_have_a_place_for_a_new_driver() {
        let directory = tempfile::tempdir().unwrap();
        for (file, ..) in LISTS {
            let copy = directory.path().join(file);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(workspace().join(file), copy).unwrap();
        }
        make(directory.path(), "my-disk2").unwrap();
        let read = |file: &str| fs::read_to_string(directory.path().join(file)).unwrap();
        assert_eq!(read("Cargo.toml").matches("drivers/my-disk2").count(), 2);
        assert!(read("drivers/my-disk2/src/machine.rs").contains("use my_disk2::device::Device;"));
        assert!(read("drivers/my-disk2/Cargo.toml").contains("name = \"my-disk2\""));
        assert!(make(directory.path(), "my-disk2").is_err(), "not twice");
    }

    #[test]
    fn names_are_those_of_packages() {
        for name in ["a", "virtio-net", "nvme2"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "a--b", "A", "a_b", "2a", "../a", "a b"] {
            assert!(!is_name(name), "{name}");
        }
    }

    /// The lines of a text, without what indents them.
    fn lines(text: &str) -> String {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_manual_shows_the_code_that_there_is() {
        let directory = workspace().join("drivers/edu/src");
        let files = ["registers.rs", "device.rs", "device/tests.rs"];
        let sources = files.map(|file| lines(&fs::read_to_string(directory.join(file)).unwrap()));
        let manual = fs::read_to_string(workspace().join("docs/writing-a-driver.md")).unwrap();
        let pieces: Vec<&str> = manual.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(pieces.len() > 5);
        for piece in pieces {
            assert!(sources.iter().any(|source| source.contains(&lines(piece))), "not in drivers/edu:\n{piece}");
        }
    }
}
