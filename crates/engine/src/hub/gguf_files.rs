//! Selects the GGUF model of a quantization in a repository.

use families::Family;
use formats::gguf::{PartName, TensorType};

use super::{HubError, HubName, error::unavailable};
use crate::quoted;

const EXTENSION: &str = ".gguf";

/// One GGUF model of a repository.
struct Candidate<'a> {
    /// One file, or all parts of a split model in order.
    files: Vec<&'a str>,
    /// The quantization at the end of its name, or else the whole name.
    label: &'a str,
    is_readable: bool,
}

/// The files of the model with this quantization or file name, ignoring case: one file, or all parts of a split model in
/// order.
///
/// # Errors
///
/// If no model or several models match, a part is missing, or the quantization is not supported.
pub(crate) fn choose<'a>(
    name: &HubName,
    files: &[&'a str],
    quantization: &str,
    program: &str,
) -> Result<Vec<&'a str>, HubError> {
    let candidates = candidates(files);
    let id = &name.id;
    if candidates.is_empty() {
        return Err(unavailable!(
            "{id} has no GGUF files. To import its other weights: {}",
            command(&name.without_quantization(), program)
        ));
    }
    let is_named = |candidate: &&Candidate<'_>| {
        let names = candidate.files.iter().flat_map(|file| [file, base_name(file), stem(file)]);
        { names }.any(|known| known.eq_ignore_ascii_case(quantization))
    };
    let is_labelled = |candidate: &&Candidate<'_>| candidate.label.eq_ignore_ascii_case(quantization);
    let mut found: Vec<_> = candidates.iter().filter(is_named).collect();
    if found.is_empty() {
        found = candidates.iter().filter(is_labelled).collect();
    }
    let alternatives = alternatives(name, &candidates, program);
    match found[..] {
        [] => Err(unavailable!("{id} has no GGUF file of the quantization {quantization}. {alternatives}")),
        [only] if only.is_readable => match missing_part(only) {
            None => Ok(only.files.clone()),
            Some(part) => {
                Err(unavailable!("{id} has only some parts of a model: {part} is missing. {alternatives}"))
            }
        },
        [only] => Err(unavailable!(
            "{} of {id} has the quantization {}, which kindling does not read. {alternatives}",
            only.files[0],
            only.label
        )),
        [first, ..] => Err(unavailable!(
            "{id} has {} GGUF files of the quantization {quantization}: {}. Choose one of them: {}",
            found.len(),
            found.iter().map(|candidate| candidate.files[0]).collect::<Vec<_>>().join(", "),
            command(&name.with_quantization(first.files[0]), program)
        )),
    }
}

/// For a repository without other weights, returns an error that advises how to import one of its GGUF files, if any.
pub(crate) fn refuse_if_any(name: &HubName, files: &[&str], program: &str) -> Result<(), HubError> {
    let candidates = candidates(files);
    if candidates.is_empty() {
        return Ok(());
    }
    Err(unavailable!("{name} has only GGUF files. {}", alternatives(name, &candidates, program)))
}

/// Checks the architecture that the hub reports for GGUF files, before the download.
pub(crate) fn check_architecture(name: &HubName, architecture: Option<&str>) -> Result<(), HubError> {
    match architecture {
        Some(other) if Family::of_architecture(other).is_none() => Err(unavailable!(
            "{name} is not downloaded: its architecture is {other}, but kindling reads only GGUF files of {}",
            listed(&Family::architectures().into_iter().map(str::to_owned).collect::<Vec<_>>())
        )),
        _ => Ok(()),
    }
}

fn candidates<'a>(files: &[&'a str]) -> Vec<Candidate<'a>> {
    // `mmproj` files contain the image encoder of a model, `imatrix` files the statistics for quantizing it.
    let is_model = |file: &str| {
        let name = base_name(file).to_ascii_lowercase();
        name.ends_with(EXTENSION) && !name.contains("mmproj") && !name.contains("imatrix")
    };
    let is_inside = |file: &str| {
        !file.contains('\\') && file.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
    };
    let mut candidates: Vec<Candidate<'a>> = Vec::new();
    for file in files.iter().copied().filter(|file| is_model(file) && is_inside(file)) {
        if let Some(candidate) = candidates.iter_mut().find(|candidate| are_parts(candidate.files[0], file)) {
            candidate.files.push(file);
            continue;
        }
        let whole = PartName::parse(stem(file)).map_or(stem(file), |part| part.model);
        let label = quantization_in(whole).unwrap_or(whole);
        // If the name contains no quantization, the file itself is checked after the download.
        let is_readable = quantization_in(whole).is_none() || is_supported(label);
        candidates.push(Candidate { files: vec![file], label, is_readable });
    }
    for candidate in &mut candidates {
        candidate.files.sort_unstable();
    }
    candidates
}

/// Whether two files are parts of the same model.
fn are_parts(left: &str, right: &str) -> bool {
    let part = |file| Some((folder(file), PartName::parse(stem(file))?));
    match (part(left), part(right)) {
        (Some((left_folder, left)), Some((right_folder, right))) => {
            (left_folder, left.model, left.count) == (right_folder, right.model, right.count)
        }
        _ => false,
    }
}

/// The name of the first missing part of a split model.
fn missing_part(candidate: &Candidate<'_>) -> Option<String> {
    let part = PartName::parse(stem(candidate.files[0]))?;
    let names = (1..=part.count).map(|number| part.with_number(number));
    { names }.find(|name| candidate.files.iter().all(|file| stem(file) != name))
}

/// A message with the supported quantizations and the command that imports one.
fn alternatives(name: &HubName, candidates: &[Candidate<'_>], program: &str) -> String {
    let labels = |is_readable: bool| {
        let labels = candidates.iter().filter(|candidate| candidate.is_readable == is_readable);
        let mut labels: Vec<String> = labels.map(|candidate| candidate.label.to_owned()).collect();
        labels.dedup();
        labels
    };
    let (readable, others) = (labels(true), labels(false));
    // Q8_0 is small and the most accurate.
    let preferred = readable.iter().find(|label| label.eq_ignore_ascii_case("q8_0")).or(readable.first());
    match preferred {
        Some(label) => {
            let others = match others[..] {
                [] => String::new(),
                _ => format!(", not {}", listed(&others)),
            };
            format!(
                "Of its quantizations, kindling reads {}{others}. To import one: {}",
                listed(&readable),
                command(&name.with_quantization(label), program)
            )
        }
        None => format!(
            "It has {}, but kindling reads only {}",
            listed(&others),
            listed(&TensorType::all().map(|ty| ty.to_string().to_uppercase()).collect::<Vec<_>>())
        ),
    }
}

fn command(name: &HubName, program: &str) -> String {
    format!("{program} import {}", quoted(&name.to_string()))
}

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn base_name(file: &str) -> &str {
    file.rsplit_once('/').map_or(file, |(_, name)| name)
}

fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn stem(file: &str) -> &str {
    let name = base_name(file);
    let end = name.len().saturating_sub(EXTENSION.len());
    name.get(..end).unwrap_or(name)
}

/// The longest suffix of a name that is a quantization: `Q4_K_M` of `SmolLM2-135M.Q4_K_M`.
fn quantization_in(stem: &str) -> Option<&str> {
    let starts = stem.char_indices().filter(|(_, c)| "-._".contains(*c)).map(|(idx, _)| idx + 1);
    std::iter::once(0).chain(starts).map(|start| &stem[start..]).find(|end| is_quantization(end))
}

/// Whether a word is the name of a quantization, as used by llama.cpp and in published files.
fn is_quantization(word: &str) -> bool {
    const FLOATS: [&str; 5] = ["F32", "F16", "BF16", "FP32", "FP16"];
    let word = word.to_ascii_uppercase();
    let word = word.strip_prefix("UD-").unwrap_or(&word);
    let is_word = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let digits = ["IQ", "TQ", "Q", "MXFP"].iter().find_map(|prefix| word.strip_prefix(prefix));
    let is_numbered = digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    is_word && (FLOATS.contains(&word) || is_numbered)
}

/// Whether kindling reads the tensor types of a quantization. `Q4_K_M` is a mixture that consists mainly of `Q4_K`.
fn is_supported(label: &str) -> bool {
    let label = label.to_ascii_uppercase();
    let label = label.strip_prefix("UD-").unwrap_or(&label).replace("FP", "F");
    TensorType::all().any(|ty| {
        let rest = label.strip_prefix(&ty.to_string().to_uppercase());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> HubName {
        HubName::parse("me/tiny-GGUF").unwrap()
    }

    const FILES: [&str; 7] = [
        "README.md",
        "tiny-IQ2_XXS.gguf",
        "tiny.q8_0.gguf",
        "f16/tiny-f16.gguf",
        "BF16/tiny-BF16-00001-of-00002.gguf",
        "BF16/tiny-BF16-00002-of-00002.gguf",
        "mmproj-tiny-Q8_0.gguf",
    ];

    fn refused(files: &[&str], quantization: &str) -> String {
        choose(&name(), files, quantization, "kindling").unwrap_err().to_string()
    }

    #[test]
    fn a_quantization_is_the_suffix_of_a_name() {
        for (stem, expected) in [
            ("SmolLM2-135M-Instruct.Q4_1", Some("Q4_1")),
            ("tiny_q8_0", Some("q8_0")),
            ("qwen3-0.6b-Q4_K_M", Some("Q4_K_M")),
            ("gemma-3-UD-Q4_K_XL", Some("UD-Q4_K_XL")),
            ("ggml-model-f16", Some("f16")),
            ("Q8_0", Some("Q8_0")),
            ("tiny-IQ2_XXS", Some("IQ2_XXS")),
            ("tiny", None),
            ("Qwen3-0.6B", None),
            ("q8_0-of-tiny", None),
        ] {
            assert_eq!(quantization_in(stem), expected, "{stem}");
        }
    }

    #[test]
    fn a_file_is_found_by_quantization_or_name_ignoring_case() {
        for (quantization, file) in [
            ("Q8_0", "tiny.q8_0.gguf"),
            ("q8_0", "tiny.q8_0.gguf"),
            ("F16", "f16/tiny-f16.gguf"),
            ("tiny.q8_0.gguf", "tiny.q8_0.gguf"),
            ("tiny-f16", "f16/tiny-f16.gguf"),
            ("f16/tiny-f16.gguf", "f16/tiny-f16.gguf"),
        ] {
            assert_eq!(choose(&name(), &FILES, quantization, "kindling").unwrap(), [file], "{quantization}");
        }
        assert_eq!(choose(&name(), &["model.gguf"], "model", "kindling").unwrap(), ["model.gguf"]);
    }

    #[test]
    fn all_parts_of_a_split_model_are_chosen() {
        let parts = ["BF16/tiny-BF16-00001-of-00002.gguf", "BF16/tiny-BF16-00002-of-00002.gguf"];
        for quantization in ["bf16", "tiny-BF16-00002-of-00002.gguf"] {
            assert_eq!(choose(&name(), &FILES, quantization, "kindling").unwrap(), parts, "{quantization}");
        }
        let error = refused(&["a-Q8_0-00003-of-00003.gguf", "a-Q8_0-00001-of-00003.gguf"], "q8_0");
        assert!(
            error.contains("has only some parts of a model: a-Q8_0-00002-of-00003 is missing"),
            "{error}"
        );
        let error = refused(&["x/a-Q8_0-00001-of-00002.gguf", "y/a-Q8_0-00002-of-00002.gguf"], "q8_0");
        assert!(error.contains("has 2 GGUF files of the quantization q8_0"), "{error}");
    }

    #[test]
    fn errors_list_alternatives() {
        let error = refused(&FILES, "Q4_0");
        assert!(
            error.starts_with(
                "me/tiny-GGUF has no GGUF file of the quantization Q4_0. Of its quantizations, kindling reads q8_0, f16 \
                 and BF16, not IQ2_XXS. "
            ),
            "{error}"
        );
        assert!(error.ends_with(" import me/tiny-GGUF:q8_0"), "{error}");
        let error = refused(&FILES, "iq2_xxs");
        assert!(error.contains("has the quantization IQ2_XXS, which kindling does not read"), "{error}");
    }

    #[test]
    fn a_quantization_of_several_files_is_ambiguous() {
        let error = refused(&["a-Q8_0.gguf", "b-Q8_0.gguf"], "Q8_0");
        assert!(
            error.contains("has 2 GGUF files of the quantization Q8_0: a-Q8_0.gguf, b-Q8_0.gguf"),
            "{error}"
        );
        assert!(error.ends_with("import me/tiny-GGUF:a-Q8_0.gguf"), "{error}");
    }

    #[test]
    fn files_outside_the_cache_are_ignored() {
        let error = refused(&["../x-Q8_0.gguf", "/x-Q8_0.gguf", "a\\x-Q8_0.gguf"], "Q8_0");
        assert!(error.contains("me/tiny-GGUF has no GGUF files"), "{error}");
    }

    #[test]
    fn unsupported_architectures_are_errors() {
        check_architecture(&name(), None).unwrap();
        check_architecture(&name(), Some("llama")).unwrap();
        let error = check_architecture(&name(), Some("gemma3")).unwrap_err().to_string();
        assert!(
            error.contains("its architecture is gemma3, but kindling reads only GGUF files of gpt2, llama"),
            "{error}"
        );
    }
}
