//! The rules of `docs/architecture.md` that a machine can check: who may import whom, where `unsafe` may be, and what may
//! lie at the top of the repository.

use super::sources::{self, Source};
use super::{Context, Counts};
use crate::build::{self, workspace};
use crate::process;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a package of ours may import from us, and whether it may have `unsafe` code.
struct Rule {
    package: &'static str,
    imports: &'static [&'static str],
    code: Code,
}

/// Whether a package may have `unsafe` code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// None: every root of the package forbids it.
    Safe,
    /// Only below these directories of the package.
    UnsafeIn(&'static [&'static str]),
}

const RULES: &[Rule] = &[
    Rule { package: "quire-abi", imports: &[], code: Code::Safe },
    Rule { package: "boot-archive", imports: &[], code: Code::Safe },
    Rule { package: "quire-concurrent", imports: &[], code: Code::Safe },
    Rule { package: "quire-core", imports: &["quire-abi"], code: Code::Safe },
    Rule {
        package: "quire-kernel",
        imports: &["quire-abi", "quire-concurrent", "quire-core", "boot-archive"],
        code: Code::UnsafeIn(&["src"]),
    },
    Rule { package: "quire-api", imports: &["quire-abi", "quire-concurrent"], code: Code::UnsafeIn(&["src"]) },
    Rule { package: "quire-loader", imports: &[], code: Code::UnsafeIn(&["src"]) },
    Rule {
        package: "object-tests",
        imports: &["quire-abi", "quire-api", "block", "driver-protocol"],
        code: Code::Safe,
    },
    Rule { package: "posix-protocol", imports: &["quire-abi"], code: Code::Safe },
    Rule {
        package: "posix-server",
        imports: &["quire-abi", "quire-api", "boot-archive", "posix-protocol", "driver-protocol"],
        code: Code::Safe,
    },
    Rule { package: "posix-tests", imports: &[], code: Code::Safe },
    Rule { package: "mlibc-shim", imports: &["quire-abi", "posix-protocol"], code: Code::UnsafeIn(&["src"]) },
    Rule { package: "driver-protocol", imports: &["quire-abi"], code: Code::Safe },
    Rule { package: "ext4", imports: &[], code: Code::Safe },
    Rule { package: "block", imports: &["quire-abi", "quire-api", "driver-protocol"], code: Code::Safe },
    Rule { package: "console", imports: &["driver-protocol", "driver-runtime"], code: Code::Safe },
    Rule {
        package: "driver-runtime",
        imports: &["quire-abi", "quire-api", "driver-protocol"],
        code: Code::UnsafeIn(&["src"]),
    },
    Rule {
        package: "edu",
        imports: &["quire-abi", "quire-api", "driver-protocol", "driver-runtime"],
        code: Code::Safe,
    },
    Rule {
        package: "nvme",
        imports: &["quire-abi", "quire-api", "block", "driver-protocol", "driver-runtime"],
        code: Code::Safe,
    },
    Rule {
        package: "virtio-blk",
        imports: &["quire-abi", "quire-api", "block", "driver-protocol", "driver-runtime", "virtio"],
        code: Code::Safe,
    },
    Rule {
        package: "virtio-console",
        imports: &["quire-abi", "quire-api", "console", "driver-protocol", "driver-runtime", "virtio"],
        code: Code::Safe,
    },
    Rule {
        package: "virtio-rng",
        imports: &["quire-abi", "quire-api", "driver-protocol", "driver-runtime", "virtio"],
        code: Code::Safe,
    },
    Rule { package: "pci", imports: &[], code: Code::Safe },
    Rule { package: "virtio", imports: &["quire-api", "driver-runtime"], code: Code::Safe },
    Rule {
        package: "serial",
        imports: &["quire-abi", "quire-api", "console", "driver-protocol", "driver-runtime"],
        code: Code::Safe,
    },
    // Servers, not drivers: they may not import the drivers' runtime.
    Rule {
        package: "files",
        imports: &["quire-abi", "quire-api", "driver-protocol", "block", "ext4"],
        code: Code::Safe,
    },
    Rule { package: "pager", imports: &["quire-abi", "quire-api", "driver-protocol"], code: Code::Safe },
    Rule { package: "swap", imports: &["quire-abi", "quire-api", "driver-protocol", "block"], code: Code::Safe },
    Rule {
        package: "supervisor",
        imports: &["quire-abi", "quire-api", "block", "boot-archive", "driver-protocol", "pci", "virtio"],
        code: Code::Safe,
    },
    Rule {
        package: "xtask",
        imports: &["boot-archive", "driver-protocol", "posix-protocol", "posix-tests"],
        code: Code::Safe,
    },
];

/// What may lie at the top of the repository; names that begin with a dot are for tools.
const TOP_LEVEL: [&str; 15] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "clippy.toml",
    "docs",
    "drivers",
    "kernel",
    "mlibc-shim",
    "posix-server",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "xtask",
];

/// A package of the workspace.
struct Package {
    name: String,
    directory: PathBuf,
    /// The root files of its libraries and programs.
    roots: Vec<PathBuf>,
    /// What it imports from the workspace, other than for its tests.
    imports: BTreeSet<String>,
}

/// Checks all rules.
pub(super) fn check(_: &Context) -> Result<Counts> {
    let packages = packages(&build::metadata()?)?;
    let mut counts = Counts::default();
    counts.try_one("top-level", check_top_level);
    counts.try_one("rules", || check_rules(&packages));
    for package in &packages {
        if let Some(rule) = RULES.iter().find(|rule| rule.package == package.name) {
            counts.try_one(&format!("imports of {}", package.name), || check_imports(package, rule));
            counts.try_one(&format!("unsafe in {}", package.name), || check_unsafe(package, rule));
        }
    }
    Ok(counts)
}

fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let all = metadata.get("packages").and_then(Value::as_array).context("`cargo metadata` lists no packages")?;
    let names: BTreeSet<_> = all.iter().filter_map(|package| text(package, "name")).collect();
    all.iter().map(|package| read_package(package, &names).context("a package in `cargo metadata`")).collect()
}

fn read_package(package: &Value, ours: &BTreeSet<&str>) -> Option<Package> {
    let dependencies = package.get("dependencies")?.as_array()?.iter();
    let normal = dependencies.filter(|dependency| dependency.get("kind").is_none_or(Value::is_null));
    let names = normal.filter_map(|dependency| text(dependency, "name"));
    let targets = package.get("targets")?.as_array()?.iter();
    let roots = targets.filter(|target| is_shipped(target)).filter_map(|target| text(target, "src_path"));
    Some(Package {
        name: text(package, "name")?.to_owned(),
        directory: Path::new(text(package, "manifest_path")?).parent()?.to_owned(),
        roots: roots.map(PathBuf::from).collect(),
        imports: names.filter(|name| ours.contains(name)).map(str::to_owned).collect(),
    })
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// Whether a target of a package is a library or a program, not a build script or a test.
fn is_shipped(target: &Value) -> bool {
    let kinds = target.get("kind").and_then(Value::as_array);
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib" || kind == "bin"))
}

/// Every package has a rule, and every rule a package.
fn check_rules(packages: &[Package]) -> Result<()> {
    for package in packages {
        if RULES.iter().all(|rule| rule.package != package.name) {
            bail!("{} has no rule in {}; a crate must earn one", package.name, file!());
        }
    }
    match RULES.iter().find(|rule| packages.iter().all(|package| package.name != rule.package)) {
        Some(rule) => bail!("the rule for {} in {} has no package", rule.package, file!()),
        None => Ok(()),
    }
}

fn check_imports(package: &Package, rule: &Rule) -> Result<()> {
    match package.imports.iter().find(|import| !rule.imports.contains(&import.as_str())) {
        Some(import) => bail!("{} may not import {import} (docs/architecture.md)", package.name),
        None => Ok(()),
    }
}

fn check_unsafe(package: &Package, rule: &Rule) -> Result<()> {
    let allowed: Vec<_> = match rule.code {
        Code::Safe => Vec::new(),
        Code::UnsafeIn(directories) => directories.iter().map(|name| package.directory.join(name)).collect(),
    };
    if rule.code == Code::Safe {
        for root in &package.roots {
            check_forbids(root)?;
        }
    }
    let is_allowed = |source: &Source| allowed.iter().any(|directory| source.path.starts_with(directory));
    // Directories of other packages lie below that of the kernel and of the posix-server.
    for source in sources::below(&package.directory.join("src"))?.iter().filter(|source| !is_allowed(source)) {
        check_source(source)?;
    }
    Ok(())
}

fn check_forbids(root: &Path) -> Result<()> {
    let text = std::fs::read_to_string(root).with_context(|| format!("can't read {}", root.display()))?;
    if !text.contains("#![forbid(unsafe_code)]") {
        bail!("{} lacks #![forbid(unsafe_code)]", root.display());
    }
    Ok(())
}

fn check_source(source: &Source) -> Result<()> {
    let has_unsafe = |code: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    match source.code_lines().find(|(_, code)| has_unsafe(code)) {
        Some((line, _)) => bail!("{}:{line}: `unsafe` in a crate that may have none", source.path.display()),
        None => Ok(()),
    }
}

/// Nothing else grows at the top of the repository.
fn check_top_level() -> Result<()> {
    let listed = process::output_of(Command::new("git").current_dir(workspace()).args(["ls-files", "-z"]))?;
    let names: BTreeSet<_> = listed.split('\0').filter_map(|path| path.split('/').next()).collect();
    let surplus =
        names.into_iter().find(|name| !name.is_empty() && !name.starts_with('.') && !TOP_LEVEL.contains(name));
    match surplus {
        Some(name) => bail!("{name} may not lie at the top of the repository"),
        None => Ok(()),
    }
}
