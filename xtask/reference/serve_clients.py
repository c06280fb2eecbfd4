"""Proves that a running `kindling serve` answers the official OpenAI client and LangChain.

    python serve_clients.py http://127.0.0.1:8080 --chat-model smol
    python serve_clients.py http://127.0.0.1:8080 --api-key KEY         against a server with --api-key KEY

Prints one line per check and exits with code 1 if one fails. Checks of chat need a model with a chat template, and are
left out without `--chat-model`.
"""

import argparse
import asyncio
import itertools
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

PROMPT = "Once upon a time"
OTHER_PROMPT = "The capital of France is the city of"
QUESTION = [{"role": "user", "content": "Name three colours."}]
TIMEOUT_S = 120
N_TOGETHER = 32


@dataclass(frozen=True)
class Server:
    """Where the checks send their requests."""

    url: str
    model: str
    chat_model: str | None
    api_key: str | None

    @property
    def options(self) -> dict:
        """The constructor arguments that all clients share."""
        return {"base_url": f"{self.url}/v1", "api_key": self.api_key or "unused", "timeout": TIMEOUT_S, "max_retries": 0}

    @cached_property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(**self.options)

    def complete(self, prompt: object = PROMPT, **options: object) -> openai.types.Completion:
        """Up to 12 tokens at temperature 0, unless `options` differ."""
        options = {"model": self.model, "max_tokens": 12, "temperature": 0} | options
        return self.client.completions.create(prompt=prompt, **options)

    def text(self, prompt: object = PROMPT, **options: object) -> str:
        return self.complete(prompt, **options).choices[0].text

    def chat(self, messages: list[dict] = QUESTION, **options: object) -> openai.types.chat.ChatCompletion:
        """Up to 12 tokens at temperature 0, unless `options` differ."""
        options = {"model": self.chat_model, "max_completion_tokens": 12, "temperature": 0} | options
        return self.client.chat.completions.create(messages=messages, **options)

    def ids(self, text: str) -> list[int]:
        return self.client.post(f"{self.url}/tokenize", body={"prompt": text}, cast_to=dict)["tokens"]


Check = Callable[[Server], None]
CHECKS: dict[str, list[Check]] = {"completions": [], "chat": [], "grammar": [], "key": []}


def completions(check: Check) -> Check:
    """Registers a check that needs any model."""
    CHECKS["completions"].append(check)
    return check


def chat(check: Check) -> Check:
    """Registers a check that needs a model with a chat template."""
    CHECKS["chat"].append(check)
    return check


def grammar(check: Check) -> Check:
    """Registers a check that needs a model with a chat template and a build with the feature `grammar`."""
    CHECKS["grammar"].append(check)
    return check


def key(check: Check) -> Check:
    """Registers a check that needs a server with a key."""
    CHECKS["key"].append(check)
    return check


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the server's address, without /v1")
    parser.add_argument("--model", help="model of the completions; without it, the server's first")
    parser.add_argument("--chat-model", help="model of the chats")
    parser.add_argument("--grammar", action="store_true", help="check constrained chats too")
    parser.add_argument("--api-key", help="the server's key")
    parser.add_argument("--only", default="", help="run the checks whose name contains this text")
    args = parser.parse_args()
    url = args.url.rstrip("/")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=args.api_key or "unused") as client:
        model = args.model or client.models.list().data[0].id
    server = Server(url, model, args.chat_model, args.api_key)

    wanted = {"completions": True, "chat": args.chat_model, "grammar": args.grammar, "key": args.api_key}
    groups = [group for group, is_wanted in wanted.items() if is_wanted]
    checks = [check for group in groups for check in CHECKS[group] if args.only in check.__name__]
    failed = [check for check in checks if not passes(check, server)]
    print(f"{len(checks) - len(failed)} of {len(checks)} checks passed on {model} (chat: {args.chat_model or 'left out'})")
    return 1 if failed or not checks else 0


def passes(check: Check, server: Server) -> bool:
    """Runs a check and prints its line."""
    name = check.__name__.replace("_", " ")
    try:
        check(server)
    except Exception as error:  # A check may fail in any way, and the others still run.
        line = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"FAILED  {name}\n        line {failed_line(error, check)}: {line[:600]}", flush=True)
        return False
    print(f"ok      {name}", flush=True)
    return True


def failed_line(error: Exception, check: Check) -> int:
    """The line of the check where `error` was raised."""
    frames = traceback.walk_tb(error.__traceback__)
    return next(line for frame, line in frames if frame.f_code is check.__code__)


def raises(kind: type[openai.APIStatusError], request: Callable[[], object]) -> openai.APIStatusError:
    """The error of a request, which must be of exactly this class and in OpenAI's form."""
    try:
        answer = request()
    except openai.APIStatusError as error:
        assert type(error) is kind, f"expected {kind.__name__}, got {type(error).__name__}: {error}"
        body = error.body
        assert isinstance(body, dict) and {"message", "type", "param", "code"} <= body.keys(), body
        assert body["message"], body
        return error
    raise AssertionError(f"expected {kind.__name__}, got {str(answer)[:200]}")


def joined(stream: openai.Stream[openai.types.Completion], index: int = 0) -> str:
    """The text of one choice of a streamed completion."""
    return "".join(choice.text for chunk in stream for choice in chunk.choices if choice.index == index)


# Models


@completions
def models_are_listed_and_found(server: Server) -> None:
    models = server.client.models.list().data
    assert server.model in [model.id for model in models], models
    assert all(model.object == "model" and model.created and model.owned_by for model in models), models
    assert server.client.models.retrieve(server.model).id == server.model


@completions
def an_unknown_model_is_a_NotFoundError(server: Server) -> None:
    raises(openai.NotFoundError, lambda: server.client.models.retrieve("no-such-model"))
    error = raises(openai.NotFoundError, lambda: server.complete(model="no-such-model"))
    assert error.code == "model_not_found" and "no-such-model" in error.message, error.body


# Completions


@completions
def a_completion_has_the_fields_of_OpenAI(server: Server) -> None:
    completion = server.complete(max_tokens=8)
    assert completion.object == "text_completion" and completion.id and completion.created > 1.7e9, completion
    assert completion.model == server.model, completion.model
    [choice] = completion.choices
    assert choice.index == 0 and choice.text and choice.logprobs is None, choice
    assert choice.finish_reason in ("length", "stop"), choice
    usage = completion.usage
    assert usage.prompt_tokens == len(server.ids(PROMPT)), usage
    assert 0 < usage.completion_tokens <= 8, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


@completions
def all_prompt_forms_give_the_same_text(server: Server) -> None:
    ids, other_ids = server.ids(PROMPT), server.ids(OTHER_PROMPT)
    text, other_text = server.text(), server.text(OTHER_PROMPT)
    assert server.text([PROMPT]) == text
    assert server.text(ids) == text
    assert server.text([ids]) == text
    for prompt in ([PROMPT, OTHER_PROMPT], [ids, other_ids]):
        completion = server.complete(prompt)
        assert [choice.index for choice in completion.choices] == [0, 1], completion
        assert [choice.text for choice in completion.choices] == [text, other_text], completion
        assert completion.usage.prompt_tokens == len(ids) + len(other_ids), completion.usage


@completions
def samples_differ_and_their_seed_repeats_them(server: Server) -> None:
    def texts(**options: object) -> list[str]:
        completion = server.complete(temperature=1, max_tokens=24, **options)
        assert [choice.index for choice in completion.choices] == list(range(len(completion.choices)))
        return [choice.text for choice in completion.choices]

    samples = texts(n=4, seed=7)
    assert len(samples) == 4 and len(set(samples)) > 1, samples
    assert texts(n=4, seed=7) == samples
    assert texts(n=4, seed=8) != samples
    assert texts(seed=7) == samples[:1]


@completions
def samples_of_several_prompts_are_in_order_of_the_prompts(server: Server) -> None:
    completion = server.complete([PROMPT, OTHER_PROMPT], n=2)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3], completion
    texts = [choice.text for choice in completion.choices]
    assert texts == [server.text()] * 2 + [server.text(OTHER_PROMPT)] * 2, texts


@completions
def max_tokens_is_a_limit_and_16_without_it(server: Server) -> None:
    none = server.complete(max_tokens=0)
    assert none.choices[0].text == "" and none.choices[0].finish_reason == "length", none
    assert none.usage.completion_tokens == 0, none.usage
    default = server.client.completions.create(model=server.model, prompt=PROMPT, temperature=0)
    limited = server.complete(max_tokens=16)
    assert default.choices[0].text == limited.choices[0].text, (default, limited)
    assert default.usage == limited.usage, (default, limited)


@completions
def echo_puts_the_prompt_before_the_text(server: Server) -> None:
    assert server.text(echo=True) == PROMPT + server.text()
    assert server.text(echo=True, max_tokens=0) == PROMPT


@completions
def echo_with_logprobs_scores_the_prompt_and_each_token(server: Server) -> None:
    n_prompt = len(server.ids(PROMPT))
    for max_tokens in (0, 1, 5):
        completion = server.complete(echo=True, logprobs=3, max_tokens=max_tokens)
        scores, text = completion.choices[0].logprobs, completion.choices[0].text
        n_tokens = n_prompt + completion.usage.completion_tokens
        lengths = [len(part) for part in (scores.tokens, scores.token_logprobs, scores.top_logprobs, scores.text_offset)]
        assert lengths == [n_tokens] * 4, (lengths, n_tokens)
        assert scores.token_logprobs[0] is None and scores.top_logprobs[0] is None, scores
        assert "".join(scores.tokens) == text, (scores.tokens, text)
        ends = itertools.accumulate(map(len, scores.tokens))
        assert scores.text_offset == [0, *ends][:-1], scores.text_offset
        for logprob, top in zip(scores.token_logprobs[1:], scores.top_logprobs[1:], strict=True):
            assert logprob <= max(top.values()) <= 0 and 3 <= len(top) <= 4, (logprob, top)
            assert logprob in top.values(), (logprob, top)


@completions
def greedy_tokens_have_the_highest_logprob(server: Server) -> None:
    completion = server.complete(logprobs=5)
    scores = completion.choices[0].logprobs
    assert len(scores.token_logprobs) == completion.usage.completion_tokens, scores
    for token, logprob, top in zip(scores.tokens, scores.token_logprobs, scores.top_logprobs, strict=True):
        assert logprob == max(top.values()) == top[token] and len(top) == 5, (token, logprob, top)


@completions
def echoed_logprobs_equal_those_of_the_generation(server: Server) -> None:
    generated = server.complete(logprobs=1, max_tokens=8).choices[0]
    scored = server.complete(PROMPT + generated.text, echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    pairs = zip(generated.logprobs.token_logprobs, scored.token_logprobs[len(server.ids(PROMPT)) :], strict=False)
    worst = max(abs(one - other) for one, other in pairs)
    assert worst < 1e-4, worst


@completions
def a_stop_string_ends_the_text_before_it(server: Server) -> None:
    text = server.text(max_tokens=20)
    stop = text[7:10]  # Usually across two tokens.
    before = text[: text.index(stop)]
    for stops in (stop, [stop], ["\0", "\1", "\2", "\3", "\4", stop]):
        choice = server.complete(max_tokens=20, stop=stops).choices[0]
        assert choice.text == before and choice.finish_reason == "stop", (choice, before)
    assert joined(server.complete(max_tokens=20, stop=stop, stream=True)) == before
    assert server.text(max_tokens=20, stop=[]) == text


@completions
def a_bias_forces_and_bans_tokens(server: Server) -> None:
    first = server.complete(max_tokens=1, logprobs=1).choices[0]
    [*_, forced] = server.ids(OTHER_PROMPT)
    choice = server.complete(max_tokens=3, logit_bias={str(forced): 100}, logprobs=1).choices[0]
    assert len(set(choice.logprobs.tokens)) == 1 and choice.text != first.text, choice
    # The id of the most probable token, by the longer text's ids.
    banned = server.ids(PROMPT + first.text)[len(server.ids(PROMPT))]
    assert server.text(max_tokens=1, logit_bias={str(banned): -100}) != first.text


@completions
def sampling_options_outside_OpenAIs_are_accepted(server: Server) -> None:
    text = server.text()
    assert server.text(temperature=5, extra_body={"top_k": 1}) == text
    assert server.text(temperature=1, extra_body={"min_p": 1}) == text
    assert server.text(temperature=1, top_p=1e-6) == text
    assert server.text(extra_body={"no_such_option": [1, {"a": None}]}, user="someone", best_of=1, suffix=None) == text
    repeated = server.text(max_tokens=40, frequency_penalty=2, presence_penalty=2)
    assert repeated != server.text(max_tokens=40), repeated


@completions
def a_stream_equals_the_whole_answer(server: Server) -> None:
    whole = server.complete(max_tokens=24)
    chunks = list(server.complete(max_tokens=24, stream=True))
    assert joined(chunks) == whole.choices[0].text, chunks
    assert len(chunks) > 3 and len({chunk.id for chunk in chunks}) == 1, chunks
    assert all(chunk.object == "text_completion" and chunk.usage is None for chunk in chunks), chunks
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1]), reasons


@completions
def usage_is_the_last_chunk_only_where_asked_for(server: Server) -> None:
    whole = server.complete()
    *chunks, last = server.complete(stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == whole.usage, (last, whole.usage)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), chunks
    without = list(server.complete(stream=True, stream_options={"include_usage": False}))
    assert all(chunk.choices and chunk.usage is None for chunk in without), without


@completions
def streamed_samples_are_told_apart_by_index(server: Server) -> None:
    options = {"n": 3, "seed": 3, "temperature": 1, "max_tokens": 16}
    chunks = list(server.complete([PROMPT, OTHER_PROMPT], stream=True, **options))
    whole = server.complete([PROMPT, OTHER_PROMPT], **options)
    for choice in whole.choices:
        assert joined(chunks, choice.index) == choice.text, choice
    finished = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert sorted(finished) == [0, 1, 2, 3, 4, 5], finished


@completions
def streamed_logprobs_equal_the_whole_answers(server: Server) -> None:
    for echo in (False, True):
        whole = server.complete(logprobs=2, echo=echo).choices[0].logprobs.to_dict()
        streamed: dict[str, list] = {part: [] for part in whole}
        for chunk in server.complete(logprobs=2, echo=echo, stream=True):
            for choice in chunk.choices:
                for part, values in (choice.logprobs.to_dict() if choice.logprobs else {}).items():
                    streamed[part] += values
        assert streamed == whole, (echo, streamed, whole)


@completions
def a_left_stream_frees_the_server(server: Server) -> None:
    with server.complete(max_tokens=90, stream=True) as stream:
        next(iter(stream))
    assert server.text(max_tokens=2)


@completions
def mistakes_are_BadRequestErrors(server: Server) -> None:
    for name, value in {"temperature": -1, "top_p": 7, "max_tokens": -3, "n": 0, "logprobs": -1, "stop": 3}.items():
        error = raises(openai.BadRequestError, lambda: server.complete(**{name: value}))
        assert error.param == name or name in error.message, error.body
    raises(openai.BadRequestError, lambda: server.complete(prompt=[10**9]))
    raises(openai.BadRequestError, lambda: server.complete(prompt={"text": "no"}))
    raises(openai.BadRequestError, lambda: server.complete(logit_bias={str(10**9): 1}))


@completions
def too_long_a_prompt_is_a_BadRequestError_with_both_numbers(server: Server) -> None:
    ids = server.ids(PROMPT) * 4000
    error = raises(openai.BadRequestError, lambda: server.complete(prompt=ids))
    assert error.code == "context_length_exceeded" and str(len(ids)) in error.message, error.body
    assert len([word for word in error.message.replace(",", " ").split() if word.strip(".()").isdigit()]) >= 2, error.body


@completions
def routes_that_do_not_exist_are_NotFoundErrors(server: Server) -> None:
    raises(openai.NotFoundError, lambda: server.client.embeddings.create(model=server.model, input="text"))
    raises(openai.NotFoundError, lambda: server.client.responses.create(model=server.model, input="text"))
    raises(openai.NotFoundError, lambda: server.client.images.generate(prompt="text"))


@completions
def requests_together_equal_the_same_alone(server: Server) -> None:
    requests = [
        {"prompt": f"{PROMPT} {number}", "max_tokens": 4 + number % 13, "temperature": number % 2, "seed": number}
        for number in range(N_TOGETHER)
    ]
    alone = [server.text(**request) for request in requests]

    async def together() -> list[str]:
        async with openai.AsyncOpenAI(**server.options) as client:
            answers = [client.completions.create(model=server.model, **request) for request in requests]
            return [answer.choices[0].text for answer in await asyncio.gather(*answers)]

    different = [pair for pair in zip(alone, asyncio.run(together()), strict=True) if pair[0] != pair[1]]
    assert not different, f"{len(different)} of {N_TOGETHER} differ, such as {different[0]}"


@completions
def streams_together_equal_the_same_alone(server: Server) -> None:
    prompts = [f"{OTHER_PROMPT} {number}" for number in range(N_TOGETHER)]
    alone = [server.text(prompt) for prompt in prompts]

    async def streamed(client: openai.AsyncOpenAI, prompt: str) -> str:
        stream = await client.completions.create(
            model=server.model, prompt=prompt, max_tokens=12, temperature=0, stream=True
        )
        return "".join([chunk.choices[0].text async for chunk in stream])

    async def together() -> list[str]:
        async with openai.AsyncOpenAI(**server.options) as client:
            return await asyncio.gather(*[streamed(client, prompt) for prompt in prompts])

    different = [pair for pair in zip(alone, asyncio.run(together()), strict=True) if pair[0] != pair[1]]
    assert not different, f"{len(different)} of {N_TOGETHER} differ, such as {different[0]}"


@completions
def langchain_OpenAI_invokes_batches_and_streams(server: Server) -> None:
    model = OpenAI(model=server.model, temperature=0, max_tokens=12, **server.options)
    text, other_text = server.text(), server.text(OTHER_PROMPT)
    assert model.invoke(PROMPT) == text
    assert model.batch([PROMPT, OTHER_PROMPT]) == [text, other_text]
    assert model.generate([PROMPT, OTHER_PROMPT]).generations[1][0].text == other_text
    parts = list(model.stream(PROMPT))
    assert "".join(parts) == text and len(parts) > 2, parts
    assert asyncio.run(model.ainvoke(PROMPT)) == text
    assert model.invoke(PROMPT, stop=[text[4:7]]) == text[: text.index(text[4:7])]


# Chat


@chat
def a_chat_has_the_fields_of_OpenAI(server: Server) -> None:
    answer = server.chat()
    assert answer.object == "chat.completion" and answer.id and answer.model == server.chat_model, answer
    [choice] = answer.choices
    assert choice.index == 0 and choice.finish_reason in ("stop", "length") and choice.logprobs is None, choice
    assert choice.message.role == "assistant" and choice.message.content, choice
    assert choice.message.to_dict().get("refusal", "missing") is None, choice
    assert not choice.message.tool_calls, choice
    usage = answer.usage
    assert usage.prompt_tokens > 5 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage


@chat
def a_chat_ends_at_the_EOS_token_without_showing_it(server: Server) -> None:
    answer = server.chat(max_completion_tokens=200, messages=[{"role": "user", "content": "Say hello."}])
    assert answer.choices[0].finish_reason == "stop", answer
    assert "<|" not in answer.choices[0].message.content, answer


@chat
def content_may_come_in_parts_and_roles_are_those_of_OpenAI(server: Server) -> None:
    content = server.chat().choices[0].message.content
    parts = [{"type": "text", "text": "Name three colours."}]
    assert server.chat([{"role": "user", "content": parts}]).choices[0].message.content == content
    told = [
        server.chat([{"role": role, "content": "Answer in French."}, *QUESTION]).choices[0].message.content
        for role in ("system", "developer")
    ]
    assert told[0] == told[1] and told[0], told
    history = [*QUESTION, {"role": "assistant", "content": content}, {"role": "user", "content": "And one more?"}]
    assert server.chat(history).usage.prompt_tokens > server.chat().usage.prompt_tokens
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    raises(openai.BadRequestError, lambda: server.chat([{"role": "user", "content": [image]}]))
    raises(openai.BadRequestError, lambda: server.chat([]))
    raises(openai.BadRequestError, lambda: server.chat([{"role": "nobody", "content": "text"}]))


@chat
def both_names_of_the_limit_count(server: Server) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        options = {"max_completion_tokens": openai.NOT_GIVEN} | {name: 3}
        answer = server.chat(**options)
        assert answer.usage.completion_tokens == 3 and answer.choices[0].finish_reason == "length", answer


@chat
def a_streamed_chat_equals_the_whole_answer(server: Server) -> None:
    whole = server.chat()
    *chunks, last = server.chat(stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == whole.usage, (last, whole.usage)
    assert all(chunk.object == "chat.completion.chunk" and len(chunk.choices) == 1 for chunk in chunks), chunks
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant" and deltas[0].content == "", deltas[0]
    assert deltas[-1].to_dict() == {} and chunks[-1].choices[0].finish_reason, chunks[-1]
    assert "".join(delta.content or "" for delta in deltas) == whole.choices[0].message.content, deltas
    assert all(chunk.usage is None and chunk.choices for chunk in server.chat(stream=True))


@chat
def the_stream_helper_of_the_client_collects_the_answer(server: Server) -> None:
    options = {"messages": [{"role": "user", "content": "Say hello."}], "max_completion_tokens": 200, "temperature": 0}
    whole = server.chat(**options).choices[0].message.content
    with server.client.chat.completions.stream(model=server.chat_model, **options) as stream:
        collected = stream.get_final_completion()  # Refuses an answer that ends at the limit.
    assert collected.choices[0].message.content == whole, collected


@chat
def chat_logprobs_have_bytes_and_rivals(server: Server) -> None:
    answer = server.chat(logprobs=True, top_logprobs=3)
    scores = answer.choices[0].logprobs.content
    assert len(scores) == answer.usage.completion_tokens, scores
    text = bytes(byte for score in scores for byte in score.bytes or b"")
    assert text.decode().startswith(answer.choices[0].message.content), text
    for score in scores:
        assert len(score.top_logprobs) == 3 and score.logprob == score.top_logprobs[0].logprob, score
        assert score.token == score.top_logprobs[0].token, score
        assert [top.logprob for top in score.top_logprobs] == sorted((top.logprob for top in score.top_logprobs), reverse=True)
    streamed = [
        score
        for chunk in server.chat(logprobs=True, top_logprobs=3, stream=True)
        for choice in chunk.choices
        for score in (choice.logprobs.content if choice.logprobs else None) or []
    ]
    assert [score.to_dict() for score in streamed] == [score.to_dict() for score in scores], streamed
    plain = server.chat(logprobs=True).choices[0].logprobs.content
    assert all(score.top_logprobs == [] for score in plain), plain


@chat
def samples_of_a_chat_differ_and_their_seed_repeats_them(server: Server) -> None:
    def texts() -> list[str]:
        answer = server.chat(n=3, seed=5, temperature=1.2, max_completion_tokens=20)
        return [choice.message.content for choice in answer.choices]

    samples = texts()
    assert len(set(samples)) > 1 and texts() == samples, samples


@chat
def tools_are_a_BadRequestError(server: Server) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    error = raises(openai.BadRequestError, lambda: server.chat(tools=[tool]))
    assert error.param == "tools", error.body


@chat
def chats_together_equal_the_same_alone(server: Server) -> None:
    chats = [[{"role": "user", "content": f"Name {number} colours."}] for number in range(N_TOGETHER)]
    alone = [server.chat(messages).choices[0].message.content for messages in chats]

    async def together() -> list[str]:
        async with openai.AsyncOpenAI(**server.options) as client:
            answers = [
                client.chat.completions.create(
                    model=server.chat_model, messages=messages, max_completion_tokens=12, temperature=0
                )
                for messages in chats
            ]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*answers)]

    different = [pair for pair in zip(alone, asyncio.run(together()), strict=True) if pair[0] != pair[1]]
    assert not different, f"{len(different)} of {N_TOGETHER} differ, such as {different[0]}"


@chat
def langchain_ChatOpenAI_invokes_batches_and_streams(server: Server) -> None:
    model = ChatOpenAI(model=server.chat_model, temperature=0, max_tokens=12, **server.options)
    content = server.chat().choices[0].message.content
    answer = model.invoke("Name three colours.")
    assert answer.content == content and answer.usage_metadata["output_tokens"] > 0, answer
    messages = [SystemMessage("You are brief."), HumanMessage([{"type": "text", "text": "Name three colours."}])]
    assert model.invoke(messages).content
    assert [answer.content for answer in model.batch(["Name three colours."] * 3)] == [content] * 3
    parts = list(model.stream("Name three colours."))
    assert "".join(part.content for part in parts) == content and len(parts) > 2, parts
    assert asyncio.run(model.ainvoke("Name three colours.")).content == content
    scored = model.bind(logprobs=True, top_logprobs=2).invoke("Name three colours.")
    assert len(scored.response_metadata["logprobs"]["content"]) > 3, scored


# Constrained chats


class City(BaseModel):
    """What the constrained answers hold."""

    name: str
    inhabitants: int
    is_capital: bool


@grammar
def constrained_answers_are_JSON_of_the_schema(server: Server) -> None:
    question = [{"role": "user", "content": "Describe Paris as JSON."}]
    answer = server.chat(question, response_format={"type": "json_object"}, max_completion_tokens=300)
    assert answer.choices[0].finish_reason == "stop", answer
    assert isinstance(json.loads(answer.choices[0].message.content), dict), answer
    parsed = server.client.chat.completions.parse(
        model=server.chat_model, messages=question, response_format=City, max_completion_tokens=200, temperature=1, seed=1
    )
    assert isinstance(parsed.choices[0].message.parsed, City), parsed
    bad = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "no such type"}}}
    raises(openai.BadRequestError, lambda: server.chat(question, response_format=bad))


@grammar
def langchain_ChatOpenAI_reads_constrained_answers(server: Server) -> None:
    model = ChatOpenAI(model=server.chat_model, temperature=0, max_tokens=200, **server.options)
    city = model.with_structured_output(City, method="json_schema").invoke("Describe Paris.")
    assert isinstance(city, City), city


# Key


@key
def a_missing_or_wrong_key_is_an_AuthenticationError(server: Server) -> None:
    for wrong in ("wrong", server.api_key[:-1], server.api_key + "x"):
        client = openai.OpenAI(**server.options | {"api_key": wrong})
        raises(openai.AuthenticationError, client.models.list)
        raises(openai.AuthenticationError, lambda: client.completions.create(model=server.model, prompt=PROMPT))
    headers = {"Authorization": openai.Omit()}
    raises(openai.AuthenticationError, lambda: server.complete(extra_headers=headers))


if __name__ == "__main__":
    sys.exit(main())
