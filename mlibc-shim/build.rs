//! Links the shim as one read-only, executable segment that runs at any address.

fn main() {
    println!("cargo::rerun-if-changed=shim.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=--no-pie");
        println!("cargo::rustc-link-arg-bins=-T{directory}/shim.ld");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
