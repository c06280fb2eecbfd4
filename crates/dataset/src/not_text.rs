//! Errors for files that are not text: the detected format, and a command that extracts or converts the text.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use crate::sniff::{Controls, Format, LFS, is_full_of_controls};

/// Bytes around the first invalid one from which the encoding is guessed.
const GUESS_BYTES: u64 = 1 << 20;

/// A byte order mark and half a character, in bytes: no text would remain after removing the latter.
const TRUNCATED_BYTES_MIN: u64 = 3;

/// A file that can't be read as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotText {
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) problem: Problem,
}

/// How the file was given, on which the advice depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A path of its own: the user can give another path instead.
    SingleFile,
    /// A file of a folder: it must be replaced in place, since a new file beside it would be read as well.
    InFolder,
    /// Standard input or a pipe.
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Format(Format),
    /// Text in an unsupported encoding.
    Encoding {
        offset: u64,
        /// Name of the likely encoding, for `iconv`.
        guess: &'static str,
    },
    /// Text in a supported encoding, with invalid bytes.
    Damaged {
        offset: u64,
        encoding: &'static str,
    },
    /// UTF-16 with an odd number of bytes.
    Truncated {
        size_bytes: u64,
        encoding: &'static str,
    },
    Controls(Controls),
}

/// Finds out why a file is not UTF-8, given the offset of its first invalid byte.
pub(crate) fn diagnose_file(path: &Path, offset: u64) -> Problem {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset.saturating_sub(GUESS_BYTES / 2)))?;
        file.take(GUESS_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    diagnose(&read().unwrap_or_default(), offset)
}

/// Like [`diagnose_file`], given the bytes around the invalid one.
pub(crate) fn diagnose(bytes: &[u8], offset: u64) -> Problem {
    if is_full_of_controls(bytes) {
        return Problem::Format(Format::Unknown);
    }
    // In another encoding, non-ASCII characters are hardly ever valid UTF-8 by chance.
    let (mut n_valid, mut n_invalid) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        n_valid += chunk.valid().chars().filter(|character| !character.is_ascii()).count();
        n_invalid += usize::from(!chunk.invalid().is_empty());
    }
    if n_valid > n_invalid {
        return Problem::Damaged { offset, encoding: "UTF-8" };
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let guess = match detector.guess(None, Utf8Detection::Deny).name() {
        "windows-874" => "CP874", // The name that every iconv knows.
        guess => guess,
    };
    Problem::Encoding { offset, guess }
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, origin, problem } = self;
        write!(f, "{} ", name(path))?;
        match problem {
            Problem::Format(Format::Known { extension: LFS, .. }) => {
                f.write_str("is a Git LFS pointer, not the file itself")?
            }
            Problem::Format(Format::Known { name, .. }) => write!(f, "holds {name} data, not text")?,
            Problem::Format(Format::Utf32) => f.write_str("is text in UTF-32, not in UTF-8")?,
            Problem::Format(Format::Tokens | Format::Unknown) => {
                f.write_str("holds binary data, not text")?
            }
            Problem::Encoding { offset, guess } => {
                write!(
                    f,
                    "is not UTF-8 text: invalid character at byte {offset}; it looks like {}",
                    guess.to_uppercase()
                )?;
            }
            Problem::Damaged { offset, encoding } => {
                write!(f, "is damaged {encoding} text: invalid character at byte {offset}")?;
            }
            Problem::Truncated { encoding, .. } => {
                write!(f, "is truncated {encoding} text: its last character is incomplete")?;
            }
            Problem::Controls(controls) => write!(
                f,
                "is not text: {}% of its characters are control characters",
                100 * controls.n_controls / controls.n_characters.max(1)
            )?,
        }
        match advice(path, *origin, *problem) {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// The name of a file in messages: `-` is standard input.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// How to get text from the file, as a command where possible.
fn advice(path: &Path, origin: Origin, problem: Problem) -> Option<String> {
    let convert = |options: &str, encoding: &str| {
        let command = format!("iconv {options}-f {} -t UTF-8", encoding.to_uppercase());
        let then = if options.is_empty() { "&&" } else { ";" }; // With -c, iconv fails if it removes bytes.
        let file = quoted(path);
        let verb = if options.is_empty() { "convert it" } else { "remove the invalid bytes" };
        match origin {
            Origin::SingleFile => format!("{verb}: `{command} {file} > {}`", quoted(&converted(path))),
            Origin::InFolder => {
                let new = quoted(&with_ending(path, ".new"));
                format!("{verb}: `{command} {file} > {new} {then} mv {new} {file}`")
            }
            Origin::Stream => format!("{verb} before piping it, with `{command}`"),
        }
    };
    match problem {
        Problem::Encoding { guess, .. } => Some(convert("", guess)),
        Problem::Damaged { encoding, .. } => Some(convert("-c ", encoding)),
        Problem::Truncated { size_bytes, encoding } if size_bytes > TRUNCATED_BYTES_MIN => {
            Some(convert("-c ", encoding))
        }
        Problem::Truncated { .. } => None,
        Problem::Format(Format::Utf32) => Some(convert("", "UTF-32")),
        Problem::Format(Format::Tokens) => {
            Some("if it contains nanoGPT tokens, give the text they were made from".into())
        }
        Problem::Format(Format::Known { extension, .. }) => unpack(path, origin, extension),
        Problem::Format(Format::Unknown) | Problem::Controls(_) => None,
    }
    .or_else(|| (origin == Origin::SingleFile).then(|| "give a text file".into()))
}

/// How to extract text from a known format.
fn unpack(path: &Path, origin: Origin, extension: &str) -> Option<String> {
    let filter = match extension {
        "gz" => "gunzip -c",
        "zst" => "zstd -dc",
        "xz" => "xz -dc",
        "bz2" => "bzip2 -dc",
        "lz4" => "lz4 -dc",
        "lz" => "lzip -dc",
        "Z" => "uncompress -c",
        _ => "",
    };
    let file = quoted(path);
    let text = quoted(&path.with_extension("txt"));
    Some(match (extension, origin) {
        (_, Origin::Stream) if !filter.is_empty() => format!("unpack it before piping it, with `{filter}`"),
        (_, Origin::Stream) => return None,
        _ if !filter.is_empty() => {
            format!("unpack it: `{filter} {file} > {}`", quoted(&unpacked(path, extension)))
        }
        ("tar", _) => format!("unpack it: `tar -xf {file}`"),
        ("zip", _) => format!("unpack it: `unzip {file}`"),
        ("7z", _) => format!("unpack it: `7z x {file}`"),
        ("rar", _) => format!("unpack it: `unrar x {file}`"),
        (LFS, _) => "run `git lfs pull` in the cloned repository".into(),
        ("pdf", _) => format!("extract its text: `pdftotext {file} {text}`"),
        ("docx" | "odt" | "epub", _) => {
            format!("convert it: `pandoc -t plain {file} -o {}`", quoted(&with_ending(path, ".txt")))
        }
        ("doc" | "rtf" | "ppt" | "pptx" | "odp" | "xls" | "xlsx" | "ods" | "mobi", _) => {
            "save it as plain text with the program that made it".into()
        }
        ("parquet", _) => {
            const PRINT: &str =
                r#"import pandas, sys; print(*pandas.read_parquet(sys.argv[1])["text"], sep="\n\n")"#;
            let new = quoted(&with_ending(path, ".txt"));
            format!("if the text is in its column `text`, extract it: `python3 -c '{PRINT}' {file} > {new}`")
        }
        ("arrow" | "sqlite", _) => {
            "extract its text to a file, for example with Python, and give that file".into()
        }
        ("gguf" | "safetensors" | "pt", _) => "it is a model; give a text file".into(),
        _ => return None,
    })
}

/// The path without the extension of the compression.
fn unpacked(path: &Path, extension: &str) -> PathBuf {
    let is_named_so = path.extension().is_some_and(|it| it.eq_ignore_ascii_case(extension));
    if is_named_so { path.with_extension("") } else { with_ending(path, ".txt") }
}

/// `a.txt` becomes `a.utf8.txt`.
fn converted(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) => {
            let mut new = OsString::from("utf8.");
            new.push(extension);
            path.with_extension(new)
        }
        None => with_ending(path, ".utf8"),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A path, quoted for a shell if needed.
pub(crate) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    shlex::try_quote(&path).map_or_else(|_| path.clone(), std::borrow::Cow::into_owned)
}
