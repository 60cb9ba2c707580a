"""Which models a server has: one that ignores the model's name would serve any under it."""

from __future__ import annotations

from rec.errors import RecError
from rec.llm.server.http import Poster, Refused

_NO_ROUTE = (404, 405, 501)


def require_model(poster: Poster, name: str) -> None:
    """Raise RecError unless the server lists a model `name` at /models.

    Some servers (llama-cpp-python's, llama-server with one model) answer for any name with a model
    that they have, so that the base would be taken for an aligned policy. A server without that
    list is refused too.
    """
    names = _names(poster)
    if name not in names:
        listed = poster.line(", ".join(names)) or "no model at all"
        raise RecError(
            f"{poster.endpoint.address}: the server has no model {name!r} (sampling.server_model);"
            f" it has: {listed}"
        )


def _names(poster: Poster) -> list[str]:
    address = poster.endpoint.address
    unknown = f"{address}: cannot tell which models it has"
    try:
        data = poster.get("models").get("data")
    except Refused as error:
        if error.status not in _NO_ROUTE:
            raise
        raise RecError(
            f"{unknown}: nothing is at {address}/models (status {error.status}), which a server of"
            " policies must have; does machine.server end right (/v1)?"
        ) from error
    if not isinstance(data, list):
        raise RecError(f"{unknown}: the answer of {address}/models holds no list `data`")
    models = [model.get("id") for model in data if isinstance(model, dict)]
    return [name for name in models if isinstance(name, str)]
