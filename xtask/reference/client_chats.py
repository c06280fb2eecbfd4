"""Checks of chats, with the official OpenAI client and LangChain's `ChatOpenAI`."""

import asyncio

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from client_checks import N_TOGETHER, QUESTION, Server, raises


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


def a_chat_ends_at_the_EOS_token_without_showing_it(server: Server) -> None:
    answer = server.chat(max_completion_tokens=200, messages=[{"role": "user", "content": "Say hello."}])
    assert answer.choices[0].finish_reason == "stop", answer
    assert "<|" not in answer.choices[0].message.content, answer


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


def both_names_of_the_limit_count(server: Server) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        options = {"max_completion_tokens": openai.NOT_GIVEN} | {name: 3}
        answer = server.chat(**options)
        assert answer.usage.completion_tokens == 3 and answer.choices[0].finish_reason == "length", answer


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


def the_stream_helper_of_the_client_collects_the_answer(server: Server) -> None:
    options = {"messages": [{"role": "user", "content": "Say hello."}], "max_completion_tokens": 200, "temperature": 0}
    whole = server.chat(**options).choices[0].message.content
    with server.client.chat.completions.stream(model=server.chat_model, **options) as stream:
        collected = stream.get_final_completion()  # Refuses an answer that ends at the limit.
    assert collected.choices[0].message.content == whole, collected


def chat_logprobs_have_bytes_and_rivals(server: Server) -> None:
    answer = server.chat(logprobs=True, top_logprobs=3)
    scores = answer.choices[0].logprobs.content
    assert len(scores) == answer.usage.completion_tokens, scores
    text = bytes(byte for score in scores for byte in score.bytes or b"")
    assert text.decode().startswith(answer.choices[0].message.content), text
    for score in scores:
        assert len(score.top_logprobs) == 3 and score.logprob == score.top_logprobs[0].logprob, score
        assert score.token == score.top_logprobs[0].token, score
        assert [top.logprob for top in score.top_logprobs] == sorted(
            (top.logprob for top in score.top_logprobs), reverse=True
        )
    streamed = [
        score
        for chunk in server.chat(logprobs=True, top_logprobs=3, stream=True)
        for choice in chunk.choices
        for score in (choice.logprobs.content if choice.logprobs else None) or []
    ]
    assert [score.to_dict() for score in streamed] == [score.to_dict() for score in scores], streamed
    plain = server.chat(logprobs=True).choices[0].logprobs.content
    assert all(score.top_logprobs == [] for score in plain), plain


def samples_of_a_chat_differ_and_their_seed_repeats_them(server: Server) -> None:
    def texts() -> list[str]:
        answer = server.chat(n=3, seed=5, temperature=1.2, max_completion_tokens=20)
        return [choice.message.content for choice in answer.choices]

    samples = texts()
    assert len(set(samples)) > 1 and texts() == samples, samples


def tools_are_a_BadRequestError(server: Server) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    error = raises(openai.BadRequestError, lambda: server.chat(tools=[tool]))
    assert error.param == "tools", error.body


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
