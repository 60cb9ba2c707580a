"""Whether an alignment is usable, judged by its curve: else no adapter is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rec.align.watch import CALMER, Row
from rec.config import Align
from rec.errors import RecError

#: Steps from which on the margin of the last quarter follows some updates.
JUDGED = 4


def verdict(curve: Sequence[Row], settings: Align, start: float = 0.0) -> dict[str, Any]:
    """Where the curve ended: means over the last quarter of its steps (one step or more).

    `start` is the mean margin of the pairs before training, in nats: not 0 where the reference is
    another policy than the one that the round starts from. A step's figures are of before its
    update, so that fewer than `JUDGED` steps say nothing about the margin.

    `likelihood_displacement` says that both sides became less likely than under the reference
    (Razin et al., arXiv 2410.08847), which is no error: the margin may grow all the same.

    Raises RecError for a value that is not finite, and beyond a limit of `settings.guards`: where
    the chosen responses collapsed, where the policy is too far from its reference, and where the
    margin has not grown.
    """
    last = curve[-max(1, len(curve) // 4) :]
    ended = {name: fmean(row[name] for row in last) for name in curve[0] if name != "step"}
    wild = next((name for name, value in ended.items() if not math.isfinite(value)), None)
    if wild is not None:
        raise RecError(f"align: {wild} ended at {ended[wild]}; {CALMER}")
    margin = ended["margin"] / settings.beta - start
    guards = settings.guards
    if guards.chosen_drop is not None and -ended["chosen_log_ratio"] > guards.chosen_drop:
        raise RecError(
            f"align: the chosen responses became {-ended['chosen_log_ratio']:.2f} nats per token "
            f"less likely (align.guards.chosen_drop is {guards.chosen_drop}): the policy no longer "
            f"writes them; raise align.beta, or {CALMER}"
        )
    if guards.kl is not None and ended["kl"] > guards.kl:
        raise RecError(
            f"align: the policy is {ended['kl']:.2f} nats per token from its reference "
            f"(align.guards.kl is {guards.kl}); raise align.beta, or {CALMER}"
        )
    least = guards.margin if settings.loss != "sft" and len(curve) >= JUDGED else None
    if least is not None and not margin > least:
        raise RecError(
            f"align: the margin grew by {margin:.4f} nats, not above align.guards.margin "
            f"({least}): nothing was learned from the pairs; raise align.learning_rate or "
            "align.epochs, or set the guard to null"
        )
    displaced = ended["chosen_log_ratio"] < 0 and ended["rejected_log_ratio"] < 0
    return {"steps": len(curve), **ended, "likelihood_displacement": displaced}
