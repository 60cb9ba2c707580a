"""How sound responses are: cut off, empty, or repeating themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

#: A loop is a block of tokens that stands this often in a row, over this many tokens or more.
_TIMES, _SPAN = 3, 8
_LONGEST_BLOCK = 40  # tokens


def loops(token_ids: Sequence[int]) -> bool:
    """Whether a block of tokens stands three times or more in a row, over 8 tokens or more.

    The last token may be missing: the last name of a list has no comma.

    >>> loops([7, 1, 2, 3, 1, 2, 3, 1, 2, 3]), loops([1, 2, 3, 1, 2, 3]), loops([5, 5, 5])
    (True, False, False)
    """
    ids = np.asarray(token_ids, dtype=np.int32)
    blocks = np.arange(1, min(_LONGEST_BLOCK, (len(ids) + 1) // _TIMES) + 1)
    padded = np.append(ids, np.full(len(blocks), -1, np.int32))
    same = sliding_window_view(padded, len(ids))[1:] == ids  # [block, place]
    needed = np.maximum(_SPAN, _TIMES * blocks - 1) - blocks
    likely = np.flatnonzero(same.sum(axis=1) >= needed)
    return any(_longest_run(same[row]) >= needed[row] for row in likely)


def _longest_run(same: NDArray[np.bool_]) -> int:
    breaks = np.flatnonzero(~same)
    edges = np.concatenate(([-1], breaks, [len(same)]))
    return int(np.diff(edges).max()) - 1


def lacks_text() -> pl.Expr:
    """Whether a row of RESPONSES is empty, or has a slot that is."""
    return (pl.col("text").str.strip_chars() == "") | (pl.col("empty_slots") > 0)


def sampling_health(responses: pl.DataFrame) -> dict[str, float]:
    """Counts and shares over RESPONSES.

    `cut_off`: share of those whose every slot met its limit (free text has one slot); `cut_slots`:
    slots that met their limit, per response; `looping`: share of those that repeat themselves;
    `empty`: share of those without text in a slot; `repeated`: responses whose text the same user
    has already.
    """
    count = responses.height
    tokens = int(responses["response_tokens"].sum())
    cut = responses.filter(pl.col("finish_reason") == "length").height
    return {
        "responses": count,
        "users": responses["key"].n_unique(),
        "mean_tokens": round(tokens / count, 2),
        "cut_off": round(cut / count, 4),
        "looping": round(int(responses["looping"].sum()) / count, 4),
        "empty": round(responses.filter(lacks_text()).height / count, 4),
        "cut_slots": round(int(responses["cut_slots"].sum()) / count, 2),
        "repeated": count - responses.select("key", "text").n_unique(),
    }
