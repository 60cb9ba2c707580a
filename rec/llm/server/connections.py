"""The connections to a server, which another thread can break off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from requests.adapters import HTTPAdapter


class Connections(HTTPAdapter):
    """A pool that knows its connections, so that another thread can break them off."""

    def __init__(self, connections: int) -> None:
        self.lock = threading.Lock()
        self.connections: WeakSet[Any] = WeakSet()
        super().__init__(pool_maxsize=connections)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """The connections to a host; each new one is noted."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        with self.lock:
            if not isinstance(pool.ConnectionCls, _Recorder):
                pool.ConnectionCls = _Recorder(pool.ConnectionCls, self)
        return pool

    def shut(self) -> None:
        """End the reading and writing of all connections; whoever waits for them gets an error."""
        with self.lock:
            sockets = [connection.sock for connection in self.connections]
        for one in sockets:
            if isinstance(one, socket.socket):
                with suppress(OSError):  # it may be closed
                    socket.socket.shutdown(one, socket.SHUT_RDWR)


@dataclass(frozen=True)
class _Recorder:
    """Makes connections of a class, and lets an adapter know them."""

    kind: Callable[..., Any]
    adapter: Connections

    def __call__(self, *args: Any, **options: Any) -> Any:
        connection = self.kind(*args, **options)
        with self.adapter.lock:
            self.adapter.connections.add(connection)
        return connection
