"""Posting to a server: what is tried again, what is said of the rest, and the key."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest
import requests
from urllib3.connection import HTTPConnection

from rec.errors import RecError
from rec.llm.server import http
from rec.llm.server.endpoint import KEY, Endpoint
from rec.llm.server.http import Cancelled, Poster
from tests.llm.server.serving import (
    Answer,
    Obedient,
    Reply,
    make_certificate,
    obedient,
    refusing_address,
    resetting,
)

SECRET = "sk-very-secret-7"
GOOD = Reply("fine")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    monkeypatch.setattr(http, "FIRST_DELAY", 0.01)


def poster(address: str, *, timeout: float = 30.0, retries: int = 2) -> Poster:
    return Poster(Endpoint.checked(address, timeout=timeout, retries=retries), 2)


def first_fail(failure: Reply, times: int) -> Answer:
    return lambda number, _: failure if number < times else GOOD


def said(server: Obedient | str, *, timeout: float = 30.0, retries: int = 2) -> str:
    """The one line in which posting fails."""
    address = server if isinstance(server, str) else server.address
    with pytest.raises(RecError) as caught:
        poster(address, timeout=timeout, retries=retries).post("completions", {})
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < 500
    return line


@pytest.fixture
def refusal(request: pytest.FixtureRequest) -> Iterator[Obedient]:
    with obedient(lambda *_: request.param) as server:
        yield server


@pytest.mark.parametrize(
    "failure",
    [
        Reply(status=500, body=b'{"error": {"message": "out of memory"}}'),
        Reply(status=503, body=b"Loading model"),
        Reply(status=599),
        Reply(status=429),
        Reply("never whole", drop=True),
    ],
    ids=["500", "503", "599", "429", "drop"],
)
def test_a_passing_failure_is_tried_again(failure: Reply) -> None:
    with obedient(first_fail(failure, 2)) as server:
        answer = poster(server.address).post("completions", {"prompt": [1]})
        assert answer["choices"][0]["text"] == "fine"
        assert server.bodies == [{"prompt": [1]}] * 3


@pytest.mark.parametrize("retries", [0, 2])
def test_the_last_failure_is_told(retries: int) -> None:
    failure = Reply(status=500, body=b'{"error": {"message": "out of\\n memory \\u0007!"}}')
    with obedient(lambda *_: failure) as server:
        line = said(server, retries=retries)
        assert len(server.asked) == retries + 1
    tries = "1 try" if retries == 0 else "3 tries"
    assert f"{server.address}: gave up after {tries} (status 500: out of memory !)" in line
    assert "machine.server" in line


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Reply(status=400, body=b'{"error": {"message": "too\\nlong"}}'), "status 400: too long"),
        (Reply(status=401, body=b'{"error": "Unauthorized"}'), "status 401: Unauthorized; is OPEN"),
        (
            Reply(status=404, body=b'{"message": "no model x"}'),
            "no model x; is sampling.server_mod",
        ),
        (Reply(status=422, body=b'{"detail": [{"msg": "extra"}]}'), "status 422: [{'msg': 'extra'"),
        (Reply(status=501, body=b"no such thing"), "status 501: no such thing"),
        (Reply(status=418, body=b""), "status 418: (it said nothing)"),
        (Reply(status=400, body=b"\xff\x00\x1b[31m" + b"x" * 5000), "status 400: \ufffd [31mxxx"),
        (Reply(status=307, headers={"Location": "http://elsewhere/"}, body=b"go"), "307: go"),
        (Reply(status=200, body=b"<html>hello"), "the answer is no JSON object: <html>hello"),
        (Reply(status=200, body=b"[1]"), "the answer is no JSON object: [1]"),
        (Reply(status=200, body=b"[" * 100_000), "the answer is no JSON object: [[["),
        (Reply(status=500, body=b"1 validation error: a valid string"), "sampling.server_prompts"),
    ],
    indirect=["refusal"],
)
def test_a_refusal_is_told_at_once(refusal: Obedient, words: str) -> None:
    line = said(refusal)
    assert line.startswith(f"{refusal.address}: ")
    assert words in line
    assert len(refusal.asked) == 1


def test_retry_after_is_kept() -> None:
    wait = Reply(status=429, headers={"Retry-After": "1"})
    with obedient(first_fail(wait, 1)) as server:
        start = time.monotonic()
        poster(server.address).post("completions", {})
        assert time.monotonic() - start >= 1.0


def test_a_long_retry_after_waits_no_longer_than_the_time_out() -> None:
    wait = Reply(status=429, headers={"Retry-After": "86400"})
    with obedient(first_fail(wait, 1)) as server:
        poster(server.address, timeout=0.5).post("completions", {})
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7.0, 7.0),
        (formatdate(0, usegmt=True), 0.0, 0.0),
        ("soon", 0.0, 0.0),
        ("-5", 0.0, 0.0),
        ("9" * 400, 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_forms_of_retry_after(header: str, least: float, most: float) -> None:
    assert least <= http._seconds(header) <= most


def test_retry_after_as_a_date() -> None:
    assert 500 <= http._seconds(formatdate(time.time() + 600, usegmt=True)) <= 601


def test_a_slow_server_is_a_time_out() -> None:
    released = threading.Event()

    def slow(*_: object) -> Reply:
        released.wait(30)
        return GOOD

    with obedient(slow) as server:
        line = said(server, timeout=0.2, retries=1)
        released.set()
    assert "gave up after 2 tries (no answer within 0.2 s)" in line
    assert "machine.server_timeout" in line


def test_nobody_listens() -> None:
    line = said(refusing_address(), retries=1)
    assert "gave up after 2 tries (Connection refused)" in line
    assert "is a server running there (machine.server)?" in line


def test_a_connection_that_is_reset() -> None:
    with resetting() as address:
        assert "gave up after 2 tries" in said(address, retries=1)


def test_an_unknown_host() -> None:
    assert "nowhere.invalid" in said("http://nowhere.invalid/v1", retries=0)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8000/v1",
        "ftp://localhost/v1",
        "http://",
        "http://localhost:port/v1",
        "http://localhost:99999/v1",
        "http://localhost:0/v1",
        "http://localhost/v1?x=1",
        "http://localhost/v1#x",
        "http://name:secret@localhost/v1",
        "http://localhost/v1 ",
        "http://localhost/v1\n",
        "http://[::1/v1",
        "http://localhost/v1/completions/",
    ],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(RecError, match=r"machine\.server must") as caught:
        Endpoint.checked(address, timeout=1, retries=0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_slash_at_the_end_is_no_matter(slash: str) -> None:
    with obedient(lambda *_: GOOD) as server:
        poster(server.address + slash).post("completions", {})
        assert server.asked[0].path == "/v1/completions"


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, f" {SECRET}\n")
    echo = Reply(status=401, body=f'{{"error": "wrong key {SECRET}"}}'.encode())
    with obedient(lambda *_: echo) as server:
        line = said(server)
        assert server.asked[0].headers["Authorization"] == f"Bearer {SECRET}"
        assert SECRET not in repr(poster(server.address).endpoint)
    assert "wrong key ***" in line


@pytest.mark.parametrize("garbage", [b"not json %s", b"%s"])
def test_an_answer_that_repeats_the_key(garbage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    with obedient(lambda *_: Reply(body=garbage % SECRET.encode())) as server:
        assert SECRET not in said(server)


def test_nothing_but_the_key_identifies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with obedient(lambda *_: Reply(headers={"Set-Cookie": "id=1"})) as server:
        poster(server.address).post("completions", {})
        assert "Authorization" not in server.asked[0].headers
        monkeypatch.setenv(KEY, SECRET)
        poster(server.address).post("completions", {})
        assert server.asked[1].headers["Authorization"] == f"Bearer {SECRET}"


def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, refusing_address())
    with obedient(lambda *_: GOOD) as server:
        poster(server.address, retries=0).post("completions", {})
        assert server.asked[0].path == "/v1/completions"


def test_a_proxy_is_used_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with obedient(lambda *_: GOOD) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.setenv("no_proxy", "")
        poster("http://server.invalid/v1", retries=0).post("completions", {})
        assert proxy.asked[0].path == "http://server.invalid/v1/completions"


@pytest.mark.parametrize("address", ["http://gpu.example/v1", "http://10.0.0.3:8000", "http://0/"])
def test_the_key_never_goes_out_unencrypted(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    with pytest.raises(RecError, match="unencrypted") as caught:
        Endpoint.checked(address, timeout=1, retries=0)
    assert address in str(caught.value)
    assert SECRET not in str(caught.value)
    Endpoint.checked(address.replace("http:", "https:"), timeout=1, retries=0)
    monkeypatch.delenv(KEY)
    Endpoint.checked(address, timeout=1, retries=0)


@pytest.mark.parametrize(
    "address", ["http://localhost/v1", "http://127.0.0.9:1/v1", "http://[::1]:8000/v1"]
)
def test_the_key_may_go_to_this_machine(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    assert Endpoint.checked(address, timeout=1, retries=0).key == SECRET


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "na\u00efve"])
def test_a_key_that_is_no_header(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, key)
    with pytest.raises(RecError, match=KEY) as caught:
        Endpoint.checked("http://localhost", timeout=1, retries=0)
    assert key not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    make_certificate(path)
    return path


def test_an_unknown_certificate_is_refused_at_once(certificate: Path) -> None:
    with obedient(lambda *_: GOOD, certificate) as server:
        assert "its certificate is not trusted" in said(server)
        assert server.asked == []


def test_a_certificate_may_be_trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_suffix(".crt")))
    monkeypatch.setenv(KEY, SECRET)
    with obedient(lambda *_: GOOD, certificate) as server:
        poster(server.address).post("completions", {})
        assert server.asked[0].headers["Authorization"] == f"Bearer {SECRET}"


def test_https_at_a_server_that_speaks_http() -> None:
    with obedient(lambda *_: GOOD) as server:
        line = said(server.address.replace("http:", "https:"))
    assert "gave up after 3 tries" in line


@pytest.mark.parametrize("failures", [0, 1])
def test_abort_ends_what_is_under_way(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that waits for an answer, or for the next try, is through at once."""
    monkeypatch.setattr(http, "FIRST_DELAY", 300.0)
    check_abort(failures, None)


def test_abort_ends_what_is_under_way_over_tls(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_suffix(".crt")))
    check_abort(0, certificate)


def test_abort_ends_a_connection_that_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is not there yet when the connections are ended."""
    made = HTTPConnection.connect
    with socket.create_server(("127.0.0.1", 0)) as silent:
        busy = poster(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", timeout=30)

        def connect(connection: HTTPConnection) -> None:
            busy.abort()
            made(connection)

        monkeypatch.setattr(HTTPConnection, "connect", connect)
        with pytest.raises(Cancelled) as caught:
            busy.get("models")
    assert not isinstance(caught.value.__cause__, requests.Timeout)


def check_abort(failures: int, certificate: Path | None) -> None:
    arrived, released = threading.Event(), threading.Event()

    def wait(number: int, _: object) -> Reply:
        arrived.set()
        if number < failures:
            return Reply(status=500)
        released.wait(60)
        return GOOD

    with obedient(wait, certificate) as server:
        busy = poster(server.address, timeout=300)
        ends: list[BaseException] = []

        def work() -> None:
            try:
                busy.post("completions", {})
            except Cancelled as error:
                ends.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert arrived.wait(30)
        if failures:
            time.sleep(0.2)  # until the failure has come back
        busy.abort()
        thread.join(10)
        assert len(ends) == 1
        with pytest.raises(Cancelled):
            busy.post("completions", {})
        released.set()
