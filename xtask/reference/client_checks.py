"""What the checks of `serve_clients.py` share: the server, its errors and its streams."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import openai

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
        return {
            "base_url": f"{self.url}/v1",
            "api_key": self.api_key or "unused",
            "timeout": TIMEOUT_S,
            "max_retries": 0,
        }

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
