"""Completions servers for tests: llama-cpp-python's own, and one that does what it is told."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

START_SECONDS = 120


@dataclass
class Reply:
    """What the obedient server answers: a completion, or `body` as it stands."""

    text: str = ""
    finish: str = "stop"
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False  # close the connection in the middle of the body

    @property
    def content(self) -> bytes:
        choice = {"index": 0, "text": self.text, "finish_reason": self.finish}
        return json.dumps({"choices": [choice]}).encode() if self.body is None else self.body


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    body: dict[str, Any]
    headers: Mapping[str, str]


def catalogue(*names: str) -> Reply:
    """What a server with models of these names answers at /models."""
    models = [{"id": name, "object": "model"} for name in names]
    return Reply(body=json.dumps({"object": "list", "data": models}).encode())


Answer = Callable[[int, dict[str, Any]], Reply]


class Obedient:
    """A server that answers by a function of a request's number and body, and notes all it got.

    To a GET it answers with `listed`, one after the other, the last as often as asked.
    """

    def __init__(self, answer: Answer, certificate: Path | None, listed: Sequence[Reply]) -> None:
        self.answer = answer
        self.listed = listed
        self.asked: list[Asked] = []
        self.got: list[Asked] = []
        self.in_flight = self.most_in_flight = 0
        self.broken_off = threading.Event()  # a client left before its answer
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}/v1"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [asked.body for asked in self.asked]

    def _enter(self, asked: Asked) -> int:
        with self.lock:
            self.asked.append(asked)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return len(self.asked) - 1

    def _leave(self) -> None:
        with self.lock:
            self.in_flight -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer goes out in one packet

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = outer._enter(Asked(self.path, body, dict(self.headers)))
                try:
                    reply = outer.answer(number, body)
                finally:
                    outer._leave()
                if outer.scheme == "http" and self.left():
                    outer.broken_off.set()
                    self.close_connection = True
                    return
                self.reply(reply)

            def do_GET(self) -> None:
                outer.got.append(Asked(self.path, {}, dict(self.headers)))
                self.reply(outer.listed[min(len(outer.got), len(outer.listed)) - 1])

            def left(self) -> bool:
                self.connection.settimeout(0.001)
                try:
                    return not self.connection.recv(1, socket.MSG_PEEK)
                except TimeoutError:
                    return False
                except OSError:
                    return True
                finally:
                    self.connection.settimeout(None)

            def reply(self, reply: Reply) -> None:
                self.send_response(reply.status)
                self.send_header("Content-Length", str(len(reply.content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.drop:
                    self.wfile.write(reply.content[: len(reply.content) // 2])
                    self.close_connection = True
                else:
                    self.wfile.write(reply.content)

            def log_message(self, *_: Any) -> None:
                return None

        return Handler


@contextmanager
def obedient(
    answer: Answer, certificate: Path | None = None, listed: Sequence[Reply] = (catalogue("tiny"),)
) -> Iterator[Obedient]:
    """A running server that answers by `answer`, over TLS where it has a certificate."""
    server = Obedient(answer, certificate, listed)
    server.server.daemon_threads = True
    thread = threading.Thread(target=server.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
        thread.join()


def make_certificate(path: Path) -> None:
    """Write a key and a certificate for 127.0.0.1 that signs itself, by openssl."""
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())


def refusing_address() -> str:
    """An address at which nothing listens."""
    return f"http://127.0.0.1:{_free_port()}/v1"


@contextmanager
def resetting() -> Iterator[str]:
    """The address of a server that resets every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stopped = threading.Event()

        def serve() -> None:
            while not stopped.is_set():
                connection, _ = listener.accept()
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
        stopped.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@contextmanager
def llama_cpp_server(models: Mapping[str, Path], folder: Path) -> Iterator[str]:
    """The address of llama-cpp-python's server with GGUFs by name, exact and on one thread."""
    port = _free_port()
    settings = {
        "n_ctx": 512,
        "n_threads": 1,
        "n_threads_batch": 1,
        "type_k": 0,
        "type_v": 0,
        "logits_all": False,
        "verbose": False,
    }
    listed = [
        {"model": str(path), "model_alias": name, **settings} for name, path in models.items()
    ]
    config = folder / "server.json"
    config.write_text(json.dumps({"host": "127.0.0.1", "port": port, "models": listed}))
    command = [sys.executable, "-m", "llama_cpp.server", "--config_file", str(config)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            _wait(process, port, folder / "server.log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(START_SECONDS * 10):
        if process.poll() is not None:
            break
        try:
            requests.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise RuntimeError(f"the server does not start: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
