//! Hands the program the version of each crate that Cargo.lock has: `VERSION_REDB` and the like, for `engines::version`.

#![expect(clippy::expect_used, reason = "a build that can't read its own lock file must stop")]

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let root = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where"));
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).expect("Cargo.lock");
    let mut name = "";
    for line in lock.lines() {
        if let Some(quoted) = line.strip_prefix("name = ") {
            name = quoted.trim_matches('"');
        } else if let Some(quoted) = line.strip_prefix("version = ") {
            let variable = name.to_uppercase().replace('-', "_");
            println!("cargo::rustc-env=VERSION_{variable}={}", quoted.trim_matches('"'));
        }
    }
}
