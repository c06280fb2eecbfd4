//! The live view, on a pseudo-terminal.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::fd::AsFd,
    path::Path,
    process::{Child, Stdio},
};

use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};

use crate::support::{kindling, run};

/// Escape sequences that enter and leave the alternate screen.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A run on a terminal.
struct OnTerminal {
    child: Child,
    terminal: File,
    /// The output so far.
    output: String,
}

impl OnTerminal {
    fn start(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = kindling(folder, args);
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color").envs(env.iter().copied());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { child, terminal: File::from(pty.master), output: String::new() }
    }

    /// Reads until the output contains a string, or the process ends.
    fn read_until(&mut self, word: &str) {
        self.read_while(|output| !output.contains(word));
    }

    /// Reads while a condition on the output holds, or until the process ends.
    fn read_while(&mut self, holds: impl Fn(&str) -> bool) {
        let mut bytes = [0; 4096];
        while holds(&self.output) {
            match self.terminal.read(&mut bytes) {
                Ok(0) => break,
                Ok(n) => self.output.push_str(&String::from_utf8_lossy(&bytes[..n])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break, // Linux reports a closed terminal as an error.
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit code, and the output after the live view has closed.
    fn end(mut self) -> (Option<i32>, String) {
        self.read_until("never written");
        let flags = tcgetattr(self.terminal.as_fd()).map(|terminal| terminal.local_flags);
        assert!(
            flags.is_ok_and(|flags| flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)),
            "the terminal is restored"
        );
        let after = self.output.rsplit(LEAVE).next().unwrap().to_owned();
        (self.child.wait().unwrap().code(), after)
    }
}

const ENDLESS: [&str; 8] = [
    "train",
    "debug",
    "--run",
    "mine",
    "--set",
    "schedule.max_steps=1000000000",
    "--set",
    "schedule.checkpoint_interval=1000000000",
];

#[test]
fn keys_save_sample_and_stop_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = OnTerminal::start(folder.path(), &ENDLESS, &[]);
    running.read_until(ENTER);
    running.press("s");
    // Wait for the file: the view redraws only changed cells, so a message may never appear as a whole in the output.
    let checkpoints = folder.path().join("runs/mine/checkpoints");
    running.read_while(|_| std::fs::read_dir(&checkpoints).map_or(0, Iterator::count) < 2);
    running.press("w");
    let samples = folder.path().join("runs/mine/samples.txt");
    running.read_while(|_| std::fs::metadata(&samples).map_or(0, |file| file.len()) == 0);
    running.press("qqq");
    let (code, after) = running.end();
    assert_eq!(code, Some(130), "{after}");
    assert!(after.contains("--- sample after step"), "{after}");
    assert!(after.contains("kindling train --resume --run runs/mine"), "{after}");
}

#[test]
fn closing_the_terminal_saves_and_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = OnTerminal::start(folder.path(), &ENDLESS, &[]);
    running.read_until(ENTER);
    running.press("s"); // Once this checkpoint exists, training has started.
    let checkpoints = folder.path().join("runs/mine/checkpoints");
    let steps = || {
        let entries = std::fs::read_dir(&checkpoints).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.contains('.')).collect::<Vec<_>>()
    };
    running.read_while(|_| steps().len() < 2);
    let before = steps();
    let OnTerminal { mut child, terminal, .. } = running;
    drop(terminal);
    // The system sends SIGHUP to a session whose terminal has closed.
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGHUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(129));
    assert!(steps().iter().max() > before.iter().max(), "{before:?}, and then {:?}", steps());
}

#[test]
fn ctrl_c_twice_restores_the_terminal_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = OnTerminal::start(folder.path(), &ENDLESS, &[]);
    running.read_until("tokens/s");
    running.press("\x03\x03");
    let (code, _) = running.end();
    assert_eq!(code, Some(130));
}

#[test]
fn an_error_is_printed_after_the_terminal_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = OnTerminal::start(folder.path(), &ENDLESS, &[]);
    running.read_until("tokens/s"); // Training has started.
    std::fs::rename(folder.path().join("runs"), folder.path().join("elsewhere")).unwrap();
    running.press("s");
    let (code, after) = running.end();
    assert_eq!(code, Some(1), "{after}");
    assert!(after.contains("the run folder runs/mine was moved, removed or replaced"), "{after}");
}

#[test]
fn control_characters_are_escaped_on_a_terminal_but_not_in_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let train = ["train", "debug", "--run", "bytes", "--set", "data.tokenizer=byte", "--set"];
    run(folder.path(), &[&train[..], &["schedule.max_steps=1"]].concat()).success();
    let generate =
        ["generate", "--prompt", "\x1b[2J\r", "--temperature", "50", "--max-tokens", "400", "--seed", "1"];
    let is_raw = |text: &str| text.chars().any(|c| c.is_control() && !"\r\n\t".contains(c));
    let piped = run(folder.path(), &generate).success().stdout;
    assert!(piped.starts_with("\x1b[2J\r"), "{piped:?}");
    assert!(is_raw(&piped[5..]), "a model of random bytes generates some: {piped:?}");
    let mut running = OnTerminal::start(folder.path(), &generate, &[]);
    running.read_until("never written");
    assert!(running.output.starts_with("\\u{1b}[2J\\r"), "{:?}", running.output);
    assert!(!is_raw(&running.output), "{:?}", running.output);
    // The terminal driver inserts a carriage return before each line feed.
    assert!(!running.output.replace("\r\n", "\n").contains('\r'), "{:?}", running.output);
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn lines_are_printed_with_no_tui_no_color_or_a_dumb_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let short = |name: &'static str| ["train", "debug", "--set", "schedule.max_steps=4", "--run", name];
    let cases = [
        ([short("a").as_slice(), &["--no-tui"]].concat(), ("TERM", "xterm")),
        (short("b").to_vec(), ("TERM", "dumb")),
        (short("c").to_vec(), ("NO_COLOR", "1")),
    ];
    for (args, env) in cases {
        let mut running = OnTerminal::start(folder.path(), &args, &[env]);
        running.read_until(ENTER);
        assert!(!running.output.contains(ENTER), "{}", running.output);
        assert!(running.output.contains("validation loss"), "{}", running.output);
        assert_eq!(running.end().0, Some(0));
    }
    let quiet = [short("d").as_slice(), &["--quiet"]].concat();
    let mut running = OnTerminal::start(folder.path(), &quiet, &[]);
    running.read_until(ENTER);
    assert_eq!(running.output, "");
    assert_eq!(running.end().0, Some(0));
}
