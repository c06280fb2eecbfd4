//! One line of input: a message or a command.

/// The text of `/help`.
pub(super) const COMMANDS: &str = "\
/system TEXT  set the system message; without TEXT, show it
/reset        forget the conversation; the system message stays
/help         list the commands
/quit         quit, as Ctrl-D does
//TEXT        send a message that starts with /";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Nothing,
    Message(String),
    Reset,
    ShowSystem,
    SetSystem(String),
    Help,
    Quit,
    Unknown(String),
}

impl Entry {
    pub(super) fn parse(line: &str) -> Self {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return Self::Nothing;
        }
        let Some(command) = trimmed.strip_prefix('/') else { return Self::Message(line.to_owned()) };
        if command.starts_with('/') {
            return Self::Message(command.to_owned());
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("system", "") => Self::ShowSystem,
            ("system", text) => Self::SetSystem(text.to_owned()),
            ("reset", "") => Self::Reset,
            ("help", "") => Self::Help,
            ("quit", "") => Self::Quit,
            _ => Self::Unknown(trimmed.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_or_a_command() {
        for (line, entry) in [
            ("hello /reset", Entry::Message("hello /reset".to_owned())),
            ("  indented", Entry::Message("  indented".to_owned())),
            (" \t", Entry::Nothing),
            ("/reset ", Entry::Reset),
            ("/help", Entry::Help),
            ("/quit", Entry::Quit),
            ("/system", Entry::ShowSystem),
            ("/system  Be kind. ", Entry::SetSystem("Be kind.".to_owned())),
            ("//reset", Entry::Message("/reset".to_owned())),
            ("/reset now", Entry::Unknown("/reset now".to_owned())),
            ("/Quit", Entry::Unknown("/Quit".to_owned())),
            ("/", Entry::Unknown("/".to_owned())),
        ] {
            assert_eq!(Entry::parse(line), entry, "{line}");
        }
    }
}
