"""What a made-up training of a policy leaves: its curve, its summary, its outcome."""

from __future__ import annotations

from typing import Any

import polars as pl

from rec.curves import ALIGNMENT
from rec.outcomes import HeldOut, Outcome, Share


def alignment_table(round_: int = 1, steps: int = 12) -> pl.DataFrame:
    """Both sides become less likely, the rejected one more so."""
    rows = [
        {
            "step": step,
            "loss": 0.69 - 0.01 * step * round_,
            "margin": 0.02 * step * round_,
            "accuracy": min(1.0, 0.5 + 0.03 * step + 0.02 * round_),
            "chosen_reward": 0.01 * step,
            "rejected_reward": -0.01 * step,
            "chosen_log_probability": -150.0 - step,
            "rejected_log_probability": -160.0 - 2 * step,
            "chosen_log_ratio": -0.002 * step * round_,
            "rejected_log_ratio": -0.004 * step * round_,
            "kl": 0.0001 * step,
            "entropy": 2.5,
            "gradient_norm": 1.5,
            "learning_rate": 5e-5,
        }
        for step in range(1, steps + 1)
    ]
    return pl.DataFrame(rows, schema=dict(ALIGNMENT))


def alignment_summary(round_: int = 1, pairs: int = 10) -> dict[str, Any]:
    """What the align stage writes about a round: the end of its curve, and held-out pairs."""
    late = alignment_table(round_).drop("step").tail(3)
    heldout = {
        "pairs": pairs,
        "likelihood_accuracy_before": {"value": 0.5, "low": 0.236593, "high": 0.763407},
        "likelihood_accuracy_after": {"value": 0.6, "low": 0.312674, "high": 0.831820},
        "reward_accuracy": {"value": 0.9, "low": 0.595850, "high": 0.982124},
        "mean_margin": 0.4,
        "median_margin": 0.3,
        "chosen_log_ratio": -1.0,
        "rejected_log_ratio": -1.4,
    }
    return {
        "steps": 12,
        **{column.name: column.mean() for column in late},
        "likelihood_displacement": True,
        "heldout": heldout if pairs else {"pairs": 0},
    }


def outcome(pairs: int = 10) -> Outcome:
    """A round that ended without displacement."""
    held_out = HeldOut(pairs, Share(0.5, 0.24, 0.76), Share(0.6, 0.31, 0.83), Share(0.9, 0.6, 0.98))
    return Outcome(
        steps=5,
        loss=0.65,
        accuracy=0.8,
        margin=1.25,
        chosen_log_ratio=0.004,
        rejected_log_ratio=-0.0081234567,
        kl=0.002,
        displaced=False,
        held_out=held_out if pairs else None,
    )
