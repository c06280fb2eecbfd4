"""Servers as child processes on free loopback ports, for `serve_speed.py` and `serve_load.py`."""

import http.client
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 120
STOP_S = 30
REQUEST_S = 120
WORDS = "the red tree is near a house and far from the old boat but not so high in green blue".split()


@dataclass(frozen=True)
class Running:
    """A server that accepts requests."""

    name: str
    port: int
    pid: int
    model: str

    def post(self, body: dict) -> dict:
        """The answer to a completion, on a connection of its own."""
        response = self.open(body)
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{self.name}: status {response.status}: {answer[:500]!r}")
        return json.loads(answer)

    def open(self, body: dict) -> http.client.HTTPResponse:
        """The response to a completion, with its body unread."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_S)
        body = json.dumps({"model": self.model} | body)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        return connection.getresponse()

    def stream_times(self, body: dict) -> list[float]:
        """When the pieces of a streamed completion arrive. They are not parsed: this process and the server share cores."""
        body = json.dumps({"model": self.model, "stream": True} | body)
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        times, received = [], b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=REQUEST_S) as connection:
            connection.sendall(f"{head}\r\n\r\n{body}".encode())
            while b"[DONE]" not in received[-64:]:
                piece = connection.recv(65536)
                if not piece:
                    raise RuntimeError(f"{self.name}: {received[:500]!r}")
                received += piece
                if b"data: " in piece:
                    times.append(time.perf_counter())
        return times

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_S)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [line for line in self.get("/metrics").splitlines() if line.partition("{")[0].partition(" ")[0] == name]
        if not lines:
            raise RuntimeError(f"/metrics has no {name}")
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def rss_mib(self) -> float:
        """The resident memory of the process, from Linux."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * 4096 / 2**20

    def n_files(self) -> int:
        """The open files of the process, connections included, from Linux."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


def kindling(program: Path, model: str, *options: str) -> AbstractContextManager[Running]:
    """`kindling serve` with one model."""
    port = free_port()
    command = [str(program.resolve()), "serve", model, "--port", str(port), *options]
    return running("kindling serve", command, port, Path(model).name, "/health")


def llama_cpp(gguf: Path, n_ctx: int, threads: int) -> AbstractContextManager[Running]:
    """The server of llama-cpp-python, which runs one request at a time."""
    port = free_port()
    options = {
        "model": gguf,
        "model_alias": gguf.stem,
        "host": "127.0.0.1",
        "port": port,
        "n_ctx": n_ctx,
        "n_threads": threads,
        "n_threads_batch": threads,
        "logits_all": False,  # By default it keeps the logits of each prompt token.
        "interrupt_requests": False,  # By default a new request ends the one that streams.
        "verbose": False,
    }
    flags = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return running(
        "llama_cpp.server", [sys.executable, "-m", "llama_cpp.server", *flags], port, gguf.stem, "/v1/models"
    )


@contextmanager
def running(name: str, command: list[str], port: int, model: str, ready_path: str) -> Iterator[Running]:
    """A started server. Ends it after the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = Running(name, port, process.pid, model)
        wait_until_ready(server, process, ready_path)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(server: Running, process: subprocess.Popen, path: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"{server.name} ended with code {process.returncode} before it was ready")
        try:
            server.get(path)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{server.name} was not ready after {START_S} s")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def prompt_of(n_words: int, seed: str) -> str:
    """A prompt that depends on the seed from its first word on, in letters that a small vocabulary has too."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) for _ in range(n_words))
