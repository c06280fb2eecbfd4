//! The terminal: taken, drawn on by a thread of its own, and given back however things end.

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

/// How long a change waits before it is shown.
const FRAME: Duration = Duration::from_millis(250);

/// How often clocks are brought up to date.
const REFRESH: Duration = Duration::from_secs(1);

/// How soon a key is noticed, and the end.
const POLL: Duration = Duration::from_millis(50);

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The messages of panics while the terminal is taken, which are shown when it is given back.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Held while something is drawn.
static DRAWING: Mutex<()> = Mutex::new(());

/// How long whoever ends the process waits for that.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long the view may take to end.
const CLOSING: Duration = Duration::from_secs(1);

/// What a person asks for by a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Finish the step, save and end: q.
    Stop,
    /// What the signal of that name means, which the terminal does not send meanwhile: Ctrl-C.
    Interrupt,
    /// Save a checkpoint and go on: s.
    Save,
    /// Write a sample and go on: w.
    Sample,
}

/// A dashboard that is shown. Clones show the same one.
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
    /// Takes the terminal that stderr goes to. `on_key` is called with what keys ask for, and `refresh` each second,
    /// both from the thread that draws.
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
                // The first line of each says where; the rest is shown at the end.
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

    /// Changes what is shown.
    pub fn update(&self, change: impl FnOnce(&mut Dashboard)) {
        change(&mut self.dashboard());
        self.shared.changed.store(true, Ordering::Relaxed);
    }

    /// Gives the terminal back. What was shown is returned, the first time.
    pub fn close(&self) -> Option<Dashboard> {
        self.shared.closed.store(true, Ordering::Release);
        let thread = self.thread().take()?;
        // On a terminal that was closed, looking for keys does not return: the thread is then left to itself.
        let asked = Instant::now();
        while !thread.is_finished() && asked.elapsed() < CLOSING {
            thread::sleep(POLL / 10);
        }
        if thread.is_finished() {
            let _ = thread.join(); // If it has panicked, the terminal is given back and the message shown already.
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
            let _ = terminal.draw(|frame| draw(&dashboard, frame)); // Nobody is there to tell.
        }
    }

    fn dashboard(&self) -> MutexGuard<'_, Dashboard> {
        self.shared.dashboard.lock().expect("nothing panics while it is held")
    }

    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.shared.thread.lock().expect("nothing panics while it is held")
    }
}

/// What a person did, if anything before the next look.
fn next_event() -> Option<Event> {
    match event::poll(POLL) {
        Ok(true) => event::read().ok(),
        Ok(false) => None,
        Err(_) => {
            thread::sleep(POLL); // No keys can be read; the view goes on without them.
            None
        }
    }
}

/// Gives the terminal back where the thread that draws panics: nobody else would before the run ends.
struct RestoreOnPanic;

impl Drop for RestoreOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            restore();
        }
    }
}

/// Takes the terminal. From here on a panic does not write over the view: its message is kept until the terminal is given
/// back, and the view shows its first line. The panic may be caught, and then the view goes on.
fn take() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stderr>>>> {
    keep_panics();
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let terminal = execute!(io::stderr(), EnterAlternateScreen, Clear(ClearType::All))
        .and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr()))));
    terminal.inspect_err(|_| restore())
}

/// Has panics kept while the terminal is taken.
fn keep_panics() {
    static ON_PANIC: Once = Once::new();
    ON_PANIC.call_once(|| {
        let shown_before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if TAKEN.load(Ordering::SeqCst) {
                keep_panic(panic);
            } else {
                shown_before(panic);
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

/// Gives the terminal back at once, if it is taken: for a process that is about to end.
pub fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // Not for ever: it may be the drawing that has panicked, on this very thread.
    let asked = Instant::now();
    let mut drawing = DRAWING.try_lock();
    while drawing.is_err() && asked.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
        drawing = DRAWING.try_lock();
    }
    // Whatever fails, the rest is tried.
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
    fn a_panic_that_is_caught_leaves_the_view_and_is_told_at_the_end() {
        keep_panics();
        TAKEN.store(true, Ordering::SeqCst);
        panic::catch_unwind(|| panic!("caught")).unwrap_err();
        assert!(TAKEN.load(Ordering::SeqCst), "the view goes on");
        let kept = PANICS.lock().unwrap().clone();
        assert!(kept.len() == 1 && kept[0].contains("\ncaught"), "{kept:?}");

        let drawing = thread::spawn(|| {
            let _restored = RestoreOnPanic;
            panic!("drawing")
        });
        drawing.join().unwrap_err();
        assert!(!TAKEN.load(Ordering::SeqCst), "nothing draws any more");
        assert!(PANICS.lock().unwrap().is_empty(), "they have been told");
    }
}
