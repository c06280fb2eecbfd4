//! The first lines of a model card: its metadata, and how the model was made.

use std::path::Path;

use families::Family;
use indicatif::HumanCount;
use serde_json::json;
use trainer::Recipe;

use crate::History;

/// The metadata of the Hugging Face hub, in YAML.
pub(super) fn metadata(history: &History) -> String {
    let (family, base) = (Family::of(&history.config), base_of(history));
    let is_adapter = history.folder.is_adapter();
    let library = match &family {
        Ok(_) if is_adapter => "library_name: peft\n",
        Ok(_) => "library_name: transformers\n",
        Err(_) => "",
    };
    let recipe = history.recipe.as_ref();
    let tags = [
        family.ok().map(|family| family.model_type),
        is_adapter.then_some("lora"),
        recipe.filter(|recipe| recipe.chat.is_some()).map(|_| "conversational"),
        recipe.filter(|recipe| recipe.dpo.is_some()).map(|_| "dpo"),
        Some("kindling"),
    ];
    let tags: Vec<&str> = tags.into_iter().flatten().collect();
    let base = base.map_or_else(String::new, |base| format!("base_model: {}\n", json!(base)));
    format!("---\n{library}pipeline_tag: text-generation\ntags: [{}]\n{base}---\n", tags.join(", "))
}

/// A paragraph about the model and its training.
pub(super) fn paragraph(history: &History) -> String {
    let recipe = history.recipe.as_ref();
    let family =
        Family::of(&history.config).map_or_else(|_| String::new(), |family| format!("{} ", family.name));
    let kind = if recipe.is_some_and(|recipe| recipe.chat.is_some()) { "chat" } else { "language" };
    let model =
        format!("{family}{kind} model of {} parameters", HumanCount(history.config.n_params() as u64));
    let base = base_of(history).unwrap_or_else(|| "a base model".to_owned());
    let training = training(recipe);
    let version = env!("CARGO_PKG_VERSION");
    match recipe.and_then(|recipe| recipe.lora.as_ref()) {
        Some(lora) => format!(
            "A LoRA adapter: low-rank updates of rank {} for {base}, {training} with Kindling {version}. Both together \
             are a {model}.",
            lora.rank
        ),
        None => {
            let initialised =
                base_of(history).map_or_else(String::new, |base| format!(" It was initialised from {base}."));
            format!("A {model}, {training} with Kindling {version}.{initialised}")
        }
    }
}

/// The training and its data. Full paths would reveal the user's folders, so it has file names only.
fn training(recipe: Option<&Recipe>) -> String {
    let Some(recipe) = recipe else { return "trained on `unknown`".to_owned() };
    let corpus = file_name(&recipe.data.corpus);
    match (recipe.dpo, recipe.chat) {
        (Some(_), _) => {
            format!("tuned by direct preference optimisation (DPO) on the pairs of answers `{corpus}`")
        }
        (None, Some(_)) => format!("fine-tuned on the conversations `{corpus}`"),
        (None, None) => format!("trained on `{corpus}`"),
    }
}

/// The file name of the base model.
fn base_of(history: &History) -> Option<String> {
    history.sessions.first()?.init_from.as_deref().map(file_name)
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}
