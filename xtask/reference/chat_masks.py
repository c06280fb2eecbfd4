"""The chat templates of Python packages, and trl's tokens and masks for them.

    python chat_masks.py templates FOLDER           # the packages of chat_masks_requirements.txt suffice
    python chat_masks.py golden ../../crates/chat/tests/fixtures/masks    # also needs trl's own requirements

`templates` writes the templates as FOLDER/NAME.jinja, and FOLDER/NAME_training.jinja with the tags {% generation %}: for
llama3, qwen3 and gemma trl's training templates, for chatml and zephyr with tags added here. They belong to others, so
they are not committed; `KINDLING_CHAT_TEMPLATES=FOLDER` has the tests read them.

`golden` makes the fixtures of `chat/tests/it/masks.rs`. For each template it trains a small tokenizer with the
pipeline of a well-known model. trl's `SFTTrainer` prepares the conversations in two ways:

- `completion`: an answer after a prompt, with the published template. trl masks the tokens that the prompt alone has
  too. If the tokens at its end differ from those of the whole (`prompt_is_prefix` is false), that may train one more.
- `assistant`: all answers with `assistant_only_loss` and the training template.
"""

import argparse
import ast
import importlib.util
import json
import re
from pathlib import Path

TRL = ["llama3", "qwen3", "gemma"]
# Only checked for a mask: other programs give these published templates an empty one.
OTHERS = ["llama3_1", "gemma3", "qwen2_5"]
AUTOTRAIN = {"chatml": "CHATML_CHAT_TEMPLATE", "zephyr": "ZEPHYR_CHAT_TEMPLATE"}

# Where the tags of a training template belong: the expression of an answer, split into its start and the generated text.
ANSWERS = {
    "chatml": r"\{\{ ?('<\|im_start\|>' \+ message\['role'\] \+ '\n') \+ (message\['content'\] \+ '<\|im_end\|>' \+ '\n') ?\}\}",
    "zephyr": r"\{\{ ?('<\|assistant\|>\n') +\+ (message\['content'\] \+ eos_token) ?\}\}\n",
}

# All of Unicode's common splits: contractions, words, numbers, punctuation, line breaks and spaces.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")

CONVERSATIONS = {
    "short": [("user", "What is 2 + 2?"), ("assistant", "2 + 2 is 4.")],
    "system": [
        ("system", "Answer in one word."),
        ("user", "What colour is the sky?"),
        ("assistant", "Blue."),
        ("user", "And grass?"),
        ("assistant", "Green."),
    ],
    "turns": [
        ("user", "Count to three."),
        ("assistant", "One, two, three."),
        ("user", "Now back."),
        ("assistant", "Three, two, one."),
        ("user", "Once more, in digits."),
        ("assistant", "3 2 1"),
    ],
    "spaces": [
        ("user", "  two spaces \n"),
        ("assistant", "\n\nTwo lines first,  and spaces last.  \n\n"),
        ("user", "\n"),
        ("assistant", " one space"),
    ],
    "letters": [
        ("user", "Cafe\u0301, na\u0131\u0308ve, Gr\u00fc\u00dfe, \u4f60\u597d, \U0001f642?"),
        ("assistant", "\u2018Cafe\u0301\u2019 \u2013 \u4f60\u597d \U0001f642\U0001f680 e\u0301"),
        ("user", "e\u0301"),
        ("assistant", "\U0001f642"),
    ],
    "code": [
        ("user", "A loop in Python, and <|a tag|> </b> [INST] {{ x }}."),
        ("assistant", "```python\nfor i in range(3):\n    print(i)  # {% if %}\n```\n\nDone: <|end"),
    ],
    "thoughts": [
        ("user", "7 * 6?"),
        ("assistant", "<think>\n7 * 6 is 42.\n</think>\n\n42"),
        ("user", "Are you sure?"),
        ("assistant", "<think>\nYes.\n</think>\n\nYes, 42."),
    ],
    "unanswered": [("user", "Hello!"), ("assistant", "Hello! How can I help?"), ("user", "Thanks, that is all.")],
    "same": [("user", "yes"), ("assistant", "yes"), ("user", "yes"), ("assistant", "yes")],
}


def package(name: str) -> Path:
    """The folder of a package, which is not imported."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise SystemExit(f"the Python package {name} is not installed; see chat_masks_requirements.txt")
    return Path(found.origin).parent


def read_templates() -> dict[str, str]:
    folder = package("trl") / "chat_templates"
    names = [name for stock in TRL for name in (stock, f"{stock}_training")] + OTHERS
    templates = {name: (folder / f"{name}.jinja").read_text(encoding="utf-8") for name in names}
    module = ast.parse((package("autotrain") / "trainers/clm/utils.py").read_text(encoding="utf-8"))
    constants = {
        statement.targets[0].id: statement.value.value
        for statement in module.body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
    }
    for name, constant in AUTOTRAIN.items():
        templates[name] = constants[constant]
        templates[f"{name}_training"] = with_tags(name, constants[constant])
    return templates


def with_tags(name: str, template: str) -> str:
    """A template with tags around the text that the assistant generates."""

    def tagged(found: re.Match[str]) -> str:
        start, answer = found.groups()
        newline = "\n" if found[0].endswith("\n") else ""
        generated = f"{{% generation %}}{{{{ {answer} }}}}{newline}{{% endgeneration %}}"
        is_assistant = "{% if message['role'] == 'assistant' %}"
        other = f"{{% else %}}{{{{ {answer} }}}}{newline}{{% endif %}}"
        return f"{{{{ {start} }}}}{is_assistant}{generated}{other}"

    found, n_found = re.subn(ANSWERS[name], tagged, template)
    if n_found != 1:
        raise SystemExit(f"the template {name} of autotrain-advanced has changed; adapt ANSWERS")
    return found


def texts() -> list[str]:
    """The corpus of the tokenizers."""
    from itertools import chain

    turns = [text for messages in CONVERSATIONS.values() for _, text in messages]
    roles = ["system\n", "user\n", "assistant\n", "model\n", "<|user|>\n", "<|assistant|>\n", "\n\n\n", "<think>\n\n</think>\n\n"]
    return list(chain(turns, roles)) * 3


def byte_level(split: str | None, normalizer: object, special: list[str], added: list[str], **options: bool):
    """A byte-level BPE, as of GPT-2, Llama 3 and Qwen."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.normalizer = normalizer
    if split is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    return tokenizer


def sentencepiece(prepends: bool, special: list[str]):
    """A BPE over characters with a byte fallback, as of Llama 2 and Gemma."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    replace = normalizers.Replace(" ", "\u2581")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), replace]) if prepends else replace
    if not prepends:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + ([decoders.Strip(" ", 1, 0)] if prepends else []))
    known = {character for text in texts() for character in text if character.isascii()}
    corpus = ["".join(character for character in text if character in known) for text in texts()]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=["<unk>", *special, *bytes_], show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] not in bytes_]
    return Tokenizer.from_str(json.dumps(file))


def tokenizers() -> dict[str, tuple[object, dict[str, str]]]:
    """By template: the tokenizer and its special tokens by name."""
    from tokenizers import normalizers

    chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    llama = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    gemma = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    return {
        "chatml": (byte_level(None, None, chatml, []), {"eos_token": chatml[2], "pad_token": chatml[2]}),
        "llama3": (
            byte_level(LLAMA3_SPLIT, None, llama, [], ignore_merges=True),
            {"bos_token": llama[0], "eos_token": llama[4], "pad_token": llama[1]},
        ),
        "qwen3": (
            byte_level(QWEN_SPLIT, normalizers.NFC(), chatml, ["<think>", "</think>"]),
            {"eos_token": chatml[2], "pad_token": chatml[0]},
        ),
        "gemma": (sentencepiece(False, gemma), {"bos_token": gemma[2], "eos_token": gemma[1], "pad_token": gemma[0]}),
        "zephyr": (
            sentencepiece(True, ["<s>", "</s>"]),
            {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"},
        ),
    }


class Trl:
    """trl's preparation of conversations with one template."""

    def __init__(self, tokenizer: object, special: dict[str, str], template: str) -> None:
        from transformers import PreTrainedTokenizerFast

        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
        self.tokenizer.chat_template = template

    def prepare(self, row: dict, assistant_only_loss: bool) -> tuple[list[int], list[bool]]:
        """The ids of a row and which of them have a loss."""
        from types import SimpleNamespace

        from datasets import Dataset
        from trl import SFTTrainer

        trainer = SimpleNamespace(
            _tokenizer=self.tokenizer, chat_template=None, completion_only_loss="prompt" in row, padding_free=False
        )
        args = SimpleNamespace(
            dataset_num_proc=None,
            dataset_text_field="text",
            assistant_only_loss=assistant_only_loss,
            max_length=None,
            eos_token=None,
            shuffle_dataset=False,
            use_liger_kernel=False,
        )
        prepared = SFTTrainer._prepare_dataset(
            trainer, Dataset.from_list([row]), self.tokenizer, args, packing=False, formatting_func=None, dataset_name="x"
        )[0]
        return prepared["input_ids"], [label != -100 for label in prepared["labels"]]


def cases(name: str, templates: dict[str, str], tokenizer: object, special: dict[str, str]) -> list[dict]:
    from jinja2.exceptions import TemplateError

    stock = Trl(tokenizer, special, templates[name])
    training = Trl(tokenizer, special, templates[f"{name}_training"])
    found = []

    def add(kind: str, messages: list[dict], ids: list[int], mask: list[bool], **more: bool) -> None:
        digits = "".join(str(int(is_trained)) for is_trained in mask)
        found.append({"kind": kind, "template": name, "messages": messages, "ids": ids, "mask": digits, **more})

    for turns in CONVERSATIONS.values():
        messages = [{"role": role, "content": text} for role, text in turns]
        try:
            for index, (role, _) in enumerate(turns):
                if role == "assistant":
                    prompt, answer = messages[:index], messages[index]
                    ids, mask = stock.prepare({"prompt": prompt, "completion": [answer]}, assistant_only_loss=False)
                    options = {"add_generation_prompt": True, "return_dict": False}
                    prompt_ids = stock.tokenizer.apply_chat_template(prompt, **options)
                    add("completion", [*prompt, answer], ids, mask, prompt_is_prefix=ids[: len(prompt_ids)] == prompt_ids)
            ids, mask = training.prepare({"messages": messages}, assistant_only_loss=True)
            add("assistant", messages, ids, mask)
        except TemplateError as error:
            found.append({"kind": "refused", "template": name, "messages": messages, "reason": str(error)})
    return found


def write_golden(folder: Path) -> None:
    import tokenizers as tokenizers_package
    import transformers
    import trl

    templates = read_templates()
    folder.mkdir(parents=True, exist_ok=True)
    lines, special_tokens = [], {}
    for name, (tokenizer, special) in tokenizers().items():
        (folder / f"{name}.json").write_text(tokenizer.to_str(pretty=False) + "\n", encoding="utf-8")
        special_tokens[name] = special
        lines += [json.dumps(found, ensure_ascii=False) for found in cases(name, templates, tokenizer, special)]
    versions = {module.__name__: module.__version__ for module in [tokenizers_package, transformers, trl]}
    header = f'"versions": {json.dumps(versions)},\n"special": {json.dumps(special_tokens)}'
    text = "{" + header + ',\n"cases": [\n' + ",\n".join(lines) + "\n]}\n"
    (folder / "golden.json").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["templates", "golden"])
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.job == "golden":
        write_golden(args.folder)
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, text in read_templates().items():
        (args.folder / f"{name}.jinja").write_text(text, encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
