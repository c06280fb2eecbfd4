//! The section of a model card with the Python code and commands that load the model.

use engine::quoted;
use families::Family;
use serde_json::json;

use crate::History;

/// The section, below its heading.
pub(super) fn section(history: &History) -> String {
    let folder = &history.folder;
    // Absolute paths are shortened to the name: they would reveal the user's folders.
    let path = if folder.path().is_absolute() { folder.name() } else { folder.path().display().to_string() };
    let argument = quoted(&path);
    let is_chat = history.recipe.as_ref().is_some_and(|recipe| recipe.chat.is_some());
    let command = format!("`kindling {} {argument}`", if is_chat { "chat" } else { "generate" });
    if let Err(reason) = Family::of(&history.config) {
        return format!("\n## How to use it\n\n{command}; other programs can't load it: {reason}.\n");
    }
    let is_adapter = folder.is_adapter();
    let (imports, class) = match is_adapter {
        true => (
            "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n",
            "AutoPeftModelForCausalLM",
        ),
        false => ("from transformers import AutoModelForCausalLM, AutoTokenizer\n", "AutoModelForCausalLM"),
    };
    let prompt = match is_chat {
        true => {
            "messages = [{\"role\": \"user\", \"content\": \"Hello!\"}]\n\
             prompt = tokenizer.apply_chat_template(\n    \
                 messages, add_generation_prompt=True, return_dict=True, return_tensors=\"pt\"\n\
             )\n"
        }
        false => "prompt = tokenizer(\"Once\", return_tensors=\"pt\")\n",
    };
    let merges = if is_adapter { "merges it with its base model into" } else { "makes" };
    format!(
        "\n## How to use it\n\n\
         ```python\n\
         {imports}\n\
         path = {}  # this folder\n\
         model = {class}.from_pretrained(path)\n\
         tokenizer = AutoTokenizer.from_pretrained(path)\n\
         {prompt}\
         print(tokenizer.decode(model.generate(**prompt, max_new_tokens=50)[0]))\n\
         ```\n\n\
         or {command}; `kindling export {argument} --format gguf` {merges} a file for llama.cpp.\n",
        json!(path)
    )
}
