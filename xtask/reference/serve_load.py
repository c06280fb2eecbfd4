"""Loads `kindling serve` with clients of mixed lengths, and with clients that are slow or vanish.

    python serve_load.py --kindling target/release/kindling --model runs/mine --seconds 300

Exits with code 1 unless:

- every status is 200 or 429;
- memory grows by the KV caches only;
- each answer equals the one to the same request alone, or is greedy and first differs where the two best tokens are
  within 1e-3;
- after 1,000 slow or vanishing clients, no slot is taken, no connection is open, and a request gets its answer.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from serving import Running, kindling, prompt_of

MAX_GAP = 1e-3  # Nats between the two best tokens where a greedy answer may differ.
MAX_GROWTH_MIB = 64  # Of the resident memory, apart from the KV caches.
WARM_UP = 0.3  # Part of the time after which memory counts.
RELEASE_S = 30  # After which no trace of a vanished client may be left.
LEAVER_TOKENS = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kindling", type=Path, required=True, help="the program")
    parser.add_argument("--model", required=True, help="the model, as kindling names it")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300, help="of load")
    parser.add_argument("--requests", type=int, default=48, help="different requests, each sent alone first")
    parser.add_argument("--words", type=int, default=60, help="of the longest prompt")
    parser.add_argument("--tokens", type=int, default=48, help="of the longest answer")
    parser.add_argument("--leavers", type=int, default=1000, help="clients that are slow or vanish")
    parser.add_argument(
        "--options", nargs="*", default=[], help="of `kindling serve`, without their dashes, such as slots=4"
    )
    args = parser.parse_args()
    options = [word for option in args.options for word in f"--{option}".split("=", 1)]

    with kindling(args.kindling, args.model, *options) as server:
        requests = [request(idx, args.words, args.tokens) for idx in range(args.requests)]
        start = time.perf_counter()
        alone = [server.post(body)["choices"][0] for body in requests]
        print(f"{len(requests)} requests alone: {time.perf_counter() - start:.0f} s", flush=True)
        passed = [
            asyncio.run(mixed_load(server, requests, alone, args.clients, args.seconds)),
            asyncio.run(leavers(server, requests, alone, args.leavers)),
        ]
    return 0 if all(passed) else 1


def request(idx: int, max_words: int, max_tokens: int) -> dict:
    """A request of the mix: two of three are greedy with log-probabilities, one is sampled with a seed."""
    rng = random.Random(idx)
    # Most are short, and some have the whole length.
    n_words, n_tokens = (max(1, round(longest * rng.random() ** 2)) for longest in (max_words, max_tokens))
    body = {"prompt": prompt_of(n_words, str(idx)), "max_tokens": n_tokens}
    return body | ({"temperature": 1, "seed": idx} if idx % 3 == 0 else {"temperature": 0, "logprobs": 2})


@dataclass
class Answers:
    """What the clients of a load received."""

    statuses: Counter = field(default_factory=Counter)
    errors: Counter = field(default_factory=Counter)
    n_tokens: int = 0
    n_at_a_tie: int = 0
    different: list[str] = field(default_factory=list)

    def compare(self, body: dict, expected: dict, answer: dict) -> None:
        """Notes a difference between two choices."""
        if answer["text"] == expected["text"]:
            return
        gap = gap_of_first_difference(expected, answer) if body["temperature"] == 0 else None
        if gap is not None and gap <= MAX_GAP:
            self.n_at_a_tie += 1
        else:
            self.different.append(f"gap {gap}, {body}: alone {expected['text']!r}, in the load {answer['text']!r}")


def gap_of_first_difference(expected: dict, answer: dict) -> float | None:
    """The nats between the two best tokens where the tokens first differ."""
    tops = expected["logprobs"]["top_logprobs"]
    for idx, (one, other) in enumerate(zip(expected["logprobs"]["tokens"], answer["logprobs"]["tokens"], strict=False)):
        if one != other:
            best, second, *_ = sorted(tops[idx].values(), reverse=True)
            return best - second
    return None


async def mixed_load(server: Running, requests: list[dict], alone: list[dict], n_clients: int, seconds: float) -> bool:
    """Clients that send one request after the other. Returns whether all is as it must be."""
    answers, start = Answers(), time.monotonic()
    memory: list[tuple[float, float]] = []  # Resident and cache MiB, each second.

    async def one_client(http: httpx.AsyncClient, rng: random.Random) -> None:
        while time.monotonic() < start + seconds:
            idx = rng.randrange(len(requests))
            status, choice = await (streamed if rng.random() < 0.5 else whole)(http, server, requests[idx])
            answers.statuses[status] += 1
            if status == 200:
                answers.compare(requests[idx], alone[idx], choice)
                answers.n_tokens += len((choice["logprobs"] or {}).get("tokens", ())) or choice["n_tokens"]
            elif status == 429:
                await asyncio.sleep(1)

    async def watch_memory() -> None:
        while True:
            cache = await asyncio.to_thread(server.metric, "kindling_cache_bytes")
            memory.append((server.rss_mib(), cache / 2**20))
            await asyncio.sleep(1)

    limits = httpx.Limits(max_connections=n_clients)
    async with httpx.AsyncClient(limits=limits, timeout=300) as http:
        watching = asyncio.create_task(watch_memory())
        clients = [one_client(http, random.Random(idx)) for idx in range(n_clients)]
        for result in await asyncio.gather(*clients, return_exceptions=True):
            if isinstance(result, Exception):
                answers.errors[f"{type(result).__name__}: {result}"] += 1
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    took = time.monotonic() - start

    base = memory[int(len(memory) * WARM_UP)]
    growth = memory[-1][0] - base[0]
    of_caches = max(0.0, memory[-1][1] - base[1])
    print(f"\n{n_clients} clients for {took:.0f} s: statuses {dict(answers.statuses)}, errors {dict(answers.errors)}")
    print(f"  {answers.n_tokens / took:.1f} tokens/s")
    print(f"  memory {memory[0][0]:.0f} MiB at first, {base[0]:.0f} after warming up, {memory[-1][0]:.0f} at the end;")
    print(f"  the KV caches {memory[0][1]:.0f}, {base[1]:.0f} and {memory[-1][1]:.0f} MiB")
    n_different = len(answers.different)
    print(f"  {answers.n_at_a_tie} answers differ where the two best tokens are within {MAX_GAP}, {n_different} others")
    for line in answers.different[:5]:
        print(f"    {line}")
    return report(
        {
            "no status but 200 and 429": answers.statuses.keys() <= {200, 429} and not answers.errors,
            "requests were answered": answers.statuses[200] >= n_clients,
            "memory grows by the KV caches only": growth <= of_caches + MAX_GROWTH_MIB,
            "answers equal those alone": not answers.different,
        }
    )


async def whole(http: httpx.AsyncClient, server: Running, body: dict) -> tuple[int, dict]:
    response = await http.post(f"http://127.0.0.1:{server.port}/v1/completions", json={"model": server.model} | body)
    if response.status_code != 200:
        return response.status_code, {}
    answer = response.json()
    return 200, answer["choices"][0] | {"n_tokens": answer["usage"]["completion_tokens"]}


async def streamed(http: httpx.AsyncClient, server: Running, body: dict) -> tuple[int, dict]:
    """The choice that the chunks of a stream add up to."""
    body = {"model": server.model, "stream": True, "stream_options": {"include_usage": True}} | body
    text, tokens, n_tokens = [], [], 0
    async with http.stream("POST", f"http://127.0.0.1:{server.port}/v1/completions", json=body) as response:
        if response.status_code != 200:
            await response.aread()
            return response.status_code, {}
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise RuntimeError(line)
                n_tokens = (chunk.get("usage") or {}).get("completion_tokens", 0)
                for choice in chunk["choices"]:
                    text.append(choice["text"])
                    tokens += (choice["logprobs"] or {}).get("tokens", [])
        if line != "data: [DONE]" and line:
            raise RuntimeError(f"a stream ended with {line!r}")
    return 200, {"text": "".join(text), "logprobs": {"tokens": tokens}, "n_tokens": n_tokens}


# Slow and vanishing clients


async def leavers(server: Running, requests: list[dict], alone: list[dict], number: int) -> bool:
    """Clients of each kind, many at a time. Returns whether the server is as before."""
    kinds = [half_a_header, slow_header, half_a_body, ask_and_leave, leave_after_one_chunk, connect_and_leave] * 4
    kinds.append(never_read)  # Few, as they take their share of the model until the end.
    n_files, rss, start = server.n_files(), server.rss_mib(), time.monotonic()
    at_once = asyncio.Semaphore(200)
    kept: list[asyncio.StreamWriter] = []
    outcomes: Counter = Counter()

    async def one(idx: int) -> None:
        async with at_once:
            kind = kinds[idx % len(kinds)]
            body = (
                {"model": server.model}
                | requests[idx % len(requests)]
                | {"max_tokens": LEAVER_TOKENS, "stream": idx % 2 == 0}
            )
            reader, writer = await asyncio.open_connection(sock=connected(server.port))
            try:
                await asyncio.wait_for(kind(reader, writer, body), 60)
                outcomes[kind.__name__] += 1
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                outcomes[f"{kind.__name__}: {type(error).__name__}"] += 1
            if kind in (half_a_header, half_a_body, never_read):
                kept.append(writer)  # Stays open until the end.
            else:
                writer.close()

    await asyncio.gather(*(one(idx) for idx in range(number)))
    async with httpx.AsyncClient(timeout=300) as http:
        during = await whole(http, server, requests[1])
    for writer in kept:
        writer.close()
    print(f"\n{number} slow or vanishing clients in {time.monotonic() - start:.0f} s: {dict(outcomes)}")

    released = await asyncio.to_thread(wait_until_idle, server, n_files)
    busy, waiting = (server.metric(f"kindling_{name}") for name in ("slots_busy", "queue_length"))
    after, rss_after = server.post(requests[1])["choices"][0], server.rss_mib()
    n_more = server.n_files() - n_files
    print(f"  idle after {released:.1f} s: {busy:.0f} slots taken, {waiting:.0f} waiting, {n_more} more files")
    print(f"  memory {rss:.0f} MiB before, {rss_after:.0f} after")
    answers = Answers()
    answers.compare(requests[1], alone[1], after)
    if during[0] == 200:
        answers.compare(requests[1], alone[1], during[1])
    return report(
        {
            "a request with the slow clients still there gets an answer": during[0] in (200, 429),
            "no slot is taken": busy == 0 and waiting == 0,
            "connections are closed": server.n_files() <= n_files + 2,
            "a request gets its answer": not answers.different,
        }
    )


def wait_until_idle(server: Running, n_files: int) -> float:
    """Waits until no slot is taken and connections are closed, at most `RELEASE_S`. Returns the seconds."""
    start = time.monotonic()
    while time.monotonic() < start + RELEASE_S:
        if server.metric("kindling_slots_busy") == 0 and server.n_files() <= n_files + 2:
            break
        time.sleep(0.1)
    return time.monotonic() - start


def connected(port: int) -> socket.socket:
    """A connection with the smallest receive buffer, so that a client that does not read soon stalls the server."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


def http_request(body: dict) -> bytes:
    content = json.dumps(body).encode()
    lines = ["POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


async def half_a_header(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
    writer.write(http_request(body)[:40])
    await writer.drain()


async def slow_header(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
    for byte in http_request(body)[:20]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


async def half_a_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
    writer.write(http_request(body)[:-20])
    await writer.drain()


async def ask_and_leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
    writer.write(http_request(body))
    await writer.drain()


async def leave_after_one_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
    writer.write(http_request(body))
    await reader.read(300)


async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
    writer.transport.pause_reading()
    writer.write(http_request(body | {"stream": True, "logprobs": 50}))
    await writer.drain()


async def connect_and_leave(_: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> None:
    await asyncio.sleep(0.05)


def report(checks: dict[str, bool]) -> bool:
    """Prints a line per check. Returns whether all hold."""
    for name, holds in checks.items():
        print(f"{'ok' if holds else 'FAILED':<8}{name}", flush=True)
    return all(checks.values())


if __name__ == "__main__":
    sys.exit(main())
