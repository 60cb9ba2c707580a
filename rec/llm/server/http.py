"""Asking a server in JSON: time-outs, retries, and breaking off.

A request is tried again where no answer came in time, where the connection could not be made, was
refused or broke, and where the server said status 429 or 5xx. It is not tried again after any
other status, after 501 (the server lacks what was asked for), after a 500 that says that the
request was not understood, where the certificate is not trusted, and where the answer is no JSON
object.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import ssl
import threading
import time
from typing import Any

import requests

from rec.errors import RecError
from rec.llm.server.connections import Connections
from rec.llm.server.endpoint import KEY, Endpoint

FIRST_DELAY = 1.0  # seconds before the second try; doubled before each further one
LONGEST_DELAY = 30.0
CONNECT_SECONDS = 10.0
LONGEST_MESSAGE = 200  # characters of what a server says
_HINTS = {
    401: f"; is {KEY} set right?",
    403: f"; is {KEY} set right?",
    404: "; is sampling.server_model a model there, and does machine.server end right (/v1)?",
}
_STRINGS_ONLY = "; a server that takes no token ids needs sampling.server_prompts: text"


class Cancelled(Exception):
    """Work was broken off by `Poster.abort`."""


class Refused(RecError):
    """The server answered with a status after which no other try can succeed."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Transient(Exception):
    """A failure after which another try may succeed."""

    def __init__(self, reason: str, advice: str, delay: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.delay = reason, advice, delay


class Poster:
    """Asks an endpoint from up to `connections` threads, each a JSON object at a time."""

    def __init__(self, endpoint: Endpoint, connections: int) -> None:
        self.endpoint = endpoint
        self._adapter = Connections(connections)
        self._cancelled = threading.Event()
        self._thread = threading.local()
        # A proxy cannot reach this machine, and the key may only go there unencrypted.
        self._proxies = {"no_proxy": endpoint.host} if endpoint.is_local else None

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers a POST with.

        Tries again (see the module), after a growing and random delay; a Retry-After is kept, up
        to the time-out. Raises RecError after the last try, Refused for a status other than 200
        that is not tried again, and Cancelled after `abort`.
        """
        return self._ask("POST", path, body)

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object that the server answers a GET with, as for `post`."""
        return self._ask("GET", path, None)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        tries = self.endpoint.retries + 1
        for attempt in range(tries):
            try:
                return self._once(method, path, body)
            except _Transient as error:
                failure = error
            if attempt + 1 < tries:
                self._rest(attempt, failure.delay)
        raise RecError(
            f"{self.endpoint.address}: gave up after {tries} {'try' if tries == 1 else 'tries'}"
            f" ({failure.reason}); {failure.advice}"
        )

    def abort(self) -> None:
        """Break off all that is under way; nothing can be asked any more."""
        self._cancelled.set()
        self._adapter.shut()

    def close(self) -> None:
        """Close the connections."""
        self._adapter.close()

    def _rest(self, attempt: int, wanted: float) -> None:
        delay = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY) * random.uniform(0.5, 1.0)
        if self._cancelled.wait(max(delay, min(wanted, self.endpoint.timeout))):
            raise Cancelled

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        if self._cancelled.is_set():
            raise Cancelled
        timeout = self.endpoint.timeout
        try:
            response = self._session().request(
                method,
                f"{self.endpoint.address}/{path}",
                json=body,
                auth=self._authorize,
                timeout=(min(timeout, CONNECT_SECONDS), timeout),
                allow_redirects=False,
                proxies=self._proxies,
            )
        except Exception as error:
            if self._cancelled.is_set():
                raise Cancelled from error
            if isinstance(error, requests.RequestException):
                raise self._failure(error) from error
            raise
        return self._content(response)

    def _session(self) -> requests.Session:
        """This thread's session; all share the connections."""
        if not hasattr(self._thread, "session"):
            self._thread.session = requests.Session()
            self._thread.session.mount("http://", self._adapter)
            self._thread.session.mount("https://", self._adapter)
        session: requests.Session = self._thread.session
        return session

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the key. A function, since a header would lose to a password in ~/.netrc."""
        if self.endpoint.key:
            request.headers["Authorization"] = f"Bearer {self.endpoint.key}"
        return request

    def _failure(self, error: requests.RequestException) -> RecError | _Transient:
        root: BaseException = error
        while cause := root.__cause__ or root.__context__:
            root = cause
        reason = self.line(str(getattr(root, "strerror", None) or root)) or type(root).__name__
        if isinstance(root, ssl.SSLCertVerificationError):
            return RecError(f"{self.endpoint.address}: its certificate is not trusted ({reason})")
        if isinstance(error, requests.ReadTimeout):
            return _Transient(
                f"no answer within {self.endpoint.timeout:g} s",
                "raise machine.server_timeout, lower machine.parallel_sequences, or see whether"
                " machine.server is well",
            )
        if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
            return _Transient(reason, "is a server running there (machine.server)?")
        return RecError(f"{self.endpoint.address}: machine.server cannot be asked ({reason})")

    def _content(self, response: requests.Response) -> dict[str, Any]:
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            content = json.loads(response.content)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            start = self.line(_text(response))
            raise RecError(f"{self.endpoint.address}: the answer is no JSON object: {start}")
        return content

    def _refusal(self, response: requests.Response) -> Refused | _Transient:
        status = response.status_code
        said = f"status {status}: {self._said(response)}"
        # llama-cpp-python's server says 500 of a request that it does not understand.
        understood = "validation error" not in said
        if understood and status != 501 and (status == 429 or status >= 500):
            delay = _seconds(response.headers.get("Retry-After", ""))
            return _Transient(said, "what does the log of that server say (machine.server)?", delay)
        hint = _STRINGS_ONLY if "valid string" in said else _HINTS.get(status, "")
        return Refused(f"{self.endpoint.address}: {said}{hint}", status)

    def _said(self, response: requests.Response) -> str:
        """The message of an error, wherever the kinds of servers put it."""
        try:
            content = json.loads(response.content)
        except (ValueError, RecursionError):
            content = _text(response)
        for name in ("error", "message", "detail"):
            if isinstance(content, dict) and name in content:
                content = content[name]
        return self.line(str(content)) or "(it said nothing)"

    def line(self, text: str) -> str:
        """One line of printable characters, without the key."""
        if self.endpoint.key:
            text = text.replace(self.endpoint.key, "***")
        shown = "".join(character if character.isprintable() else " " for character in text)
        line = " ".join(shown.split())
        return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "…"


def _text(response: requests.Response) -> str:
    return response.content[:10_000].decode(errors="replace")


def _seconds(retry_after: str) -> float:
    """The header Retry-After, in seconds from now; 0 where there is none."""
    if re.fullmatch(r"\d{1,9}", retry_after):
        return float(retry_after)
    try:
        return max(email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0
