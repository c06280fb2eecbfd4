"""Makes the fixtures of crates/tokenizer/tests/it/imported.rs with llama.cpp.

    pip install llama-cpp-python==0.3.36      # beside requirements.txt; it compiles llama.cpp
    python gguf_vocabularies.py --out ../../crates/tokenizer/tests/fixtures/gguf

Each vocabulary is a GGUF file without weights, trained on the text below: a byte-level BPE for each supported pattern, and
SentencePiece's BPE with and without a space before a text. `NAME.json` has llama.cpp's ids of every text: `plain` with the BOS
token and with special tokens read as text, `special` without the BOS token and with special tokens recognised.
"""

import argparse
import json
from pathlib import Path

from gguf import GGUFWriter, TokenType
from llama_cpp import Llama
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

CORPUS = """The kettle on the stove was singing when they came in from the garden, and the kitchen was warm.
"It's raining again," she said, "and we'll be wet through before we've walked half of the way to the station."
Then (again) she said: (in the garden)
He didn't answer. There were 12 letters on the table, 3 of them for her; (he'd counted them twice, in 1998 and in 2005.)
Über den Wolken, à la carte, naïve café: other languages have other letters, and 你好 is a greeting.
    if (kettle.isSinging()) { take(it, off); }   // and so on, and so on
1998: 12 letters. 1999: 123 letters. 2005: 12 letters, 123 of 1998 and 1999.
Then the rain was over, and they went into the garden again, and the kettle on the stove was singing.
"""

TEXTS = [
    "The kettle was singing.",
    " The  kettle   was\tsinging \n\n again",
    "it's IT'S we'Ll 'tis they've I'M he'd",
    "1998 12345 3.14 ½ Ⅳ ٣٤",
    "the station.\n\nThe (garden)\r\n\r\n  x!?\n",
    "naïve café à la 你好 🙂 👩‍👩‍👧 e\u0301 \u00a0x\u3000y",
    "<|end|> and <|begin|>the<|end|> <tool> <tool>x <s>the</s><unk>",
    "▁under_score <0x41> \\n",
    "   leading, trailing   ",
    "\n",
    " ",
    "",
]

PATTERNS = ["gpt-2", "smollm", "qwen2", "llama-bpe"]


def trained(pre_tokenizer, alphabet: list[str], n_tokens: int) -> tuple[list[str], list[str]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=n_tokens, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([CORPUS], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [" ".join(merge) for merge in model["merges"]]


def writer(path: Path) -> GGUFWriter:
    file = GGUFWriter(path, "llama")
    file.add_context_length(64)
    return file


def write(file: GGUFWriter) -> None:
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.close()


def merges(path: Path, pattern: str) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Trained on pieces that ignore the pattern, so that some merges cross its boundaries and the pattern has to prevent them.
    words = pre_tokenizers.Split(Regex(r" ?\S+\n*|\s+"), "isolated")
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens, pairs = trained(pre_tokenizers.Sequence([words, spelled]), alphabet, 340)
    special = [("<|begin|>", TokenType.CONTROL), ("<|end|>", TokenType.CONTROL), ("<tool>", TokenType.USER_DEFINED)]
    file = writer(path)
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre(pattern)
    file.add_token_list(tokens + [text for text, _ in special] + ["[PAD]"])
    file.add_token_types([TokenType.NORMAL] * len(tokens) + [kind for _, kind in special] + [TokenType.UNUSED])
    file.add_token_merges(pairs)
    file.add_bos_token_id(len(tokens))
    file.add_eos_token_id(len(tokens) + 1)
    write(file)


def scores(path: Path, adds_space: bool) -> None:
    pieces, _ = trained(pre_tokenizers.Metaspace(prepend_scheme="always"), [], 160)
    # Single characters are first in the vocabulary; earlier merges have higher scores.
    joined = [piece for piece in pieces if len(piece) > 1]
    single = [piece for piece in pieces if len(piece) == 1]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + ["<tool>"]
    kinds = [TokenType.UNKNOWN] + [TokenType.CONTROL] * 2 + [TokenType.BYTE] * 256 + [TokenType.USER_DEFINED]
    ranked = joined + single
    file = writer(path)
    file.add_tokenizer_model("llama")
    file.add_token_list(tokens + ranked)
    file.add_token_types(kinds + [TokenType.NORMAL] * len(ranked))
    file.add_token_scores([0.0] * len(tokens) + [-float(rank) for rank in range(len(ranked))])
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_add_space_prefix(adds_space)
    write(file)


def golden(path: Path) -> None:
    model = Llama(model_path=str(path), vocab_only=True, verbose=False)
    ids = [
        {
            "text": text,
            "plain": model.tokenize(text.encode(), add_bos=True, special=False),
            "special": model.tokenize(text.encode(), add_bos=False, special=True),
        }
        for text in TEXTS
    ]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) for entry in ids)
    path.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for pattern in PATTERNS:
        merges(out / f"{pattern}.gguf", pattern)
        golden(out / f"{pattern}.gguf")
    for name, adds_space in [("scores", True), ("scores-no-space", False)]:
        scores(out / f"{name}.gguf", adds_space)
        golden(out / f"{name}.gguf")


if __name__ == "__main__":
    main()
