"""Makes the fixtures of `tokenizer/tests/it/special.rs`: small tokenizers with special tokens, and the ids of transformers.

    python special_tokens.py --out ../../crates/tokenizer/tests/fixtures/special

Each folder is a tokenizer for transformers: a `tokenizer.json`, or for `two_files` the older vocab.json and merges.txt with
added_tokens.json and tokenizer_config.json. `ids.json` has texts with the ids of transformers, which recognises special tokens
(`special`), and those of the `tokenizers` library with special tokens read as text (`plain`). The texts are random with a fixed
seed: words, spaces, line endings, other scripts, and adjacent special tokens.
"""

import argparse
import json
import random
import shutil
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

SEED = 1337
N_TEXTS = 100

# Invented sentences whose words repeat often enough to merge.
CORPUS = [
    "the kettle sings and the cat listens to the kettle",
    "a mason and a miller walk to the market in the morning",
    "seven lanterns hang over the river, and seven more hang over the mill",
    "once more the miller sings, once more the cat walks away",
] * 8
WORDS = "the kettle sings once more a cat word here and mill lanterns über ναι 你好 🙂 é 12 345 x , . ! ' - ▁".split()
SPACES = ["", " ", " ", " ", "  ", "   ", "\n", " \n", "\t", "\u00a0"]


def texts(tokens: list[str]) -> list[str]:
    rng = random.Random(SEED)
    found = ["", " ", tokens[0], tokens[0] * 2, f" {tokens[-1]} ", f"the {tokens[-1]} cat", f"the  {tokens[0]}  cat"]
    while len(found) < N_TEXTS:
        parts = []
        for _ in range(rng.randint(1, 9)):
            parts += [rng.choice(WORDS + tokens * 3), rng.choice(SPACES)]
        found.append("".join(parts))
    return found


def every_merge(vocabulary: dict[str, int]) -> list[list[str]]:
    """Every pair of tokens that joins to a token, in the order in which transformers converts SentencePiece scores to merges."""
    merges = []
    for token, _ in sorted(vocabulary.items(), key=lambda item: item[1]):
        cuts = [[token[:place], token[place:]] for place in range(1, len(token))]
        pairs = [pair for pair in cuts if all(part in vocabulary for part in pair)]
        merges += sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)
    return merges


def pieces(pre_tokenizer: pre_tokenizers.PreTokenizer | None, normalizer: normalizers.Normalizer | None) -> Tokenizer:
    """A SentencePiece BPE with byte fallback."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    special = ["<unk>", "<s>", "</s>"]
    alphabet = special + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=360, special_tokens=alphabet, show_progress=False))
    trained = json.loads(tokenizer.to_str())
    # Bytes are tokens of the model, but not special tokens.
    trained["added_tokens"] = trained["added_tokens"][: len(special)]
    trained["pre_tokenizer"] = None
    trained["model"]["merges"] = every_merge(trained["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(trained))
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    # Decoding strips the space added before a text.
    strip = [] if getattr(pre_tokenizer, "prepend_scheme", None) == "never" else [decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tokenizer


def of_bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|begin|>", "<|end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def stripping() -> Tokenizer:
    tokenizer = of_bytes()
    tokenizer.add_special_tokens([
        AddedToken("<mask>", lstrip=True, special=True, normalized=False),
        AddedToken("<sep>", rstrip=True, special=True, normalized=False),
        AddedToken("<pad>", lstrip=True, rstrip=True, special=True, normalized=False),
    ])
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("mill", single_word=True)])
    return tokenizer


def save_two_files(folder: Path) -> None:
    """The tokenizer in GPT-2's original format, with added tokens."""
    model = json.loads(of_bytes().to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False, sort_keys=True) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in model["merges"]))
    n_tokens = len(model["vocab"])
    user, bot, note = "<|user|>", "<|bot|>", "<note>"
    added = {user: n_tokens, bot: n_tokens + 1, note: n_tokens + 2}
    (folder / "added_tokens.json").write_text(json.dumps(added) + "\n")
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    decoder = {id: {"content": token, "special": token != note, **flags} for token, id in added.items()}
    decoder[n_tokens + 1]["lstrip"] = True
    names = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "unk_token": "<|end|>"}
    config = {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": decoder, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps({**names, "additional_special_tokens": [user, bot]}) + "\n")


def metaspace(scheme: str, split: bool) -> Tokenizer:
    return pieces(pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split), None)


MADE = {
    "metaspace_first": lambda: metaspace("first", False),
    "metaspace_first_split": lambda: metaspace("first", True),
    "metaspace_always": lambda: metaspace("always", False),
    "metaspace_never": lambda: metaspace("never", False),
    "prepend": lambda: pieces(None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
    "stripping": stripping,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for name in [*MADE, "two_files"]:
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if name == "two_files":
            save_two_files(folder)
        else:
            MADE[name]().save(str(folder / "tokenizer.json"), pretty=False)
            (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n')
        opened = AutoTokenizer.from_pretrained(folder)
        backend = opened.backend_tokenizer
        tokens = [token.content for _, token in sorted(backend.get_added_tokens_decoder().items())]
        cases = []
        for text in texts(tokens):
            backend.encode_special_tokens = False
            special = opened.encode(text, add_special_tokens=False)
            backend.encode_special_tokens = True
            cases.append({"text": text, "special": special, "plain": backend.encode(text, add_special_tokens=False).ids})
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
        (folder / "ids.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
