//! Takes over the terminal, draws on it from a thread of its own, and restores it however the process ends.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, BufWriter, Stderr, Write},
    panic,
    sync::{
        Arc, Mutex, MutexGuard, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{
            Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
        },
    },
};

use crate::{Dashboard, draw};

/// Minimum time between two draws.
const FRAME: Duration = Duration::from_millis(250);

/// Interval of the `refresh` callback, for clocks.
const REFRESH: Duration = Duration::from_secs(1);

/// Maximum delay until a key press or the end is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Whether the live view controls the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Panic messages while the terminal is taken, printed when it is restored.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Held while a frame is drawn.
static DRAWING: Mutex<()> = Mutex::new(());

/// Maximum time that [`restore`] waits for [`DRAWING`].
const DRAWING_TIMEOUT: Duration = Duration::from_millis(200);

/// Maximum time for the drawing thread to end.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// A request by a key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Finish the step, save and exit: q.
    Stop,
    /// Ctrl-C, which does not send SIGINT in raw mode.
    Interrupt,
    /// Save a checkpoint and continue: s.
    Save,
    /// Generate a sample and continue: w.
    Sample,
}

/// The live view of a dashboard. Clones share it.
#[derive(Clone)]
pub struct Live {
    shared: Arc<Shared>,
}

struct Shared {
    dashboard: Mutex<Dashboard>,
    changed: AtomicBool,
    closed: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Live {
    /// Takes over the terminal on stderr. The drawing thread calls `on_key` for each request, and `refresh` every
    /// second.
    ///
    /// # Errors
    ///
    /// If the terminal can't be taken.
    pub fn open(
        dashboard: Dashboard,
        mut on_key: impl FnMut(Key) + Send + 'static,
        mut refresh: impl FnMut(&mut Dashboard) + Send + 'static,
    ) -> io::Result<Self> {
        let mut terminal = take()?;
        let shared = Arc::new(Shared {
            dashboard: Mutex::new(dashboard),
            changed: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            thread: Mutex::new(None),
        });
        let live = Self { shared };
        let view = live.clone();
        let mut refreshed = Instant::now();
        let mut drawn: Option<Instant> = None;
        let show = move || {
            let _restored = RestoreOnPanic;
            let mut n_panics = 0;
            while !view.shared.closed.load(Ordering::Acquire) {
                // The first line of each has the location; the whole message is printed when the view closes.
                let panics: Vec<String> = lock_panics().iter().skip(n_panics).cloned().collect();
                n_panics += panics.len();
                for message in panics {
                    view.update(|dashboard| dashboard.say(message.lines().next().unwrap_or_default()));
                }
                match next_event() {
                    Some(Event::Key(key)) => view.pressed(key, &mut on_key),
                    Some(Event::Resize(..)) => view.shared.changed.store(true, Ordering::Relaxed),
                    _ => {}
                }
                if refreshed.elapsed() >= REFRESH {
                    view.update(&mut refresh);
                    refreshed = Instant::now();
                }
                if drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME)
                    && view.shared.changed.swap(false, Ordering::Relaxed)
                {
                    view.draw(&mut terminal);
                    drawn = Some(Instant::now());
                }
            }
        };
        let started = thread::Builder::new().name("live view".to_owned()).spawn(show);
        match started {
            Ok(thread) => *live.thread() = Some(thread),
            Err(error) => {
                restore();
                return Err(error);
            }
        }
        Ok(live)
    }

    /// Changes the dashboard.
    pub fn update(&self, change: impl FnOnce(&mut Dashboard)) {
        change(&mut self.dashboard());
        self.shared.changed.store(true, Ordering::Relaxed);
    }

    /// Closes the view and restores the terminal. Returns the last dashboard on the first call.
    pub fn close(&self) -> Option<Dashboard> {
        self.shared.closed.store(true, Ordering::Release);
        let thread = self.thread().take()?;
        // On a closed terminal, polling for keys may block forever; the thread is then abandoned.
        let asked = Instant::now();
        while !thread.is_finished() && asked.elapsed() < CLOSING_TIMEOUT {
            thread::sleep(POLL / 10);
        }
        if thread.is_finished() {
            let _ = thread.join(); // After a panic, the terminal is restored and the message printed already.
        }
        restore();
        Some(self.dashboard().clone())
    }

    fn pressed(&self, key: KeyEvent, on_key: &mut impl FnMut(Key)) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => on_key(Key::Interrupt),
            KeyCode::Char('q') => on_key(Key::Stop),
            KeyCode::Char('s') => on_key(Key::Save),
            KeyCode::Char('w') => on_key(Key::Sample),
            KeyCode::Char('z') => self.update(|dashboard| dashboard.is_zoomed ^= true),
            _ => {}
        }
    }

    fn draw(&self, terminal: &mut Terminal<CrosstermBackend<BufWriter<Stderr>>>) {
        let dashboard = self.dashboard().clone();
        let _drawing = DRAWING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if TAKEN.load(Ordering::SeqCst) {
            let _ = terminal.draw(|frame| draw(&dashboard, frame)); // There is no place to report the error.
        }
    }

    fn dashboard(&self) -> MutexGuard<'_, Dashboard> {
        self.shared.dashboard.lock().expect("nothing panics while it is held")
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.shared.thread.lock().expect("nothing panics while it is held")
    }
}

/// The next terminal event, if one arrives within [`POLL`].
fn next_event() -> Option<Event> {
    match event::poll(POLL) {
        Ok(true) => event::read().ok(),
        Ok(false) => None,
        Err(_) => {
            thread::sleep(POLL); // Keys can't be read; the view continues without them.
            None
        }
    }
}

/// Restores the terminal if the drawing thread panics, since the run continues.
struct RestoreOnPanic;

impl Drop for RestoreOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            restore();
        }
    }
}

/// Takes over the terminal. From now on, panic messages are kept until it is restored, and the view shows their first
/// lines. A panic that is caught leaves the view open.
fn take() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stderr>>>> {
    keep_panics();
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let terminal = execute!(io::stderr(), EnterAlternateScreen, Clear(ClearType::All))
        .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr()))));
    terminal.inspect_err(|_| restore())
}

/// Installs a panic hook that keeps messages while the terminal is taken.
fn keep_panics() {
    static ON_PANIC: Once = Once::new();
    ON_PANIC.call_once(|| {
        let previous_hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if TAKEN.load(Ordering::SeqCst) {
                keep_panic(panic);
            } else {
                previous_hook(panic);
            }
        }));
    });
}

fn keep_panic(panic: &panic::PanicHookInfo<'_>) {
    let thread = thread::current();
    let mut message = format!("thread '{}' {panic}", thread.name().unwrap_or("unnamed"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        message += &format!("\n{trace}");
    }
    lock_panics().push(message);
}

fn lock_panics() -> MutexGuard<'static, Vec<String>> {
    PANICS.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Restores the terminal immediately if it is taken, for a process that is about to exit.
pub fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // Wait with a timeout: this thread may hold the lock, if it panicked while drawing.
    let asked = Instant::now();
    let mut drawing = DRAWING.try_lock();
    while drawing.is_err() && asked.elapsed() < DRAWING_TIMEOUT {
        thread::sleep(Duration::from_millis(5));
        drawing = DRAWING.try_lock();
    }
    // If one call fails, the others are still tried.
    let _ = disable_raw_mode();
    let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    let panics = std::mem::take(&mut *lock_panics());
    for message in panics {
        let _ = writeln!(io::stderr(), "{message}");
    }
    let _ = io::stderr().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_leaves_the_view_open_and_is_printed_at_the_end() {
        keep_panics();
        TAKEN.store(true, Ordering::SeqCst);
        panic::catch_unwind(|| panic!("caught")).unwrap_err();
        assert!(TAKEN.load(Ordering::SeqCst), "the view stays open");
        let kept = PANICS.lock().unwrap().clone();
        assert!(kept.len() == 1 && kept[0].contains("\ncaught"), "{kept:?}");

        let drawing = thread::spawn(|| {
            let _restored = RestoreOnPanic;
            panic!("drawing")
        });
        drawing.join().unwrap_err();
        assert!(!TAKEN.load(Ordering::SeqCst), "the terminal is restored");
        assert!(PANICS.lock().unwrap().is_empty(), "the messages are printed");
    }
}
