//! `/proc/cpuinfo`: what the processor says of itself.

use super::add;
use crate::process::Server;
use alloc::string::String;
use alloc::vec::Vec;
use core::arch::x86_64::{__cpuid, CpuidResult};

/// Bits of leaf 1, `edx`; empty names are reserved.
const LEAF_1_EDX: [&str; 32] = [
    "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca", "cmov",
    "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe",
];
/// Bits of leaf 1, `ecx`.
const LEAF_1_ECX: [&str; 32] = [
    "pni",
    "pclmulqdq",
    "dtes64",
    "monitor",
    "ds_cpl",
    "vmx",
    "smx",
    "est",
    "tm2",
    "ssse3",
    "cid",
    "sdbg",
    "fma",
    "cx16",
    "xtpr",
    "pdcm",
    "",
    "pcid",
    "dca",
    "sse4_1",
    "sse4_2",
    "x2apic",
    "movbe",
    "popcnt",
    "tsc_deadline_timer",
    "aes",
    "xsave",
    "",
    "avx",
    "f16c",
    "rdrand",
    "hypervisor",
];
/// Bits of leaf 7, `ebx`.
const LEAF_7_EBX: [&str; 32] = [
    "fsgsbase",
    "tsc_adjust",
    "sgx",
    "bmi1",
    "hle",
    "avx2",
    "",
    "smep",
    "bmi2",
    "erms",
    "invpcid",
    "rtm",
    "cqm",
    "",
    "mpx",
    "rdt_a",
    "avx512f",
    "avx512dq",
    "rdseed",
    "adx",
    "smap",
    "avx512ifma",
    "",
    "clflushopt",
    "clwb",
    "intel_pt",
    "avx512pf",
    "avx512er",
    "avx512cd",
    "sha_ni",
    "avx512bw",
    "avx512vl",
];
/// Bits of the extended leaf 1, `edx`, that leaf 1 does not have.
const EXTENDED_EDX: [(u32, &str); 6] =
    [(11, "syscall"), (20, "nx"), (22, "mmxext"), (26, "pdpe1gb"), (27, "rdtscp"), (29, "lm")];
/// Bits of the extended leaf 1, `ecx`.
const EXTENDED_ECX: [(u32, &str); 5] = [(0, "lahf_lm"), (2, "svm"), (5, "abm"), (6, "sse4a"), (8, "3dnowprefetch")];

/// The first extended leaf.
const EXTENDED: u32 = 0x8000_0000;

/// A leaf, or zeroes if the processor has no such leaf.
fn leaf(number: u32) -> CpuidResult {
    let first = number & EXTENDED;
    if __cpuid(first).eax >= number { __cpuid(number) } else { CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 } }
}

/// Registers as the text that they hold.
fn characters(registers: &[u32]) -> String {
    let bytes = registers.iter().flat_map(|register| register.to_le_bytes());
    let text: String = bytes.take_while(|byte| *byte != 0).map(char::from).collect();
    String::from(text.trim())
}

fn flags() -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut push_all = |bits: u32, all: &[&'static str]| {
        let set = all.iter().enumerate().filter(|(index, name)| bits & (1 << index) != 0 && !name.is_empty());
        names.extend(set.map(|(_, name)| *name));
    };
    push_all(leaf(1).edx, &LEAF_1_EDX);
    push_all(leaf(1).ecx, &LEAF_1_ECX);
    push_all(leaf(7).ebx, &LEAF_7_EBX);
    let extended = leaf(EXTENDED + 1);
    for (bits, all) in [(extended.edx, &EXTENDED_EDX[..]), (extended.ecx, &EXTENDED_ECX[..])] {
        names.extend(all.iter().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| *name));
    }
    names.join(" ")
}

/// Family, model and stepping (the manuals' "display" values).
fn signature() -> (u32, u32, u32) {
    let version = leaf(1).eax;
    let (family, model) = ((version >> 8) & 0xf, (version >> 4) & 0xf);
    let shown_family = if family == 0xf { family + ((version >> 20) & 0xff) } else { family };
    let shown_model = if family >= 6 { model + ((version >> 12) & 0xf0) } else { model };
    (shown_family, shown_model, version & 0xf)
}

/// `/proc/cpuinfo`.
pub(super) fn information(_server: &Server) -> Vec<u8> {
    let basic = __cpuid(0);
    let vendor = characters(&[basic.ebx, basic.edx, basic.ecx]);
    let brand: Vec<u32> =
        (2..=4).map(|index| leaf(EXTENDED + index)).flat_map(|part| [part.eax, part.ebx, part.ecx, part.edx]).collect();
    let (family, model, stepping) = signature();
    let (thousandths, megahertz) = super::processors::frequency();
    let addresses = leaf(EXTENDED + 8).eax;
    let mut text = String::new();
    for processor in 0..super::processors::count() {
        add!(text, "processor\t: {processor}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n");
        add!(text, "model name\t: {}\nstepping\t: {stepping}\n", characters(&brand));
        add!(
            text,
            "cpu MHz\t\t: {megahertz}.{thousandths:03}\nphysical id\t: 0\nsiblings\t: {}\n",
            super::processors::count()
        );
        add!(text, "core id\t\t: {processor}\ncpu cores\t: {}\napicid\t\t: {processor}\n", super::processors::count());
        add!(text, "initial apicid\t: {processor}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\n", basic.eax);
        add!(text, "wp\t\t: yes\nflags\t\t: {}\nbugs\t\t:\n", flags());
        add!(text, "clflush size\t: {}\ncache_alignment\t: 64\n", (leaf(1).ebx >> 8 & 0xff) * 8);
        add!(text, "address sizes\t: {} bits physical, {} bits virtual\n", addresses & 0xff, addresses >> 8 & 0xff);
        add!(text, "power management:\n\n");
    }
    text.into_bytes()
}
