//! `sessions.jsonl`: the starts and resumes of a run, with device, version and changes of the recipe.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::{Result, RunFolder, error::io};

const SESSIONS: &str = "sessions.jsonl";

/// A session of training, from a start or resume to its end or interruption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Steps done before the session.
    pub step: u64,
    /// Start time in seconds since 1970.
    pub started: u64,
    /// Version of kindling.
    pub version: String,
    pub device: String,
    /// Number of CPU threads.
    pub threads: usize,
    /// The recipe that the run was started with: a preset name or a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The model whose weights the run was started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_from: Option<String>,
    /// Number of tokens in the training part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_tokens: Option<u64>,
    /// Changes of the recipe since the previous session: the old and new value of each key.
    pub changes: BTreeMap<String, [String; 2]>,
}

impl Session {
    /// A session that starts now.
    pub fn now(step: u64, device: String, threads: usize, changes: BTreeMap<String, [String; 2]>) -> Self {
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self {
            step,
            started: since_1970.as_secs(),
            version,
            device,
            threads,
            recipe: None,
            init_from: None,
            train_tokens: None,
            changes,
        }
    }
}

impl RunFolder {
    /// Appends a session to the run's sessions.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn add_session(&self, session: &Session) -> Result<()> {
        let path = self.path().join(SESSIONS);
        let line = serde_json::to_string(session).expect("sessions can be serialised");
        // After a line truncated by a crash, start a new line.
        let is_truncated = fs::read(&path).is_ok_and(|text| text.last().is_some_and(|&byte| byte != b'\n'));
        let line = if is_truncated { format!("\n{line}\n") } else { format!("{line}\n") };
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(io("write", &path))
    }

    /// The run's sessions, oldest first. Truncated lines are skipped.
    pub fn sessions(&self) -> Vec<Session> {
        let text = fs::read_to_string(self.path().join(SESSIONS)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_appended() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&parent.path().join("run")).unwrap();
        assert!(run.sessions().is_empty());
        let changes = BTreeMap::from([("schedule.max_steps".to_owned(), ["40".to_owned(), "80".to_owned()])]);
        let sessions = [(0, BTreeMap::new()), (40, changes)]
            .map(|(step, changes)| Session::now(step, "cpu".into(), 2, changes));
        sessions.iter().for_each(|session| run.add_session(session).unwrap());
        assert_eq!(run.sessions(), sessions);

        let path = run.path().join(SESSIONS);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        run.add_session(&sessions[1]).unwrap();
        assert_eq!(run.sessions(), sessions, "only the truncated line is lost");
    }
}
