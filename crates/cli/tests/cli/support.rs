//! Runs `kindling` as a user does, in a folder of the test.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// The output and exit code of a command.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The output. Panics if the command failed.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// The error message. Panics unless the exit code is 1 and stdout is empty.
    #[track_caller]
    pub(crate) fn failure(self) -> String {
        self.error(1)
    }

    /// The error message. Panics unless the exit code is 2, for invalid arguments, and stdout is empty.
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

/// The path of a test fixture, relative to the crate.
pub(crate) fn fixture(path: &str) -> PathBuf {
    Path::new(&cargo_path("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))).join(path)
}

/// A path that cargo sets at run time, or else at build time. `cargo xtask device-check` runs the tests on another
/// machine than the one that built them.
fn cargo_path(variable: &str, when_built: &str) -> String {
    env::var(variable).unwrap_or_else(|_| when_built.to_owned())
}

/// A command that runs `kindling` in a folder, without the variable by which it would notice cargo.
pub(crate) fn kindling(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(cargo_path("CARGO_BIN_EXE_kindling", env!("CARGO_BIN_EXE_kindling")));
    command.args(args).current_dir(folder).env_remove("CARGO").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs `kindling` to its end.
pub(crate) fn run(folder: &Path, args: &[&str]) -> Ran {
    ran(&mut kindling(folder, args))
}

/// Runs `kindling` to its end. A signal ends it after 10 seconds of CPU time or, where the system supports the limit,
/// above 8 GiB of address space.
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

/// Converts the output of a finished command.
pub(crate) fn ended(Output { status, stdout, stderr }: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("all output is UTF-8");
    Ran { code: status.code().expect("no signal ended it"), stdout: text(stdout), stderr: text(stderr) }
}

/// A folder with one finished run, `runs/debug`, shared by all tests.
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
