//! Setup of a run: the recipe, tokens, weights and folder of a new run, or the checkpoint, recipe and tokens of a run
//! to resume. Nothing here prints or reads arguments.

mod base_model;
mod chats;
mod data;
mod error;
mod new_run;
mod preferences;
mod request;
mod resume;
mod rows;
mod updates;

pub use base_model::BaseModel;
pub use chats::{ChatFormat, ChatSummary, Chats, chat_preset};
pub use data::{RunData, checksums, prepare_data, prepare_same_data};
pub use error::SetupError;
pub use new_run::{CHAT_BLOCK, NewRun, PAIR_BLOCK, PlannedRun};
pub use preferences::{PairSummary, Preferences};
pub use request::RecipeRequest;
pub use resume::{KeptWeights, LockedRun, ResumePlan, ResumeRequest, StoppedRun};
pub use rows::RowsRead;
