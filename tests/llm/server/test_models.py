"""rec.llm.server.models: nothing is drawn from a server that has no model of the name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from rec.errors import RecError
from rec.llm.form import card
from rec.llm.model import Model
from rec.llm.request import Request
from rec.llm.sampler import SamplerSettings
from rec.llm.server import http
from rec.llm.server.completions import CompletionServer
from rec.llm.server.endpoint import KEY
from rec.llm.server.http import Cancelled
from tests.llm.server.serving import Reply, catalogue, llama_cpp_server, obedient
from tests.llm.tiny import Tiny

SECRET = "sk-very-secret-7"
LONG = [f"model-{number}" for number in range(100)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setattr(http, "FIRST_DELAY", 0.01)


@pytest.fixture(scope="module")
def model(tiny_llama: Tiny) -> Iterator[Model]:
    with Model(tiny_llama.gguf, vocabulary_only=True) as loaded:
        yield loaded


def texts(model: Model, address: str, name: str = "rec-1") -> list[str]:
    """The text of a response of one slot, if the server gives one."""
    settings = SamplerSettings(1.0, 0, 1.0, 0.0, 1.0)
    form = card(model, ["Mood:"], 5)
    request = Request("user:1", tuple(model.chat([{"role": "user", "content": "films"}])), {0: 1})
    options: dict[str, Any] = {"prompts": "text", "parallel": 2, "timeout": 60.0, "retries": 2}
    server = CompletionServer(model, form, settings, address=address, name=name, **options)
    with server:
        return [model.detokenize(one.token_ids) for one in server.generate([request])]


def refused(model: Model, *listed: Reply) -> str:
    """The one line in which a server that lists its models so is refused, before any drawing."""
    with obedient(lambda *_: Reply(" loved"), listed=listed) as server:
        with pytest.raises(RecError) as caught:
            texts(model, server.address)
        assert server.asked == []
        line = str(caught.value)
        assert line.startswith(f"{server.address}: ")
    assert line.isprintable()
    assert len(line) < 500
    return line


def test_a_real_server_that_ignores_the_name(model: Model, tmp_path: Path) -> None:
    with llama_cpp_server({"rec-0": model.path}, tmp_path) as address:
        body = {"model": "rec-1", "prompt": "films", "max_tokens": 1}
        requests.post(f"{address}/completions", json=body, timeout=60).raise_for_status()
        with pytest.raises(RecError, match=r"no model 'rec-1' .*; it has: rec-0$"):
            texts(model, address, "rec-1")
        (text,) = texts(model, address, "rec-0")
    assert text.startswith("Mood:")


def test_a_model_that_is_listed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    listed = [catalogue("rec-0", "rec-1")]
    with obedient(lambda *_: Reply(" loved"), listed=listed) as server:
        assert texts(model, server.address) == ["Mood:loved"]
        (asked,) = server.got
    assert asked.path == "/v1/models"
    assert asked.headers["Authorization"] == f"Bearer {SECRET}"


def test_a_list_that_fails_once_is_asked_for_again(model: Model) -> None:
    listed = [Reply(status=503), Reply("x", drop=True), catalogue("rec-1")]
    with obedient(lambda *_: Reply(" loved"), listed=listed) as server:
        assert texts(model, server.address) == ["Mood:loved"]
        assert len(server.got) == 3


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (catalogue("rec-0", "rec-10"), "no model 'rec-1' (sampling.server_model); it has: rec-0, "),
        (catalogue(), "it has: no model at all"),
        (catalogue(*LONG), "it has: model-0, model-1, "),
        (catalogue("a\nb"), "it has: a b"),
        (Reply(body=b'{"data": [1, {"id": 2}, {}, {"id": "rec-0"}]}'), "it has: rec-0"),
        (Reply(body=b'{"data": {"rec-1": 1}}'), "cannot tell which models it has: the answer"),
        (Reply(body=b"{}"), "cannot tell which models it has: the answer"),
        (Reply(body=b'["rec-1"]'), "no JSON object"),
        (Reply(status=404), "cannot tell which models it has: nothing is at "),
        (Reply(status=405), "cannot tell which models it has: nothing is at "),
        (Reply(status=501), "cannot tell which models it has: nothing is at "),
        (Reply(status=401, body=b"who?"), "status 401: who?; is OPENAI_API_KEY"),
        (Reply(status=500, body=b"ill"), "gave up after 3 tries (status 500: ill)"),
    ],
)
def test_a_server_without_the_model_is_refused(model: Model, listed: Reply, words: str) -> None:
    assert words in refused(model, listed)


def test_no_list_shows_the_key(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    assert "it has: ***" in refused(model, catalogue(SECRET))


def test_the_wait_for_a_list_can_be_broken_off(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        enter = CompletionServer.__enter__
        connections: list[socket.socket] = []

        def close_when_asked(server: CompletionServer) -> None:
            connections.append(silent.accept()[0])
            connections[0].recv(1)
            server.close()

        def watched(server: CompletionServer) -> CompletionServer:
            threading.Thread(target=close_when_asked, args=(server,), daemon=True).start()
            return enter(server)

        monkeypatch.setattr(CompletionServer, "__enter__", watched)
        with pytest.raises(Cancelled) as caught:
            texts(model, address)
        connections[0].close()
    assert not isinstance(caught.value.__cause__, requests.Timeout)
