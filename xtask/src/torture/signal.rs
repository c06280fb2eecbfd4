//! Signals to a running program. Only Unix has them.

use std::io;
use std::process::{Child, ExitStatus};

/// What a run is told, or ended by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// What no program can catch.
    Kill,
    /// Ctrl-C.
    Interrupt,
    /// What `kill` and a shutdown send.
    Terminate,
    /// What Slurm sends before it takes the machine away.
    User1,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::User1 => "SIGUSR1",
        }
    }

    /// What a program exits with that ends of itself because of this signal, as a shell says it.
    pub(crate) fn exit_code(self) -> i32 {
        128 + self.number()
    }

    #[cfg(unix)]
    pub(crate) fn number(self) -> i32 {
        self.of_system() as i32
    }

    #[cfg(unix)]
    pub(crate) fn send(self, child: &Child) -> io::Result<()> {
        use nix::{sys::signal::kill, unistd::Pid};
        let pid = i32::try_from(child.id()).expect("the system's own numbers of processes are signed");
        Ok(kill(Pid::from_raw(pid), self.of_system())?)
    }

    #[cfg(unix)]
    fn of_system(self) -> nix::sys::signal::Signal {
        use nix::sys::signal::Signal as System;
        match self {
            Self::Kill => System::SIGKILL,
            Self::Interrupt => System::SIGINT,
            Self::Terminate => System::SIGTERM,
            Self::User1 => System::SIGUSR1,
        }
    }
}

/// The number of the signal that ended a program, if one did.
#[cfg(unix)]
pub(crate) fn that_ended(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// Nothing runs there, so nothing of this is called.
#[cfg(not(unix))]
mod elsewhere {
    use super::*;

    impl Signal {
        pub(crate) fn number(self) -> i32 {
            0
        }

        pub(crate) fn send(self, _: &Child) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub(crate) fn that_ended(_: ExitStatus) -> Option<i32> {
        None
    }
}
#[cfg(not(unix))]
pub(crate) use elsewhere::that_ended;
