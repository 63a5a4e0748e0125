//! Links the program as a native program of Quire.

fn main() {
    println!("cargo::rerun-if-env-changed=DEP_QUIRE_API_LINKER_SCRIPT");
    let for_quire = std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none");
    if let (true, Ok(script)) = (for_quire, std::env::var("DEP_QUIRE_API_LINKER_SCRIPT")) {
        println!("cargo::rerun-if-changed={script}");
        println!("cargo::rustc-link-arg-bins=--no-pie");
        println!("cargo::rustc-link-arg-bins=-T{script}");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
