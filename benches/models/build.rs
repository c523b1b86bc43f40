//! Builds the library for the models.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=shuttle");
    println!(r#"cargo::rustc-check-cfg=cfg(feature, values("http", "grpc", "model"))"#);
}
