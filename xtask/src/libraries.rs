//! What a dynamically linked program of the host needs in the guest: its loader and its libraries.

use crate::options::Addition;
use crate::process;
use anyhow::{Context as _, Result, ensure};
use elf::ElfBytes;
use elf::abi::PT_INTERP;
use elf::endian::LittleEndian;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The loader and the libraries of a program, at the paths where it looks for them; nothing if it needs none.
pub(crate) fn needed_by(program: &Path) -> Result<Vec<Addition>> {
    let file = fs::read(program).with_context(|| format!("can't read {}", program.display()))?;
    let Some(loader) = loader_of(&file) else { return Ok(Vec::new()) };
    let name = program.display();
    ensure!(
        Path::new(&loader).exists(),
        "{name} is linked dynamically and needs the loader {loader}, which this machine lacks"
    );
    // The loader lists what it would load, and does not start the program.
    let program = fs::canonicalize(program)?;
    let listed = process::output_of(Command::new(&loader).arg("--list").arg(&program))
        .with_context(|| format!("finding the libraries of {name}"))?;
    let libraries = listed.lines().filter_map(path_in).map(str::to_owned);
    let mut paths: Vec<String> = std::iter::once(loader).chain(libraries).collect();
    paths.sort();
    paths.dedup();
    Ok(paths.into_iter().map(|path| Addition { host: PathBuf::from(&path), guest: path }).collect())
}

/// The path of the program that must load this one, if any (gABI, chapter 5, "Program Interpreter").
fn loader_of(file: &[u8]) -> Option<String> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(file).ok()?;
    let header = elf.segments()?.iter().find(|header| header.p_type == PT_INTERP)?;
    let path = elf.segment_data(&header).ok()?;
    String::from_utf8(path.strip_suffix(&[0])?.to_vec()).ok()
}

/// The absolute path in a line of the loader's list: `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib/ld.so (0x…)`.
fn path_in(line: &str) -> Option<&str> {
    let path = line.split_once("=>").map_or(line, |(_, path)| path);
    path.split_whitespace().next().filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_a_loader_is_understood() {
        assert_eq!(path_in("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)"), Some("/lib/libc.so.6"));
        assert_eq!(path_in("\t/lib/ld-musl-x86_64.so.1 (0x7f)"), Some("/lib/ld-musl-x86_64.so.1"));
        assert_eq!(path_in("\tlinux-vdso.so.1 (0x00007ffc)"), None);
        assert_eq!(path_in("\tlibmissing.so => not found"), None);
    }

    #[test]
    fn a_script_needs_no_loader() {
        assert_eq!(loader_of(b"#!/bin/sh\n"), None);
    }
}
