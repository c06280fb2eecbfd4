//! Models that are split into several files.
//!
//! llama.cpp's `llama-gguf-split` calls part 2 of 3 `NAME-00002-of-00003.gguf`. Every part has the keys `split.no` (from
//! 0), `split.count` and `split.tensors.count` (of the whole model); only the first has the other keys.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use crate::gguf::{Error, Gguf, Result, Value};

/// The prefix of the keys that describe the split.
const PREFIX: &str = "split.";
const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";

/// The name of a part without its extension.
///
/// ```
/// use formats::gguf::PartName;
///
/// let part = PartName::parse("tale-00002-of-00003").unwrap();
/// assert_eq!((part.model, part.number, part.count), ("tale", 2, 3));
/// assert_eq!(part.with_number(3), "tale-00003-of-00003");
/// assert_eq!(PartName::parse("tale"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartName<'a> {
    /// The part before the numbers.
    pub model: &'a str,
    /// From 1.
    pub number: u32,
    pub count: u32,
}

impl<'a> PartName<'a> {
    /// Parses a file name without its extension. `None` if it is not a part.
    pub fn parse(stem: &'a str) -> Option<Self> {
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (model, number) = rest.rsplit_once('-')?;
        let [number, count] = [five_digits(number)?, five_digits(count)?];
        (1..=count).contains(&number).then_some(Self { model, number, count })
    }

    /// The name of another part of the same model.
    pub fn with_number(&self, number: u32) -> String {
        format!("{}-{number:05}-of-{:05}", self.model, self.count)
    }
}

fn five_digits(text: &str) -> Option<u32> {
    (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// The files of a model in order, by the name of one of them. A file that is not a part is the only one.
pub fn part_paths(path: &Path) -> Vec<PathBuf> {
    let Some(part) = path.file_stem().and_then(|stem| PartName::parse(stem.to_str()?)) else {
        return vec![path.to_owned()];
    };
    let named = |number| {
        let mut name = OsString::from(part.with_number(number));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    };
    (1..=part.count).map(named).collect()
}

impl Gguf<'_> {
    /// Joins the parts of a model, in order, to a file with all tensors and with the metadata of the first part, without
    /// the keys of the split. A single file is returned unchanged.
    ///
    /// # Errors
    ///
    /// If a part belongs elsewhere by its keys, tensors are missing, or two parts have a tensor of the same name.
    pub fn join(parts: Vec<Self>) -> Result<Self> {
        let count = parts.len();
        if count == 1 {
            return Ok(parts.into_iter().next().expect("there is one"));
        }
        let key = |part: &Self, key: &str| part.value(key).and_then(Value::as_u64);
        for (idx, part) in parts.iter().enumerate() {
            for (name, expected) in [(NUMBER_KEY, idx as u64), (COUNT_KEY, count as u64)] {
                let found = key(part, name);
                if found != Some(expected) {
                    return Err(Error::Part { number: idx + 1, key: name, expected, found });
                }
            }
        }
        let mut parts = parts.into_iter();
        let mut whole = parts.next().ok_or(Error::Empty)?;
        let expected = key(&whole, TENSORS_KEY);
        for part in parts {
            whole.append(part)?;
        }
        let found = whole.tensors().len() as u64;
        if let Some(expected) = expected.filter(|&expected| expected != found) {
            return Err(Error::PartTensors { expected, found });
        }
        whole.retain_keys(|key| !key.starts_with(PREFIX));
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_five_digits_are_parts() {
        for (stem, is_part) in [
            ("a-00001-of-00001", true),
            ("a-b-00002-of-00010", true),
            ("a-00003-of-00002", false),
            ("a-00000-of-00002", false),
            ("a-1-of-2", false),
            ("a-000001-of-000002", false),
            ("a-00001-of-0000x", false),
            ("a-of-00002", false),
        ] {
            assert_eq!(PartName::parse(stem).is_some(), is_part, "{stem}");
        }
    }

    #[test]
    fn any_part_names_all_others() {
        let expected = ["x.y/a-00001-of-00002.GGUF", "x.y/a-00002-of-00002.GGUF"].map(PathBuf::from);
        assert_eq!(part_paths(&expected[0]), expected);
        assert_eq!(part_paths(&expected[1]), expected);
        let dotted = Path::new("a.q8_0-00001-of-00001.gguf");
        assert_eq!(part_paths(dotted), [dotted]);
        assert_eq!(part_paths(Path::new("a.gguf")), [Path::new("a.gguf")]);
    }
}
