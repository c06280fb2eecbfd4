//! Writes tiny Shakespeare, from the crate `femto-gpt`, to `OUT_DIR/shakespeare.txt`.
//!
//! In the crate's copy, two lines lack the two spaces at their end. They are restored, so that the text equals the
//! reference byte for byte.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

const PACKAGED_SHA256: &str = "434c0554a8c4c53dc17e56a0abb0f30b88f83cbceb0289cb897db68c25e89eba";
const REFERENCE_SHA256: &str = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed";

/// Offsets in the packaged text at which two spaces are missing.
const TRIMMED_AT: [usize; 2] = [65_915, 65_927];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let packaged = embed::package_file("femto-gpt", "0.2.0", "dataset.txt")?;
    embed::check_sha256("dataset.txt of femto-gpt", &packaged, PACKAGED_SHA256)?;

    let mut text = packaged;
    for offset in TRIMMED_AT.into_iter().rev() {
        text.splice(offset..offset, *b"  ");
    }
    embed::check_sha256("tiny Shakespeare", &text, REFERENCE_SHA256)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("shakespeare.txt"), text)?;
    Ok(())
}
