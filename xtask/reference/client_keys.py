"""The check of a server with a key."""

import openai

from client_checks import PROMPT, Server, raises


def a_missing_or_wrong_key_is_an_AuthenticationError(server: Server) -> None:
    for wrong in ("wrong", server.api_key[:-1], server.api_key + "x"):
        client = openai.OpenAI(**server.options | {"api_key": wrong})
        raises(openai.AuthenticationError, client.models.list)
        raises(openai.AuthenticationError, lambda: client.completions.create(model=server.model, prompt=PROMPT))
    headers = {"Authorization": openai.Omit()}
    raises(openai.AuthenticationError, lambda: server.complete(extra_headers=headers))
