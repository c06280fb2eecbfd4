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
        self.of_system().as_raw()
    }

    #[cfg(unix)]
    pub(crate) fn send(self, child: &Child) -> io::Result<()> {
        use rustix::process::{Pid, kill_process};
        Ok(kill_process(Pid::from_child(child), self.of_system())?)
    }

    #[cfg(unix)]
    fn of_system(self) -> rustix::process::Signal {
        use rustix::process::Signal as System;
        match self {
            Self::Kill => System::KILL,
            Self::Interrupt => System::INT,
            Self::Terminate => System::TERM,
            Self::User1 => System::USR1,
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
