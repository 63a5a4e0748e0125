//! Tells the build scripts of native programs where the linker script is.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo::rerun-if-changed=native.ld");
    println!("cargo::metadata=linker_script={directory}/native.ld");
}
