//! What `--version` says: the compiler and the libraries as Cargo.lock has them.

use std::{env, fs, process::Command};

const LIBRARIES: [&str; 8] =
    ["async-graphql", "axum", "deadpool-postgres", "redis", "tokio", "tokio-postgres", "mimalloc", "tikv-jemallocator"];

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout);
    println!("cargo::rustc-env=RUSTC_VERSION={}", version.split(' ').nth(1).unwrap_or("unknown"));
    let lock = fs::read_to_string("Cargo.lock").expect("Cargo.lock is there");
    for library in LIBRARIES {
        let entry = format!("name = \"{library}\"\nversion = \"");
        let version = lock.split_once(&entry).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown");
        let name = library.to_uppercase().replace('-', "_");
        println!("cargo::rustc-env=VERSION_{name}={version}");
    }
}
