//! A file that is not text: what it is, and what turns it into text.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};

use crate::sniff::{Controls, Format, LFS, is_full_of_controls};

/// Bytes around the first wrong one by which an encoding is guessed.
const GUESS_BYTES: u64 = 1 << 20;

/// A byte order mark and half a character: without that, nothing is left.
const SHORTEST_CUT: u64 = 3;

/// A file that can't be read as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotText {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
    pub(crate) problem: Problem,
}

/// How a file was named, on which depends what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// By itself: another file may be named in its place.
    Alone,
    /// As one of a folder: another file beside it leaves it where it is.
    InFolder,
    /// It is standard input or a pipe, and no file.
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Format(Format),
    /// Text in another encoding, by its name for `iconv`.
    Encoding {
        offset: u64,
        guess: &'static str,
    },
    /// Text in an encoding that is read, with bytes that are wrong in it.
    Damaged {
        offset: u64,
        encoding: &'static str,
    },
    /// UTF-16 of an odd number of bytes.
    CutShort {
        size_bytes: u64,
        encoding: &'static str,
    },
    Controls(Controls),
}

/// Why bytes are not UTF-8: byte `offset` of the file is wrong.
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

/// As [`diagnose_file`], with the bytes around the wrong one.
pub(crate) fn diagnose(bytes: &[u8], offset: u64) -> Problem {
    if is_full_of_controls(bytes) {
        return Problem::Format(Format::Unknown);
    }
    // Text in another encoding has hardly a character beyond ASCII that happens to be UTF-8.
    let (mut n_right, mut n_wrong) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        n_right += chunk.valid().chars().filter(|character| !character.is_ascii()).count();
        n_wrong += usize::from(!chunk.invalid().is_empty());
    }
    if n_right > n_wrong {
        return Problem::Damaged { offset, encoding: "UTF-8" };
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let guess = match detector.guess(None, Utf8Detection::Deny).name() {
        "windows-874" => "CP874", // Not every iconv has the other name.
        guess => guess,
    };
    Problem::Encoding { offset, guess }
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, place, problem } = self;
        write!(f, "{} ", name(path))?;
        match problem {
            Problem::Format(Format::Known { extension: LFS, .. }) => {
                f.write_str("is a Git LFS pointer, and not the file")?
            }
            Problem::Format(Format::Known { name, .. }) => write!(f, "holds {name} data, not text")?,
            Problem::Format(Format::Utf32) => f.write_str("is text in UTF-32, not in UTF-8")?,
            Problem::Format(Format::Tokens | Format::Unknown) => {
                f.write_str("holds binary data, not text")?
            }
            Problem::Encoding { offset, guess } => {
                write!(
                    f,
                    "is not UTF-8 text: byte {offset} begins no valid character; it looks like {}",
                    guess.to_uppercase()
                )?;
            }
            Problem::Damaged { offset, encoding } => {
                write!(f, "is damaged {encoding} text: byte {offset} begins no valid character")?;
            }
            Problem::CutShort { encoding, .. } => {
                write!(f, "is {encoding} text that is cut short: its last character is incomplete")?;
            }
            Problem::Controls(controls) => write!(
                f,
                "is not text: {}% of its characters are control characters",
                100 * controls.n_controls / controls.n_characters.max(1)
            )?,
        }
        match advice(path, *place, *problem) {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// How messages call a file: `-` is standard input.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// What turns a file into text, as it can be typed.
fn advice(path: &Path, place: Place, problem: Problem) -> Option<String> {
    let convert = |options: &str, encoding: &str| {
        let command = format!("iconv {options}-f {} -t UTF-8", encoding.to_uppercase());
        let then = if options.is_empty() { "&&" } else { ";" }; // With -c it fails where it leaves bytes out.
        let file = quoted(path);
        let verb = if options.is_empty() { "convert it" } else { "leave such bytes out" };
        match place {
            Place::Alone => format!("{verb}: `{command} {file} > {}`", quoted(&converted(path))),
            Place::InFolder => {
                let new = quoted(&with_ending(path, ".new"));
                format!("{verb}: `{command} {file} > {new} {then} mv {new} {file}`")
            }
            Place::Stream => format!("{verb} before it gets here, with `{command}`"),
        }
    };
    match problem {
        Problem::Encoding { guess, .. } => Some(convert("", guess)),
        Problem::Damaged { encoding, .. } => Some(convert("-c ", encoding)),
        Problem::CutShort { size_bytes, encoding } if size_bytes > SHORTEST_CUT => {
            Some(convert("-c ", encoding))
        }
        Problem::CutShort { .. } => None,
        Problem::Format(Format::Utf32) => Some(convert("", "UTF-32")),
        Problem::Format(Format::Tokens) => {
            Some("if it has nanoGPT's tokens, name the text that they were made from".into())
        }
        Problem::Format(Format::Known { extension, .. }) => unpack(path, place, extension),
        Problem::Format(Format::Unknown) | Problem::Controls(_) => None,
    }
    .or_else(|| (place == Place::Alone).then(|| "name a text file".into()))
}

/// What gets the text out of a format.
fn unpack(path: &Path, place: Place, extension: &str) -> Option<String> {
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
    Some(match (extension, place) {
        (_, Place::Stream) if !filter.is_empty() => format!("unpack it before it gets here, with `{filter}`"),
        (_, Place::Stream) => return None,
        _ if !filter.is_empty() => {
            format!("unpack it: `{filter} {file} > {}`", quoted(&unpacked(path, extension)))
        }
        ("tar", _) => format!("unpack it: `tar -xf {file}`"),
        ("zip", _) => format!("unpack it: `unzip {file}`"),
        ("7z", _) => format!("unpack it: `7z x {file}`"),
        ("rar", _) => format!("unpack it: `unrar x {file}`"),
        (LFS, _) => "run `git lfs pull` in the folder that was cloned".into(),
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
            format!("if its column `text` has the text, print it: `python3 -c '{PRINT}' {file} > {new}`")
        }
        ("arrow" | "sqlite", _) => "write its text to a file, for example with Python, and name that".into(),
        ("gguf" | "safetensors" | "pt", _) => "it is a model; name a text".into(),
        _ => return None,
    })
}

/// A file without the ending that says how it is packed.
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

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    shlex::try_quote(&path).map_or_else(|_| path.clone(), std::borrow::Cow::into_owned)
}
