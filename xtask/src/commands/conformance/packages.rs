//! Sources and programs of the distribution, from its package registry.
//!
//! Nobody's configuration is changed: apt works on a directory of ours, with the sources that this machine knows, as far as
//! they are of its distribution, asked for source packages, too.

use crate::process;
use crate::progress::Step;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where apt is configured.
const SYSTEM_CONFIGURATION: &str = "/etc/apt";

/// A directory in which packages are kept.
pub(super) struct Packages {
    directory: PathBuf,
}

impl Packages {
    /// Packages that are kept below this directory.
    pub(super) fn in_directory(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The unpacked source of a package, with the distribution's changes.
    pub(super) fn source(&self, name: &str) -> Result<PathBuf> {
        let unpacked = self.directory.join("sources").join(name);
        if unpacked.exists() {
            return Ok(unpacked);
        }
        let step = Step::begin(format!("downloading the source of {name}"));
        let download = self.download_directory(name)?;
        let mut apt = self.apt("apt-get")?;
        apt.current_dir(&download).args(["source", "--download-only", "-q", name]);
        process::run(apt.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let description = file_with_extension(&download, "dsc")?;
        let partial = unpacked.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(unpacked.parent().unwrap_or(&self.directory))?;
        let mut unpack = Command::new("dpkg-source");
        unpack.args(["--no-check", "--no-copy", "-x"]).arg(&description).arg(&partial);
        process::run(unpack.stdout(Stdio::null()).stderr(Stdio::null()))?;
        fs::rename(&partial, &unpacked)?;
        fs::remove_dir_all(&download)?;
        step.done();
        Ok(unpacked)
    }

    /// A directory with the files of these packages, as they would lie below `/`; it is called `name`.
    pub(super) fn programs(&self, name: &str, packages: &[&str]) -> Result<PathBuf> {
        let unpacked = self.directory.join("programs").join(name);
        if unpacked.exists() {
            return Ok(unpacked);
        }
        let step = Step::begin(format!("downloading {}", packages.join(", ")));
        let download = self.download_directory(name)?;
        let mut apt = self.apt("apt-get")?;
        apt.current_dir(&download).args(["download", "-q"]).args(packages);
        process::run(apt.stdout(Stdio::null()).stderr(Stdio::null()))?;
        let partial = unpacked.with_extension("partial");
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial)?;
        for entry in fs::read_dir(&download)? {
            process::run(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(&partial))?;
        }
        fs::rename(&partial, &unpacked)?;
        fs::remove_dir_all(&download)?;
        step.done();
        Ok(unpacked)
    }

    fn download_directory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join("downloads").join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
        Ok(directory)
    }

    /// A program of apt's that works with our configuration, whose lists are there.
    fn apt(&self, program: &str) -> Result<Command> {
        let home = self.directory.join("apt");
        let configuration = home.join("apt.conf");
        let command = |program: &str| {
            let mut command = Command::new(program);
            command.env("APT_CONFIG", &configuration);
            command
        };
        if !configuration.exists() {
            configure(&home)?;
            let step = Step::begin("reading the lists of packages");
            let mut update = command("apt-get");
            if let Err(error) = process::run(update.args(["update", "-q"]).stdout(Stdio::null())) {
                fs::remove_file(&configuration)?;
                return Err(error);
            }
            step.done();
        }
        Ok(command(program))
    }
}

/// Writes a configuration that has all it needs below `home`.
fn configure(home: &Path) -> Result<()> {
    for directory in ["lists/partial", "cache/archives/partial", "sources"] {
        fs::create_dir_all(home.join(directory))?;
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or_default();
    let (stanzas, lines) = system_sources(codename)?;
    ensure!(!stanzas.is_empty() || !lines.is_empty(), "apt on this machine knows no sources of {codename:?}");
    fs::write(home.join("sources/all.sources"), stanzas)?;
    fs::write(home.join("sources/all.list"), lines)?;
    // Nothing is installed, so that the newest version of a package is the one that is taken.
    fs::write(home.join("status"), "")?;
    let text = format!(
        "Dir::Etc::sourcelist \"-\";\nDir::Etc::sourceparts \"{home}/sources\";\nDir::State::lists \"{home}/lists\";\n\
         Dir::State::status \"{home}/status\";\nDir::Cache \"{home}/cache\";\nAPT::Sandbox::User \"root\";\n",
        home = home.display()
    );
    Ok(fs::write(home.join("apt.conf"), text)?)
}

/// The sources of the machine's own release, for packages and their sources: those in stanzas, and those in lines.
fn system_sources(codename: &str) -> Result<(String, String)> {
    let configuration = Path::new(SYSTEM_CONFIGURATION);
    let mut files = vec![configuration.join("sources.list")];
    if let Ok(entries) = fs::read_dir(configuration.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    let (mut stanzas, mut lines) = (String::new(), String::new());
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => stanzas.push_str(&with_sources_in_stanzas(&text, codename)),
            Some("list") => lines.push_str(&with_sources_in_lines(&text, codename)),
            Some(_) | None => {}
        }
    }
    Ok((stanzas, lines))
}

/// Those of the stanzas (sources.list(5), "deb822-style") that are of this release, with their `Types` extended.
fn with_sources_in_stanzas(text: &str, codename: &str) -> String {
    let is_wanted = |stanza: &&str| {
        let suites = stanza.lines().find_map(|line| line.strip_prefix("Suites:")).unwrap_or_default();
        suites.split_whitespace().any(|suite| suite.starts_with(codename))
    };
    let extend =
        |line: &str| if line.starts_with("Types:") { "Types: deb deb-src".to_owned() } else { line.to_owned() };
    let stanza = |stanza: &str| stanza.lines().map(|line| extend(line) + "\n").collect::<String>() + "\n";
    text.split("\n\n").filter(is_wanted).map(stanza).collect()
}

/// Those of the lines that are of this release, each with one for the sources.
fn with_sources_in_lines(text: &str, codename: &str) -> String {
    let is_wanted =
        |line: &&str| line.starts_with("deb ") && line.split_whitespace().any(|word| word.starts_with(codename));
    text.lines().filter(is_wanted).map(|line| format!("{line}\ndeb-src{}\n", line.trim_start_matches("deb"))).collect()
}

fn file_with_extension(directory: &Path, extension: &str) -> Result<PathBuf> {
    let mut paths = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    paths
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("no .{extension} file came to {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_own_release_are_asked_for_source_packages() {
        let text = "Types: deb\nURIs: http://host/a\nSuites: trusty trusty-updates\n\nTypes: deb\nSuites: other\n";
        let taken = with_sources_in_stanzas(text, "trusty");
        assert_eq!(taken, "Types: deb deb-src\nURIs: http://host/a\nSuites: trusty trusty-updates\n\n");
        let lines =
            with_sources_in_lines("# deb x trusty\ndeb http://host trusty main\ndeb http://host sdk main\n", "trusty");
        assert_eq!(lines, "deb http://host trusty main\ndeb-src http://host trusty main\n");
    }
}
