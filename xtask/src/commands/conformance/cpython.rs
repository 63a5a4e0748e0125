//! CPython's own tests of the modules that are close to the system, with the distribution's Python.

use super::programs::{root, sources};
use super::suite::{Case, CaseVerdict, Held, Prepared, Selection, Suite, Workshop, detail, line_cases};
use crate::options::Addition;
use anyhow::Result;
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};

pub(super) const SUITE: Suite = Suite { name: "cpython", jobs: 2, held: Held::No, prepare, cases };

const GUEST_DIRECTORY: &str = "/suite/cpython";
const LIMIT_S: u64 = 600;
const OUTPUT_BYTES: usize = 512 << 10;
/// Modules, and into how many tasks each is cut, so that a system that dies loses few results.
const MODULES: [(&str, u32); 6] = [
    ("test_os", 4),
    ("test_subprocess", 8),
    ("test_signal", 2),
    ("test_threading", 5),
    ("test_mmap", 1),
    ("test_socket", 10),
];
/// Python, its tests, and what they load.
#[rustfmt::skip]
const DEBIAN_PACKAGES: [&str; 17] = [
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libpython3.11-testsuite", "libc6", "zlib1g",
    "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5", "libuuid1", "libcrypt1", "libtinfo6", "libncursesw6",
    "libgcc-s1", "netbase",
];

fn prepare(workshop: &Workshop, _: &Selection) -> Result<Prepared> {
    let additions = vec![
        root(workshop.packages.programs("cpython", &DEBIAN_PACKAGES)?),
        Addition { host: sources().join("unittests.py"), guest: format!("{GUEST_DIRECTORY}/unittests.py") },
    ];
    let tasks = MODULES.into_iter().flat_map(|(module, parts)| (1..=parts).map(move |part| task(module, part, parts)));
    Ok(Prepared { version: DEBIAN_PACKAGES.join(" "), additions, tasks: tasks.collect() })
}

fn task(module: &str, part: u32, parts: u32) -> Task {
    let command = [
        "/usr/bin/python3.11",
        &format!("{GUEST_DIRECTORY}/unittests.py"),
        &format!("test.{module}"),
        &format!("{part}/{parts}"),
    ];
    Task {
        name: format!("{module} {part}/{parts}"),
        limit_s: LIMIT_S,
        output_bytes: OUTPUT_BYTES,
        command: command.map(str::to_owned).to_vec(),
    }
}

fn cases(record: &Record) -> Vec<Case> {
    let module = record.case.split(' ').next().unwrap_or_default();
    let mut cases = line_cases(record, module, |title| title.trim_start_matches("test.").to_owned());
    if record.outcome != Outcome::Exited(0) {
        let (name, area) = (format!("{}: [its end]", record.case), module.to_owned());
        cases.push(Case { name, area, verdict: CaseVerdict::Failed, detail: detail(record) });
    }
    cases
}
