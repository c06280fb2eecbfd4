"""Checks of constrained chats, with the official OpenAI client and LangChain's `ChatOpenAI`."""

import json

import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from client_checks import Server, raises


class City(BaseModel):
    """What the constrained answers hold."""

    name: str
    inhabitants: int
    is_capital: bool


def constrained_answers_are_JSON_of_the_schema(server: Server) -> None:
    question = [{"role": "user", "content": "Describe Paris as JSON."}]
    answer = server.chat(question, response_format={"type": "json_object"}, max_completion_tokens=300)
    assert answer.choices[0].finish_reason == "stop", answer
    assert isinstance(json.loads(answer.choices[0].message.content), dict), answer
    parsed = server.client.chat.completions.parse(
        model=server.chat_model,
        messages=question,
        response_format=City,
        max_completion_tokens=200,
        temperature=1,
        seed=1,
    )
    assert isinstance(parsed.choices[0].message.parsed, City), parsed
    bad = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "no such type"}}}
    raises(openai.BadRequestError, lambda: server.chat(question, response_format=bad))


def langchain_ChatOpenAI_reads_constrained_answers(server: Server) -> None:
    model = ChatOpenAI(model=server.chat_model, temperature=0, max_tokens=200, **server.options)
    city = model.with_structured_output(City, method="json_schema").invoke("Describe Paris.")
    assert isinstance(city, City), city
