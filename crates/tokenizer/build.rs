//! Copies GPT-2's merges from the package that has them into `OUT_DIR` (see the `embed` crate).

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

/// The package with the merges, at the same version as in `Cargo.toml` under dev-dependencies.
const PACKAGE: (&str, &str) = ("tiktoken-rs", "0.12.1");
const MERGES: &str = "assets/vocab.bpe";
const MERGES_SHA256: &str = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");

    let (package, version) = PACKAGE;
    let merges = embed::package_file(package, version, MERGES)?;
    embed::check_sha256(MERGES, &merges, MERGES_SHA256)?;

    let out_dir = env::var_os("OUT_DIR").ok_or("OUT_DIR is set by cargo")?;
    fs::write(PathBuf::from(out_dir).join("gpt2-merges.txt"), merges)?;
    Ok(())
}
