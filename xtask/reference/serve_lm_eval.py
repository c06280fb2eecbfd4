"""Scores a model by lm_eval over a running `kindling serve`, and compares with `lm_eval --model hf`.

    kindling export smol --format safetensors -o smol-hf
    python serve_lm_eval.py http://127.0.0.1:8080 --model smol --folder smol-hf

The tasks are made here by a seeded rule, as lm_eval's own data is not on this machine. Prints one line per metric, with
the value of each backend, and exits with code 1 if one differs from `hf` by more than 1e-3.
"""

import argparse
import json
import logging
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TQDM_DISABLE": "1"}

import lm_eval
import torch
from lm_eval.tasks import TaskManager

TOLERANCE = 1e-3  # Absolute up to 1, relative above: a perplexity has no natural scale.
# Tokens of a window, fewer than any model here has, so that long texts are scored in several windows.
WINDOW = 120

# `--model` and its arguments. lm_eval counts the generated token in `max_length` of its API models, and rolls over
# windows that are 1 shorter still.
BACKENDS = {
    "ids": ("local-completions", {"tokenizer_backend": "huggingface"}),
    "ids, 8 per request": ("local-completions", {"tokenizer_backend": "huggingface", "batch_size": 8}),
    "ids, 8 at once": ("local-completions", {"tokenizer_backend": "huggingface", "num_concurrent": 8}),
    "strings": ("local-completions", {"tokenizer_backend": "huggingface", "tokenized_requests": False}),
    "remote": ("local-completions", {"tokenizer_backend": "remote"}),
    "remote, strings": ("local-completions", {"tokenizer_backend": "remote", "tokenized_requests": False}),
    "gguf": ("gguf", {}),
}
# lm_eval's `gguf` has no rolling log-likelihood. Strings can't express a window that starts or ends within a character,
# and a word that one cuts has other tokens.
LEFT_OUT = {"gguf": {"texts", "long_texts"}, "strings": {"long_texts"}, "remote, strings": {"long_texts"}}

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
WORDS = {
    "red": "rot", "green": "grün", "house": "maison", "river": "río", "sun": "太陽", "moon": "луна", "apple": "りんご",
    "bread": "pão", "winter": "hiver", "bridge": "мост", "key": "clé", "fire": "火",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the server's address, without /v1")
    parser.add_argument("--model", required=True, help="the model's id at the server")
    parser.add_argument("--folder", type=Path, required=True, help="the same model in Hugging Face layout, f32")
    parser.add_argument("--documents", type=int, default=16, help="documents per task")
    parser.add_argument("--backends", nargs="*", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    url = args.url.rstrip("/")

    with tempfile.TemporaryDirectory() as folder:
        names = write_tasks(Path(folder), args.documents)
        tasks = TaskManager(include_path=folder, include_defaults=False)
        hf = {"pretrained": str(args.folder), "dtype": "float32", "device": "cpu", "max_length": WINDOW}
        results = {"hf": evaluate("hf", hf, names, tasks)}
        for backend in args.backends:
            kind, options = BACKENDS[backend]
            if kind == "gguf":
                options = {"base_url": url}
            else:
                address = {"base_url": f"{url}/v1/completions", "model": args.model}
                options = address | {"max_length": WINDOW + 2, "max_retries": 1} | options
                if options["tokenizer_backend"] == "huggingface":
                    options["tokenizer"] = str(args.folder)
            used = [name for name in names if name not in LEFT_OUT.get(backend, ())]
            results[backend] = evaluate(kind, options, used, tasks)
    return report(results)


def evaluate(kind: str, options: dict, names: list[str], tasks: TaskManager) -> dict:
    """The metrics of each task and the answers to each request, as lm_eval's command line computes them."""
    start = time.perf_counter()
    options = dict(options)
    batch_size = options.pop("batch_size", 1)
    evaluation = lm_eval.simple_evaluate(
        model=kind,
        model_args=options,
        tasks=names,
        task_manager=tasks,
        batch_size=batch_size,
        bootstrap_iters=0,
        verbosity="ERROR",
    )
    metrics = {
        (name, key.removesuffix(",none").removesuffix(",number")): value
        for name, values in evaluation["results"].items()
        for key, value in values.items()
        if isinstance(value, int | float) and "stderr" not in key and "sample" not in key
    }
    answers = {
        (name, sample["doc_id"], idx): response[0]
        for name, samples in evaluation["samples"].items()
        for sample in samples
        for idx, response in enumerate(sample["resps"])
    }
    seconds = time.perf_counter() - start
    print(f"{kind} {options}: {seconds:.0f} s", file=sys.stderr, flush=True)
    return {"metrics": metrics, "answers": answers}


def report(results: dict[str, dict]) -> int:
    """Prints the metrics of all backends side by side. Returns the exit code."""
    expected, *others = results
    width = max(14, *map(len, results)) + 2
    print(f"{'task':<14}{'metric':<18}" + "".join(f"{name:>{width}}" for name in results))
    n_failed = 0
    for key, value in results[expected]["metrics"].items():
        values = [results[name]["metrics"].get(key) for name in others]
        failed = [other is not None and not abs(other - value) <= TOLERANCE * max(1, abs(value)) for other in values]
        n_failed += any(failed)
        cells = [
            f"{'-':>{width}}" if other is None else f"{other:>{width - bad}.7g}{'!' * bad}"
            for other, bad in zip([value, *values], [False, *failed], strict=True)
        ]
        print(f"{key[0]:<14}{key[1]:<18}" + "".join(cells))
    print("\nlargest difference of a request from hf:")
    for name in others:
        print(f"  {name:<20}{differences(results[expected]['answers'], results[name]['answers'])}")
    print(f"\n{n_failed} of {len(results[expected]['metrics'])} metrics differ by more than {TOLERANCE}")
    return 1 if n_failed else 0


def differences(expected: dict, answers: dict) -> str:
    """How far the answers to the same requests are apart."""
    worst, n_greedy, n_texts = 0.0, 0, 0
    for key, answer in answers.items():
        match expected[key], answer:
            case (float() as one, bool() as greedy), (other, other_greedy):
                worst, n_greedy = max(worst, abs(one - other)), n_greedy + (greedy != bool(other_greedy))
            case float() as one, other:
                worst = max(worst, abs(one - other))
            case one, other:
                n_texts += one.strip() != other.strip()
    return f"{worst:.2e} nats, {n_greedy} greedy flags and {n_texts} texts, of {len(answers)} requests"


def write_tasks(folder: Path, n_documents: int) -> list[str]:
    """Writes the tasks and their documents, the same in each call. Returns the names of the tasks."""
    rng = random.Random(23)
    choice = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "label",
        "doc_to_choice": "{{choices}}",
        "metric_list": [{"metric": metric} for metric in ("acc", "acc_norm")],
    }
    rolling = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": metric} for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
    }
    tasks = {
        "sums": (choice | {"num_fewshot": 2}, sums),
        "words": (choice, words),
        "last_word": (
            {
                "output_type": "loglikelihood",
                "doc_to_text": "{{prompt}}",
                "doc_to_target": " {{answer}}",
                "metric_list": [{"metric": metric} for metric in ("perplexity", "acc")],
            },
            days,
        ),
        "texts": (rolling, texts),
        "long_texts": (rolling, long_texts),
        "counting": (
            {
                "output_type": "generate_until",
                "doc_to_text": "{{prompt}}",
                "doc_to_target": "{{answer}}",
                "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 16, "do_sample": False},
                "filter_list": [
                    {
                        "name": "number",
                        "filter": [{"function": "regex", "regex_pattern": "([0-9]+)"}, {"function": "take_first"}],
                    }
                ],
                "metric_list": [{"metric": "exact_match"}],
            },
            counting,
        ),
    }
    for name, (task, document) in tasks.items():
        data = folder / f"{name}.json"
        data.write_text("\n".join(json.dumps(document(rng, idx), ensure_ascii=False) for idx in range(n_documents)))
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data), "train": str(data)}},
            "test_split": "test",
            "fewshot_split": "train",
            "fewshot_config": {"sampler": "first_n"},
            **task,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(task))  # JSON is YAML.
    return list(tasks)


def sums(rng: random.Random, _: int) -> dict:
    one, other = rng.randint(1, 20), rng.randint(1, 20)
    label = rng.randrange(4)
    wrong = rng.sample([n for n in range(1, 50) if n != one + other], 4)
    choices = [f"{number}." for number in wrong]
    choices[label] = f"{one + other}."
    return {"prompt": f"{one} + {other} =", "choices": choices, "label": label}


def words(rng: random.Random, _: int) -> dict:
    """Choices of several tokens, with characters of up to three bytes."""
    choices = rng.sample(sorted(WORDS), 4)
    label = rng.randrange(4)
    return {
        "prompt": f"“{WORDS[choices[label]]}” in English is",
        "choices": [f"“{choice}” ({choice} – {WORDS[choice]})" for choice in choices],
        "label": label,
    }


def days(rng: random.Random, _: int) -> dict:
    start = rng.randrange(7)
    before = [DAYS[(start + idx) % 7] for idx in range(rng.randint(1, 5))]
    told = "".join(f"After {day} comes {next_day(day)}.\n" for day in before[:-1])
    return {"prompt": f"{told}After {before[-1]} comes", "answer": next_day(before[-1])}


def next_day(day: str) -> str:
    return DAYS[(DAYS.index(day) + 1) % 7]


def texts(rng: random.Random, idx: int) -> dict:
    """Shorter than a window, if the tokenizer has no less than a token per byte."""
    return {"text": sentences(rng, 1 + idx % 4)}


def long_texts(rng: random.Random, idx: int) -> dict:
    return {"text": sentences(rng, 10 + 3 * idx % 40)}


def sentences(rng: random.Random, number: int) -> str:
    places = ["near", "far", "größer", "新しい"]
    return "\n".join(f"The {rng.choice(sorted(WORDS))} is {rng.choice(places)}." for _ in range(number))


def counting(rng: random.Random, _: int) -> dict:
    start = rng.randint(1, 80)
    return {"prompt": " ".join(str(start + idx) for idx in range(5)), "answer": str(start + 5)}


if __name__ == "__main__":
    sys.exit(main())
