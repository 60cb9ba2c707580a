"""What a policy is trained from, by its name: round t of DPO, or a control of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rec.config import FINE_TUNED, Align, Params, start_policy


@dataclass(frozen=True)
class Origin:
    """Whose pairs a policy learns from, where it starts, and how it is trained."""

    round_: int  # whose pairs
    start: str  # the policy before training
    settings: Align


def origin(params: Params, policy: str) -> Origin:
    """What `policy` is trained from.

    Policy t, after round t, starts from the policy that the round judged and takes `align` as it
    is. Policy sft is the control that tells what DPO adds to the good responses: the base LLM
    fine-tuned on the chosen responses of round 1 alone, in all else as `align` says (as many
    epochs, the same learning rate and LoRA).

    Raises RecError for a policy that is not there, and for the base LLM, which is not trained.
    """
    start = start_policy(params, policy)
    if policy in FINE_TUNED:
        return Origin(1, start, replace(params.align, loss="sft", label_smoothing=0.0))
    return Origin(int(policy), start, params.align)
