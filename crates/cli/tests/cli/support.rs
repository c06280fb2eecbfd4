//! Runs the program as a person would, in a folder of its own.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// What a command printed, and its exit code.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The output, if the command succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// The error message of a command that failed and wrote nothing to stdout.
    #[track_caller]
    pub(crate) fn failure(self) -> String {
        self.error(1)
    }

    /// The error message of a command whose arguments can't be understood, and that wrote nothing to stdout.
    #[track_caller]
    pub(crate) fn usage_failure(self) -> String {
        self.error(2)
    }

    #[track_caller]
    fn error(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "");
        self.stderr
    }
}

/// A file or folder among those of the tests.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(&told("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))).join(path)
}

/// What cargo says of a path now, or said when it built this: `cargo xtask device-check` has the tests run where they were
/// not built.
fn told(variable: &str, when_built: &str) -> String {
    env::var(variable).unwrap_or_else(|_| when_built.to_owned())
}

/// The program, ready to run in a folder. It does not know that cargo started the test.
pub(crate) fn kindling(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(told("CARGO_BIN_EXE_kindling", env!("CARGO_BIN_EXE_kindling")));
    command.args(args).current_dir(folder).env_remove("CARGO").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(folder: &Path, args: &[&str]) -> Ran {
    ran(&mut kindling(folder, args))
}

/// Runs the program to its end, which comes by a signal if it takes more than 10 seconds of a processor or, where the
/// system can limit that, addresses of more than 8 GiB.
pub(crate) fn bounded(folder: &Path, args: &[&str]) -> Ran {
    let plain = kindling(folder, args);
    if !cfg!(unix) {
        return run(folder, args);
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -t 10; ulimit -v 8388608 2>/dev/null; exec \"$0\" \"$@\""]);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(folder);
    ran(command.env_remove("CARGO").env_remove("RUST_LOG").stdin(Stdio::null()))
}

/// Runs a command to its end.
pub(crate) fn ran(command: &mut Command) -> Ran {
    ended(command.output().unwrap())
}

/// What a command that has ended printed.
pub(crate) fn ended(Output { status, stdout, stderr }: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("all output is UTF-8");
    Ran { code: status.code().expect("it was not killed"), stdout: text(stdout), stderr: text(stderr) }
}

/// A folder with one finished run, `runs/debug`, made once.
pub(crate) fn trained() -> &'static Path {
    static FOLDER: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        run(&path, &["train", "debug"]).success();
        (folder, path)
    });
    path
}
