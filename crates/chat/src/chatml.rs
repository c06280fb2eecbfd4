//! ChatML, the chat format of our own models.
//!
//! SmolLM2, Qwen and Ollama use it too. Each message is `<|im_start|>ROLE`, a line break, its text, `<|im_end|>` and a
//! line break. A model with this format has `<|im_end|>` as EOS token.

use std::ops::Range;

use crate::Message;

/// The special token before the role of a message.
pub const START: &str = "<|im_start|>";

/// The special token after the text of a message: the EOS token of the model.
pub const END: &str = "<|im_end|>";

/// The special tokens of ChatML.
pub const SPECIAL_TOKENS: [&str; 2] = [START, END];

/// The chat template. It has no tags `{% generation %}`, which not all programs know.
pub const TEMPLATE: &str = "\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
";

/// The text of a conversation, and the ranges that a model generates, by message: the text of each message, its end
/// token and the line break.
///
/// The text and the ranges of the assistant's messages equal those of [`TEMPLATE`].
pub(crate) fn render(messages: &[Message]) -> (String, Vec<Range<usize>>) {
    let mut text = String::new();
    let mut ranges = Vec::with_capacity(messages.len());
    for message in messages {
        text.extend([START, &message.role, "\n"]);
        let start = text.len();
        text.extend([&message.content, END, "\n"]);
        ranges.push(start..text.len());
    }
    (text, ranges)
}
