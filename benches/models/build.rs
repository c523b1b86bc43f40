//! Builds the library for the models.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=shuttle");
    // None is on here: the models are of the core.
    println!("cargo::rustc-check-cfg=cfg(feature, values(any()))");
}
