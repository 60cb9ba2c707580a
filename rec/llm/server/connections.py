"""The connections to a server, which another thread can break off."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from requests.adapters import HTTPAdapter


class Connections(HTTPAdapter):
    """A pool that knows its connections, so that another thread can break them off."""

    def __init__(self, connections: int) -> None:
        self.lock = threading.Lock()
        self.connections: WeakSet[Any] = WeakSet()
        self.is_shut = False
        super().__init__(pool_maxsize=connections)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """The connections to a host; each new one is noted."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        with self.lock:
            if not hasattr(pool.ConnectionCls, "adapter"):
                pool.ConnectionCls = _noted(pool.ConnectionCls, self)
        return pool

    def shut(self) -> None:
        """End the reading and writing of all connections; whoever waits for them gets an error.

        Those that are being made meanwhile, and later ones, end as soon as they are made.
        """
        with self.lock:
            self.is_shut = True
            sockets = [connection.sock for connection in self.connections]
        for one in sockets:
            _end(one)


def _noted(kind: Any, connections: Connections) -> Any:
    """A class of connections that an adapter knows."""

    class Noted(kind):
        adapter = connections

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            with self.adapter.lock:
                self.adapter.connections.add(self)

        def connect(self) -> None:
            super().connect()
            with self.adapter.lock:  # `shut` may have come before there was a socket
                is_shut = self.adapter.is_shut
            if is_shut:
                _end(self.sock)

    return Noted


def _end(one: Any) -> None:
    if isinstance(one, socket.socket):
        with suppress(OSError):  # it may be closed
            socket.socket.shutdown(one, socket.SHUT_RDWR)
