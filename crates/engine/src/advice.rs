//! Suggestions in messages.

/// The suffix `; did you mean NAME?` with the most similar of `names`, or nothing if none is similar.
pub fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    /// Minimum Jaro-Winkler similarity, as in clap.
    const MIN_SIMILARITY: f64 = 0.7;
    let similarity = |known: &&str| strsim::jaro_winkler(name, known);
    let closest = names.into_iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let closest = closest.filter(|known| similarity(known) > MIN_SIMILARITY);
    closest.map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// A shell argument, quoted if necessary.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,=@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similar_name_is_suggested() {
        let names = ["tiny", "nanogpt-cpu", "nanogpt-gpu"];
        assert_eq!(did_you_mean("tinny", names), "; did you mean tiny?");
        assert_eq!(did_you_mean("nanogpt_gpu", names), "; did you mean nanogpt-gpu?");
        assert_eq!(did_you_mean("hamlet.txt", names), "");
        assert_eq!(did_you_mean("tiny", []), "");
    }

    #[test]
    fn arguments_are_quoted_for_the_shell() {
        assert_eq!(quoted("runs/tiny-2"), "runs/tiny-2");
        assert_eq!(quoted("my text"), "'my text'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
