"""Makes the fixture of `chat/tests/it/golden.rs`: the texts of transformers for every template and conversation.

    python chat_templates.py ../../crates/chat/tests/fixtures

The templates are the folder's *.jinja. They are written for these tests, with the language features of the templates of
well-known models. `golden.json` has one line per template, conversation and end of the prompt: the rendered text, the
message of `raise_exception`, or the error if transformers fails in another way.
"""

import argparse
import itertools
import json
from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}

CONVERSATIONS = {
    "empty": [],
    "question": [("user", "hello  there!")],
    "instructed": [("system", "Be kind. "), ("user", " hello\nthere!\n")],
    "only_system": [("system", "Be kind.")],
    "empty_system": [("system", ""), ("user", "hello")],
    "answered": [("user", "hello?"), ("assistant", "\n Hello you! \n")],
    "long": [
        ("system", "Be kind."),
        ("user", "tell me"),
        ("assistant", "<think>\nWhat, exactly?\n</think>\n\nTell you what?"),
        ("user", "a tale"),
        ("assistant", "<think>Once.</think>Once upon a time"),
    ],
    "no_turns": [("user", "hello"), ("user", "hello again")],
    "scripts": [
        ("user", "Grüße, 你好 🙂 ναι\t\"quoted\" \\ {{ 'a' }} {% raw %} </s>"),
        ("assistant", ""),
        ("user", "7"),
        ("assistant", "EH"),
    ],
    "tools": [
        ("user", "weather?"),
        ("tool", "<result>7 °C</result>"),
        ("tool", "rain"),
        ("assistant", "<think>cold</think>\nCold."),
    ],
    "unknown_role": [("critic", "Boo!")],
}


def outcome(template: str, messages: list[dict[str, str]], add_generation_prompt: bool) -> dict[str, str | None]:
    try:
        texts, _ = render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=add_generation_prompt, **SPECIAL
        )
        return {"text": texts[0]}
    except jinja2.exceptions.TemplateError as error:
        # Errors of jinja2 itself are of subclasses.
        return {"refused": str(error)} if type(error) is jinja2.exceptions.TemplateError else {"failed": str(error)}
    except (TypeError, ValueError, AttributeError) as error:
        return {"failed": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    cases = []
    for path, (name, turns) in itertools.product(sorted(folder.glob("*.jinja")), CONVERSATIONS.items()):
        template = path.read_text(encoding="utf-8")
        messages = [{"role": role, "content": content} for role, content in turns]
        for prompt in [False, True] if "add_generation_prompt" in template else [True]:
            case = {"template": path.name, "conversation": name, "messages": messages, "add_generation_prompt": prompt}
            cases.append(case | outcome(template, messages, prompt))
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    golden = f'{{"special": {json.dumps(SPECIAL)}, "cases": [\n{lines}\n]}}\n'
    (folder / "golden.json").write_text(golden, encoding="utf-8")


if __name__ == "__main__":
    main()
