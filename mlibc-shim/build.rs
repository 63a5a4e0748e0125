//! Links the shim as one read-only, executable segment that runs at any address, and the vDSO as a shared object of one page.

fn main() {
    for file in ["shim.ld", "vdso.ld", "vdso.map"] {
        println!("cargo::rerun-if-changed={file}");
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let both = ["--no-pie".to_owned(), "-zmax-page-size=4096".to_owned()];
        let shim = [format!("-T{directory}/shim.ld")];
        let vdso = [
            "--shared".to_owned(),
            "--soname=linux-vdso.so.1".to_owned(),
            "--hash-style=both".to_owned(),
            "--eh-frame-hdr".to_owned(),
            "-Bsymbolic".to_owned(),
            "-zrodynamic".to_owned(),
            "-znorelro".to_owned(),
            format!("--version-script={directory}/vdso.map"),
            format!("-T{directory}/vdso.ld"),
        ];
        both.iter().chain(&shim).for_each(|argument| link("mlibc-shim", argument));
        both.iter().chain(&vdso).for_each(|argument| link("mlibc-vdso", argument));
    }
}

fn link(program: &str, argument: &str) {
    println!("cargo::rustc-link-arg-bin={program}={argument}");
}
