"""Proves that a running `kindling serve` answers the official OpenAI client and LangChain.

    python serve_clients.py http://127.0.0.1:8080 --chat-model smol
    python serve_clients.py http://127.0.0.1:8080 --api-key KEY         against a server with --api-key KEY

Prints one line per check and exits with code 1 if one fails. Checks of chat need a model with a chat template, and are
left out without `--chat-model`.
"""

import argparse
import inspect
import sys
import traceback
from collections.abc import Callable
from types import ModuleType

import openai

import client_chats
import client_completions
import client_constraints
import client_keys
from client_checks import Server

Check = Callable[[Server], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the server's address, without /v1")
    parser.add_argument("--model", help="model of the completions; without it, the server's first")
    parser.add_argument("--chat-model", help="model of the chats")
    parser.add_argument(
        "--grammar", action="store_true", help="check constrained chats too, which need the feature `grammar`"
    )
    parser.add_argument("--api-key", help="the server's key")
    parser.add_argument("--only", default="", help="run the checks whose name contains this text")
    args = parser.parse_args()
    url = args.url.rstrip("/")
    with openai.OpenAI(base_url=f"{url}/v1", api_key=args.api_key or "unused") as client:
        model = args.model or client.models.list().data[0].id
    server = Server(url, model, args.chat_model, args.api_key)

    wanted = {
        client_completions: True,
        client_chats: args.chat_model,
        client_constraints: args.chat_model and args.grammar,
        client_keys: args.api_key,
    }
    checks = [check for module, is_wanted in wanted.items() if is_wanted for check in checks_of(module)]
    checks = [check for check in checks if args.only in check.__name__]
    failed = [check for check in checks if not passes(check, server)]
    print(
        f"{len(checks) - len(failed)} of {len(checks)} checks passed on {model} (chat: {args.chat_model or 'left out'})"
    )
    return 1 if failed or not checks else 0


def checks_of(module: ModuleType) -> list[Check]:
    """The functions of a module, in their order. Each is a check: it raises an exception if something does not hold."""
    return [
        check for check in vars(module).values() if inspect.isfunction(check) and check.__module__ == module.__name__
    ]


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


if __name__ == "__main__":
    sys.exit(main())
