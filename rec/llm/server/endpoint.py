"""Where a completions server is, and the key that it is shown."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rec.errors import RecError

KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Endpoint:
    """An address, how patiently it is asked, and the key for it, which no text shows."""

    address: str
    timeout: float
    retries: int
    key: str = field(default="", repr=False)

    @classmethod
    def checked(cls, address: str, *, timeout: float, retries: int) -> Endpoint:
        """The endpoint at `address`, with the key of the environment variable OPENAI_API_KEY.

        Raises RecError for an address that is none, for a key that cannot be a header, and where
        the key would go unencrypted to another machine.
        """
        _check(address)
        key = os.environ.get(KEY, "").strip()
        if key and not re.fullmatch(r"[!-~]+", key):
            raise RecError(f"{KEY} holds a blank or a character that no key has")
        endpoint = cls(address.rstrip("/"), timeout, retries, key)
        if key and urlsplit(address).scheme != "https" and not endpoint.is_local:
            raise RecError(
                f"{address}: {KEY} would go there unencrypted; use https in machine.server, or a"
                f" tunnel to localhost, or unset {KEY}"
            )
        return endpoint

    @property
    def host(self) -> str:
        """The host's name or number."""
        return urlsplit(self.address).hostname or ""

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def _check(address: str) -> None:
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    extra = re.search(r"[\s?#@\\\x00-\x1f\x7f]", address)
    if not known or extra:
        shown = "" if extra else f", not {address!r}"  # it may hold a password
        raise RecError(
            "machine.server must be an address such as http://127.0.0.1:8000/v1, without user"
            f" name, query, fragment and blanks{shown}"
        )
    if parts.path.rstrip("/").endswith("/completions"):
        raise RecError(f"machine.server must end before /completions, not {address!r}")
