//! CPython's own tests of the modules that are close to the system, with the distribution's Python.

use super::programs::{root, sources};
use super::suite::{Case, CaseVerdict, Prepared, Selection, Suite, Workshop, detail, line_cases};
use crate::options::Addition;
use anyhow::Result;
use posix_tests::plan::Task;
use posix_tests::record::{Outcome, Record};

pub(super) const SUITE: Suite = Suite { name: "cpython", jobs: 2, prepare, cases };

const GUEST_DIRECTORY: &str = "/suite/cpython";
const LIMIT_S: u64 = 900;
const OUTPUT_BYTES: usize = 512 << 10;
const MODULES: [&str; 6] = ["test_os", "test_subprocess", "test_signal", "test_threading", "test_mmap", "test_socket"];
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
    let tasks = MODULES.into_iter().map(|module| Task {
        name: module.to_owned(),
        limit_s: LIMIT_S,
        output_bytes: OUTPUT_BYTES,
        command: ["/usr/bin/python3.11", &format!("{GUEST_DIRECTORY}/unittests.py"), &format!("test.{module}")]
            .map(str::to_owned)
            .to_vec(),
    });
    Ok(Prepared { version: "1".to_owned(), additions, tasks: tasks.collect() })
}

fn cases(record: &Record) -> Vec<Case> {
    let mut cases = line_cases(record, &record.case, |title| title.trim_start_matches("test.").to_owned());
    if record.outcome != Outcome::Exited(0) {
        let (name, area) = (format!("{}: [its end]", record.case), record.case.clone());
        cases.push(Case { name, area, verdict: CaseVerdict::Failed, detail: detail(record) });
    }
    cases
}
