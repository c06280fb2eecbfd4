//! Parts of messages that say what to type instead.

/// The suffix `; did you mean NAME?` with the known name most like `name`, or nothing if none is like it.
pub fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    /// The least similarity by Jaro and Winkler's measure, as clap asks of its options.
    const ALIKE: f64 = 0.7;
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    let closest = names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let closest = closest.filter(|known| likeness(known) > ALIKE);
    closest.map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// An argument as one types it, in quotes where the shell needs them.
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
    fn the_closest_name_is_suggested_if_it_is_close() {
        let names = ["tiny", "nanogpt-cpu", "nanogpt-gpu"];
        assert_eq!(did_you_mean("tinny", names), "; did you mean tiny?");
        assert_eq!(did_you_mean("nanogpt_gpu", names), "; did you mean nanogpt-gpu?");
        assert_eq!(did_you_mean("hamlet.txt", names), "");
        assert_eq!(did_you_mean("tiny", []), "");
    }

    #[test]
    fn arguments_survive_the_shell() {
        assert_eq!(quoted("runs/tiny-2"), "runs/tiny-2");
        assert_eq!(quoted("my text"), "'my text'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
