"""The trained re-rankers of the comparison and the text encoder, as commands take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rec import layout
from rec.cli.project import Project
from rec.errors import RecError

if TYPE_CHECKING:
    import polars as pl

    from rec.knowledge import Encoder

F = TypeVar("F", bound=Callable[..., Any])

WITHOUT = "none"  # the variant that knows no text


def backbone_option(function: F) -> F:
    """The option --backbone."""
    option = click.option(
        "--backbone",
        metavar="NAME",
        help="The re-rankers' model.  [default: the first of rerank.backbones]",
    )
    return option(function)


def chosen_backbone(backbone: str | None, project: Project) -> str:
    """A backbone that the comparison has trained. Raises RecError for another."""
    trained = project.params.rerank.backbones
    if backbone not in (None, *trained):
        raise RecError(
            f"backbone {backbone!r}: params.yaml has rerank.backbones {', '.join(trained)}"
        )
    return backbone or trained[0]


def require_reranker(variant: str, backbone: str, project: Project) -> Path:
    """The weights of a variant's re-ranker of the first seed, which are there."""
    seed = project.params.rerank.seeds[0]
    stage = "rerank-baseline" if variant == WITHOUT else "rerank"
    path = layout.reranker(variant, backbone, seed)
    return project.require(path, f"{stage}@{variant}-{backbone}-{seed}")


def require_item_vectors(project: Project) -> pl.DataFrame:
    """The vectors of the items' texts."""
    from rec.knowledge import read_vectors

    return read_vectors(project.require(layout.ITEM_VECTORS, "encode-catalogue"))


def open_encoder(project: Project) -> Encoder:
    """The text encoder, with the threads that the parameters give it."""
    from rec.knowledge import Encoder
    from rec.machine import use_threads

    settings = project.params.encoder
    use_threads(project.params.machine.threads)
    folder = project.require(layout.RAW_ENCODER, "fetch@encoder")
    return Encoder(folder, settings.max_tokens, settings.batch_size)
