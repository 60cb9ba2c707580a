"""Preference pairs as the trainer reads them: in token ids, the very ones that were sampled.

So no text is tokenised twice, and no title can spell a control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from rec.errors import RecError
from rec.llm.form import Form, by_policy
from rec.llm.model import Model


@dataclass(frozen=True)
class TokenPair:
    """A preference pair in token ids, and which tokens of the responses the policy chose.

    Only those count in the log-probabilities: a label that the form gives is no choice. An empty
    mask is a response whose tokens all count.
    """

    prompt: Sequence[int]
    chosen: Sequence[int]
    rejected: Sequence[int]
    chosen_by_policy: Sequence[bool] = ()
    rejected_by_policy: Sequence[bool] = ()

    @property
    def longest(self) -> int:
        """Tokens of the prompt and of the longer response."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    def example(self) -> dict[str, list[int]]:
        """The pair under the names of TRL's data sets, and a mask of 0 and 1 for each response."""
        return {
            "prompt_ids": list(self.prompt),
            "chosen_ids": list(self.chosen),
            "rejected_ids": list(self.rejected),
            "chosen_mask": _mask(self.chosen_by_policy, self.chosen),
            "rejected_mask": _mask(self.rejected_by_policy, self.rejected),
        }


def _mask(by_policy: Sequence[bool], ids: Sequence[int]) -> list[int]:
    return [int(chose) for chose in by_policy] or [1] * len(ids)


def token_pairs(pairs: pl.DataFrame, model: Model, form: Form) -> list[TokenPair]:
    """The table PAIRS as token ids: the prompt in the chat template, the responses as sampled.

    Raises RecError for a response that is not of the form.
    """
    found = []
    for row in pairs.iter_rows(named=True):
        try:
            chosen, chosen_by_policy = by_policy(form, row["chosen_ids"])
            rejected, rejected_by_policy = by_policy(form, row["rejected_ids"])
        except ValueError as error:
            raise RecError(f"pairs: {row['key']}: {error}; sample again") from error
        prompt = model.chat(row["messages"])
        found.append(TokenPair(prompt, chosen, rejected, chosen_by_policy, rejected_by_policy))
    return found


def require_fit(pairs: Sequence[TokenPair], max_length: int) -> None:
    """Raise RecError for no pairs, and for a pair that is longer than `max_length` tokens."""
    if not pairs:
        raise RecError("align: there are no pairs to learn from")
    longest = max(pair.longest for pair in pairs)
    if longest > max_length:
        raise RecError(
            f"align.max_length: {max_length} is too short; the longest pair has {longest} tokens, "
            "and cutting it would make the two sides equal"
        )
