//! Model names on the hub: `OWNER/NAME`, `OWNER/NAME@REVISION`, `OWNER/NAME:QUANTIZATION`.

use std::fmt;

use super::HubError;

/// The name of a model on the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `OWNER/NAME`, or `NAME` for some old models.
    pub id: String,
    /// A branch, a tag or a commit.
    pub revision: Option<String>,
    /// The quantization or the file name of a GGUF file.
    pub quantization: Option<String>,
}

impl HubName {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// [`HubError::InvalidName`], or [`HubError::InvalidSuffix`] if `@` or `:` is not followed by a revision or
    /// quantization.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let id = text.split(['@', ':']).next().unwrap_or_default();
        // The revision and the quantization may come in either order.
        let (revision, quantization) = if text[id.len()..].starts_with(':') {
            let (rest, last) = split_at(text, '@');
            (last, split_at(rest, ':').1)
        } else {
            let (rest, last) = split_at(text, ':');
            (split_at(rest, '@').1, last)
        };
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().copied().all(is_part) {
            return Err(HubError::InvalidName(text.to_owned()));
        }
        if let Some(revision) = revision
            && !revision.split('/').all(is_part)
        {
            return Err(HubError::InvalidSuffix(format!(
                "{text}: the @ must be followed by a branch, a tag or a commit of the model, as in {id}@main"
            )));
        }
        if let Some(quantization) = quantization
            && !quantization.split('/').all(is_part)
        {
            return Err(HubError::InvalidSuffix(format!(
                "{text}: the : must be followed by the quantization of a GGUF file, as in {id}:Q8_0"
            )));
        }
        Ok(Self {
            id: id.to_owned(),
            revision: revision.map(str::to_owned),
            quantization: quantization.map(str::to_owned),
        })
    }

    /// `NAME` of `OWNER/NAME`.
    pub fn model(&self) -> &str {
        model_of(&self.id)
    }
}

#[cfg(feature = "hub")]
impl HubName {
    /// The same repository and revision, without a quantization.
    pub(crate) fn without_quantization(&self) -> Self {
        Self { quantization: None, ..self.clone() }
    }

    /// The same repository and revision, with a quantization.
    pub(crate) fn with_quantization(&self, quantization: &str) -> Self {
        Self { quantization: Some(quantization.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(quantization) = &self.quantization {
            write!(f, ":{quantization}")?;
        }
        Ok(())
    }
}

/// `NAME` of `OWNER/NAME`.
pub(crate) fn model_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(_, model)| model)
}

fn split_at(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Whether a part of a name is safe in a path of the cache, unlike `..`.
fn is_part(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('.')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_not_names() {
        for name in ["gpt2", "openai-community/gpt2", "a/b.c_d-1"] {
            let parsed = HubName::parse(name).unwrap();
            assert_eq!(parsed, HubName { id: name.to_owned(), revision: None, quantization: None });
        }
        for path in
            ["", "/gpt2", "a/b/c", "../gpt2", "./gpt2", "a b", "gpt2/", "a//b", "a/../b@x", "@x", ":x"]
        {
            let error = HubName::parse(path).unwrap_err();
            assert!(!error.is_malformed_name(), "{path}");
            assert!(error.to_string().contains(&format!("there is no file or folder {path}")), "{error}");
        }
    }

    #[test]
    fn names_may_have_a_revision_and_a_quantization() {
        let name = HubName::parse("a/b@refs/pr/1:Q8_0").unwrap();
        assert_eq!((name.id.as_str(), name.model()), ("a/b", "b"));
        assert_eq!(
            (name.revision.as_deref(), name.quantization.as_deref()),
            (Some("refs/pr/1"), Some("Q8_0"))
        );
        for text in ["gpt2@v1.0", "a/b:Q4_K_M", "a/b@main:b-f16.gguf", "a/b:f16/b.gguf"] {
            assert_eq!(HubName::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(HubName::parse("a/b:Q8_0@refs/pr/1").unwrap(), name);
    }

    #[test]
    fn invalid_suffixes_are_errors() {
        for text in [
            "a/b@",
            "a/b@../../x",
            "a/b@/x",
            "a/b@x y",
            "a/b:",
            "a/b@main:",
            "a/b:../x",
            "a/b:Q8_0@",
            "a/b:@main",
            "a/b:Q8_0@main@x",
        ] {
            let error = HubName::parse(text).unwrap_err();
            assert!(error.is_malformed_name(), "{text}: {error}");
        }
    }
}
