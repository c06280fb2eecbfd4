"""Checks of models and completions, with the official OpenAI client and LangChain's `OpenAI`."""

import asyncio
import itertools

import openai
from langchain_openai import OpenAI

from client_checks import N_TOGETHER, OTHER_PROMPT, PROMPT, Server, joined, raises


def models_are_listed_and_found(server: Server) -> None:
    models = server.client.models.list().data
    assert server.model in [model.id for model in models], models
    assert all(model.object == "model" and model.created and model.owned_by for model in models), models
    assert server.client.models.retrieve(server.model).id == server.model


def an_unknown_model_is_a_NotFoundError(server: Server) -> None:
    raises(openai.NotFoundError, lambda: server.client.models.retrieve("no-such-model"))
    error = raises(openai.NotFoundError, lambda: server.complete(model="no-such-model"))
    assert error.code == "model_not_found" and "no-such-model" in error.message, error.body


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


def samples_of_several_prompts_are_in_order_of_the_prompts(server: Server) -> None:
    completion = server.complete([PROMPT, OTHER_PROMPT], n=2)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3], completion
    texts = [choice.text for choice in completion.choices]
    assert texts == [server.text()] * 2 + [server.text(OTHER_PROMPT)] * 2, texts


def max_tokens_is_a_limit_and_16_without_it(server: Server) -> None:
    none = server.complete(max_tokens=0)
    assert none.choices[0].text == "" and none.choices[0].finish_reason == "length", none
    assert none.usage.completion_tokens == 0, none.usage
    default = server.client.completions.create(model=server.model, prompt=PROMPT, temperature=0)
    limited = server.complete(max_tokens=16)
    assert default.choices[0].text == limited.choices[0].text, (default, limited)
    assert default.usage == limited.usage, (default, limited)


def echo_puts_the_prompt_before_the_text(server: Server) -> None:
    assert server.text(echo=True) == PROMPT + server.text()
    assert server.text(echo=True, max_tokens=0) == PROMPT


def echo_with_logprobs_scores_the_prompt_and_each_token(server: Server) -> None:
    n_prompt = len(server.ids(PROMPT))
    for max_tokens in (0, 1, 5):
        completion = server.complete(echo=True, logprobs=3, max_tokens=max_tokens)
        scores, text = completion.choices[0].logprobs, completion.choices[0].text
        n_tokens = n_prompt + completion.usage.completion_tokens
        lengths = [
            len(part) for part in (scores.tokens, scores.token_logprobs, scores.top_logprobs, scores.text_offset)
        ]
        assert lengths == [n_tokens] * 4, (lengths, n_tokens)
        assert scores.token_logprobs[0] is None and scores.top_logprobs[0] is None, scores
        assert "".join(scores.tokens) == text, (scores.tokens, text)
        ends = itertools.accumulate(map(len, scores.tokens))
        assert scores.text_offset == [0, *ends][:-1], scores.text_offset
        for logprob, top in zip(scores.token_logprobs[1:], scores.top_logprobs[1:], strict=True):
            assert logprob <= max(top.values()) <= 0 and 3 <= len(top) <= 4, (logprob, top)
            assert logprob in top.values(), (logprob, top)


def greedy_tokens_have_the_highest_logprob(server: Server) -> None:
    completion = server.complete(logprobs=5)
    scores = completion.choices[0].logprobs
    assert len(scores.token_logprobs) == completion.usage.completion_tokens, scores
    for token, logprob, top in zip(scores.tokens, scores.token_logprobs, scores.top_logprobs, strict=True):
        assert logprob == max(top.values()) == top[token] and len(top) == 5, (token, logprob, top)


def echoed_logprobs_equal_those_of_the_generation(server: Server) -> None:
    generated = server.complete(logprobs=1, max_tokens=8).choices[0]
    scored = server.complete(PROMPT + generated.text, echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    pairs = zip(generated.logprobs.token_logprobs, scored.token_logprobs[len(server.ids(PROMPT)) :], strict=False)
    worst = max(abs(one - other) for one, other in pairs)
    assert worst < 1e-4, worst


def a_stop_string_ends_the_text_before_it(server: Server) -> None:
    text = server.text(max_tokens=20)
    stop = text[7:10]  # Usually across two tokens.
    before = text[: text.index(stop)]
    for stops in (stop, [stop], ["\0", "\1", "\2", "\3", "\4", stop]):
        choice = server.complete(max_tokens=20, stop=stops).choices[0]
        assert choice.text == before and choice.finish_reason == "stop", (choice, before)
    assert joined(server.complete(max_tokens=20, stop=stop, stream=True)) == before
    assert server.text(max_tokens=20, stop=[]) == text


def a_bias_forces_and_bans_tokens(server: Server) -> None:
    first = server.complete(max_tokens=1, logprobs=1).choices[0]
    [*_, forced] = server.ids(OTHER_PROMPT)
    choice = server.complete(max_tokens=3, logit_bias={str(forced): 100}, logprobs=1).choices[0]
    assert len(set(choice.logprobs.tokens)) == 1 and choice.text != first.text, choice
    # The id of the most probable token, by the longer text's ids.
    banned = server.ids(PROMPT + first.text)[len(server.ids(PROMPT))]
    assert server.text(max_tokens=1, logit_bias={str(banned): -100}) != first.text


def sampling_options_outside_OpenAIs_are_accepted(server: Server) -> None:
    text = server.text()
    assert server.text(temperature=5, extra_body={"top_k": 1}) == text
    assert server.text(temperature=1, extra_body={"min_p": 1}) == text
    assert server.text(temperature=1, top_p=1e-6) == text
    assert server.text(extra_body={"no_such_option": [1, {"a": None}]}, user="someone", best_of=1, suffix=None) == text
    repeated = server.text(max_tokens=40, frequency_penalty=2, presence_penalty=2)
    assert repeated != server.text(max_tokens=40), repeated


def a_stream_equals_the_whole_answer(server: Server) -> None:
    whole = server.complete(max_tokens=24)
    chunks = list(server.complete(max_tokens=24, stream=True))
    assert joined(chunks) == whole.choices[0].text, chunks
    assert len(chunks) > 3 and len({chunk.id for chunk in chunks}) == 1, chunks
    assert all(chunk.object == "text_completion" and chunk.usage is None for chunk in chunks), chunks
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1]), reasons


def usage_is_the_last_chunk_only_where_asked_for(server: Server) -> None:
    whole = server.complete()
    *chunks, last = server.complete(stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == whole.usage, (last, whole.usage)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), chunks
    without = list(server.complete(stream=True, stream_options={"include_usage": False}))
    assert all(chunk.choices and chunk.usage is None for chunk in without), without


def streamed_samples_are_told_apart_by_index(server: Server) -> None:
    options = {"n": 3, "seed": 3, "temperature": 1, "max_tokens": 16}
    chunks = list(server.complete([PROMPT, OTHER_PROMPT], stream=True, **options))
    whole = server.complete([PROMPT, OTHER_PROMPT], **options)
    for choice in whole.choices:
        assert joined(chunks, choice.index) == choice.text, choice
    finished = [choice.index for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert sorted(finished) == [0, 1, 2, 3, 4, 5], finished


def streamed_logprobs_equal_the_whole_answers(server: Server) -> None:
    for echo in (False, True):
        whole = server.complete(logprobs=2, echo=echo).choices[0].logprobs.to_dict()
        streamed: dict[str, list] = {part: [] for part in whole}
        for chunk in server.complete(logprobs=2, echo=echo, stream=True):
            for choice in chunk.choices:
                for part, values in (choice.logprobs.to_dict() if choice.logprobs else {}).items():
                    streamed[part] += values
        assert streamed == whole, (echo, streamed, whole)


def a_left_stream_frees_the_server(server: Server) -> None:
    with server.complete(max_tokens=90, stream=True) as stream:
        next(iter(stream))
    assert server.text(max_tokens=2)


def mistakes_are_BadRequestErrors(server: Server) -> None:
    for name, value in {"temperature": -1, "top_p": 7, "max_tokens": -3, "n": 0, "logprobs": -1, "stop": 3}.items():
        error = raises(openai.BadRequestError, lambda: server.complete(**{name: value}))
        assert error.param == name or name in error.message, error.body
    raises(openai.BadRequestError, lambda: server.complete(prompt=[10**9]))
    raises(openai.BadRequestError, lambda: server.complete(prompt={"text": "no"}))
    raises(openai.BadRequestError, lambda: server.complete(logit_bias={str(10**9): 1}))


def too_long_a_prompt_is_a_BadRequestError_with_both_numbers(server: Server) -> None:
    ids = server.ids(PROMPT) * 4000
    error = raises(openai.BadRequestError, lambda: server.complete(prompt=ids))
    assert error.code == "context_length_exceeded" and str(len(ids)) in error.message, error.body
    assert len([word for word in error.message.replace(",", " ").split() if word.strip(".()").isdigit()]) >= 2, (
        error.body
    )


def routes_that_do_not_exist_are_NotFoundErrors(server: Server) -> None:
    raises(openai.NotFoundError, lambda: server.client.embeddings.create(model=server.model, input="text"))
    raises(openai.NotFoundError, lambda: server.client.responses.create(model=server.model, input="text"))
    raises(openai.NotFoundError, lambda: server.client.images.generate(prompt="text"))


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
