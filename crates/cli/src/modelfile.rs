//! The `Modelfile` from which Ollama makes a model of a GGUF file.

use chat::{Message, SpecialTexts, Template, chatml};
use engine::Model;

/// ChatML in the syntax of Ollama's templates.
const CHATML: &str = "\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
";

/// The chat format of a model.
#[derive(Debug, PartialEq, Eq)]
enum Format {
    /// The model continues texts.
    None,
    /// ChatML, with a system message for conversations without one.
    ChatMl {
        system: Option<String>,
    },
    Other,
}

/// The text of the file for a model in the GGUF file `name`, in the same folder.
pub(crate) fn modelfile(name: &str, model: &Model) -> String {
    let Model { gpt, tokenizer, special_tokens } = model;
    let template = special_tokens.companions.chat_template();
    let format = template.map_or(Format::None, |text| format_of(text, &special_tokens.texts(tokenizer)));
    let mut lines = vec![
        "# ollama create NAME -f Modelfile".to_owned(),
        format!("FROM {}", quoted(&format!("./{name}"))),
        format!("PARAMETER num_ctx {}", gpt.config().block_size),
    ];
    let stop_texts = special_tokens.eos.iter().map(|&id| tokenizer.decode(&[id]));
    lines.extend(stop_texts.map(|text| format!("PARAMETER stop {}", quoted(&text))));
    match format {
        Format::None => {
            lines.push("# The model has no chat template: it continues texts.".to_owned());
            lines.push("TEMPLATE \"{{ .Prompt }}\"".to_owned());
        }
        Format::ChatMl { system } => {
            lines.push(format!("TEMPLATE \"\"\"{CHATML}\"\"\""));
            lines.extend(system.map(|system| format!("SYSTEM \"\"\"{system}\"\"\"")));
        }
        Format::Other => lines.push(
            "# Ollama looks for a template of its own that is like the chat template in the GGUF file. To see which:\n\
             # ollama show --template NAME"
                .to_owned(),
        ),
    }
    lines.join("\n") + "\n"
}

/// Compares the texts of a template with those of ChatML.
fn format_of(text: &str, special: &SpecialTexts) -> Format {
    let Ok(template) = Template::new(text, special) else { return Format::Other };
    let chatml = Template::new(chatml::TEMPLATE, &SpecialTexts::new()).expect("it is valid");
    let render = |template: &Template, messages: &[Message]| template.render_prompt(messages).ok();
    let whole = [Message::system("A"), Message::user("b"), Message::assistant("c"), Message::user("d")];
    if render(&template, &whole) != render(&chatml, &whole) {
        return Format::Other;
    }
    let (found, expected) = (render(&template, &whole[1..2]), render(&chatml, &whole[1..2]));
    let (Some(found), Some(expected)) = (found, expected) else { return Format::Other };
    match found.strip_suffix(&expected) {
        Some("") => Format::ChatMl { system: None },
        Some(before) => {
            let system =
                before.strip_prefix("<|im_start|>system\n").and_then(|it| it.strip_suffix("<|im_end|>\n"));
            match system.filter(|system| !system.contains("\"\"\"") && !system.contains(chatml::START)) {
                Some(system) => Format::ChatMl { system: Some(system.to_owned()) },
                None => Format::Other,
            }
        }
        None => Format::Other,
    }
}

/// A value, in quotation marks if it needs them.
fn quoted(text: &str) -> String {
    if text.contains(['"', '\n']) {
        format!("\"\"\"{text}\"\"\"")
    } else if text.starts_with("./") && !text.contains(char::is_whitespace) {
        text.to_owned()
    } else {
        format!("\"{text}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Format {
        format_of(text, &SpecialTexts::new())
    }

    #[test]
    fn chatml_is_recognised_by_its_texts() {
        assert_eq!(of(chatml::TEMPLATE), Format::ChatMl { system: None });
        // As in SmolLM2 and Qwen2.5.
        let with_default =
            "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}";
        let text = format!("{with_default}{}", chatml::TEMPLATE);
        assert_eq!(of(&text), Format::ChatMl { system: Some("Be kind.".to_owned()) });
    }

    #[test]
    fn other_templates_are_not_taken_for_chatml() {
        for text in [
            "{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}",
            "{{ raise_exception('no') }}",
            "{% if %}",
            &format!("<s>{}", chatml::TEMPLATE),
            // Only without a system message.
            &format!("{{% if messages[0].role != 'system' %}}Hello{{% endif %}}{}", chatml::TEMPLATE),
        ] {
            assert_eq!(of(text), Format::Other, "{text}");
        }
    }

    #[test]
    fn values_are_quoted_if_necessary() {
        assert_eq!(quoted("./a.gguf"), "./a.gguf");
        assert_eq!(quoted("./my model.gguf"), "\"./my model.gguf\"");
        assert_eq!(quoted("<|im_end|>"), "\"<|im_end|>\"");
        assert_eq!(quoted("\n"), "\"\"\"\n\"\"\"");
    }
}
