"""Makes fixtures of crates/checkpoint/tests/families.rs: models trained by Kindling, with the results of transformers and llama.cpp.

    python families.py --kindling ../../target/debug/kindling --llama-cpp LLAMA.CPP --out ../../crates/checkpoint/tests/fixtures NAME ..

NAME is a family of RECIPES. Kindling trains a tiny model on a generated text and exports it to `layouts/NAME_trained`. Its
golden.json has `ids` and transformers' `logits` at every position in f64, rounded to f32. convert_hf_to_gguf.py of a llama.cpp
checkout converts that folder to `gguf/NAME_trained.gguf`. It recognises tokenizers by a list of published ones, so this script
overrides the name of the tokenizer.

    python families.py --check --out ../../crates/checkpoint/tests/fixtures NAME ..

reads the GGUF files of the converter and of Kindling with llama.cpp (llama-cpp-python) and compares the logits.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

BLOCK = 12
COMMON = {
    "model.n_layer": 2, "model.n_head": 4, "model.n_kv_head": 2, "model.n_embd": 16, "model.block_size": BLOCK,
    "model.position": "rope", "model.norm": "rms_norm", "model.activation": "swiglu", "model.bias": False,
    "data.tokenizer": "bpe:260", "schedule.max_steps": 60, "optimizer.learning_rate": 0.01,
}
RECIPES = {
    "qwen3": {"model.qk_norm": True, "model.head_dim": 6},
    "mistral": {"model.family": "mistral", "model.tie_embeddings": False},
    "qwen2": {"model.qkv_bias": True},
}
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
IDS = [1, 17, 256, 99, 258, 32, 101, 257, 259, 7, 110, 200]


def text() -> str:
    """The numbers from 0 to 1999, digit by digit."""
    return "".join(" ".join(DIGITS[int(digit)] for digit in str(number)) + "\n" for number in range(2000))


def train(name: str, kindling: Path, layouts: Path, work: Path) -> Path:
    (work / "numbers.txt").write_text(text())
    sets = [f"--set={key}={str(value).lower()}" for key, value in (COMMON | RECIPES[name]).items()]

    def run(*args: str) -> None:
        subprocess.run([kindling.resolve(), *args], cwd=work, check=True, stdout=subprocess.DEVNULL)

    run("-q", "train", "debug", "--data", "numbers.txt", "--run", name, *sets)
    folder = layouts / f"{name}_trained"
    shutil.rmtree(folder, ignore_errors=True)
    run("-q", "export", name, "--format", "safetensors", "-o", str(folder.resolve()))
    return folder


def save_golden(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0].float().flatten().tolist()
    (folder / "golden.json").write_text(json.dumps({"ids": IDS, "logits": logits}) + "\n")


def convert(folder: Path, path: Path, llama_cpp: Path) -> None:
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    import convert_hf_to_gguf
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    sys.argv = ["convert_hf_to_gguf.py", str(folder), "--outfile", str(path), "--outtype", "f32"]
    convert_hf_to_gguf.main()


def check(name: str, kindling: Path, out: Path, work: Path) -> None:
    from llama_cpp import Llama

    folder = out / "layouts" / f"{name}_trained"
    ours = work / f"{name}.gguf"
    subprocess.run([kindling.resolve(), "-q", "export", folder.resolve(), "--format", "gguf", "--dtype", "f32",
                    "-o", ours.resolve()], check=True, stdout=subprocess.DEVNULL)
    golden = json.loads((folder / "golden.json").read_text())
    for path in (out / "gguf" / f"{name}_trained.gguf", ours):
        llama = Llama(str(path), n_ctx=BLOCK, logits_all=True, verbose=False)
        llama.eval(golden["ids"])
        logits = np.array([llama.scores[idx] for idx in range(len(golden["ids"]))]).reshape(-1)
        largest = np.abs(logits - np.array(golden["logits"])).max()
        print(f"{path.name}: largest difference of llama.cpp's logits to transformers' {largest:.1e}")
        # llama.cpp keeps keys and values in f16.
        assert largest < 2e-2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kindling", type=Path, required=True)
    parser.add_argument("--llama-cpp", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="+", metavar="NAME")
    args = parser.parse_args()
    for name in args.names:
        with tempfile.TemporaryDirectory() as work:
            if args.check:
                check(name, args.kindling, args.out, Path(work))
                continue
            folder = train(name, args.kindling, args.out / "layouts", Path(work))
            save_golden(folder)
            convert(folder, args.out / "gguf" / f"{name}_trained.gguf", args.llama_cpp)


if __name__ == "__main__":
    main()
