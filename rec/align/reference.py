"""Log-probabilities of the responses under the reference policy: computed once and kept.

They do not change while the policy learns, and a run that was killed finds them again. They are
kept per batch of pairs, so that a batch is computed as a whole or not at all, with the same bits.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from rec.align.collation import collate
from rec.align.pairs import TokenPair
from rec.align.scoring import Packed
from rec.progress import bar

#: Log-probabilities of the tokens that the policy chose: of the chosen and the rejected response.
Scores = tuple[list[float], list[float]]


def log_probabilities(
    model: Any, pairs: Sequence[TokenPair], batch: int, bf16: bool, kept: Path, title: str
) -> list[Scores]:
    """Per-token log-probabilities of all pairs under `model`, without dropout.

    `batch` pairs are computed together. What the file `kept` holds is not computed again; each
    process of a distributed run keeps its own share beside it.
    """
    state = PartialState()
    kept.parent.mkdir(parents=True, exist_ok=True)
    own = kept_file(kept)
    found = dict(_read(own))
    count = -(-len(pairs) // batch)
    groups = range(state.process_index, count, state.num_processes)
    missing = [number for number in groups if number not in found]
    most = max(gather_object([len(missing)]))
    total = min(len(pairs), len(groups) * batch)
    with (
        own.open("a", encoding="utf-8") as file,
        _evaluating(model, bf16),
        bar(title, total, "pair") as moved,
    ):
        moved.update(max(0, total - len(missing) * batch))
        for number in missing:
            group = pairs[number * batch : (number + 1) * batch]
            found[number] = _score(model, group)
            file.write(json.dumps([number, found[number]]) + "\n")
            file.flush()
            moved.update(len(group))
        for _ in range(most - len(missing)):
            _score(model, pairs[:1])  # others still compute, for which sharded weights need us
    everything = dict(gather_object([(number, found[number]) for number in groups]))
    return [scores for number in sorted(everything) for scores in everything[number]]


def kept_file(kept: Path) -> Path:
    """Where this process keeps its share of the scores `kept`."""
    return kept.with_name(f"{kept.name}-{PartialState().process_index}.jsonl")


def _read(path: Path) -> Iterator[tuple[int, list[Scores]]]:
    """The batches in a file, up to a line that a killed process left unfinished."""
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                number, scores = json.loads(line)
                yield number, scores


@contextlib.contextmanager
def _evaluating(model: Any, bf16: bool) -> Iterator[None]:
    training = model.training
    model.eval()
    kind = model.device.type
    try:
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=bf16):
            yield
    finally:
        model.train(training)


def _score(model: Any, pairs: Sequence[TokenPair]) -> list[Scores]:
    batch = collate([pair.example() for pair in pairs], 0)
    rows = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
    mask = batch["completion_mask"]
    labels = batch["input_ids"].masked_fill(mask == 0, -100).to(model.device)
    found = Packed(model)(**rows, labels=labels).log_probs.float().cpu()
    tokens = [row[chosen].tolist() for row, chosen in zip(found, mask[:, 1:].bool(), strict=True)]
    return list(zip(tokens[: len(pairs)], tokens[len(pairs) :], strict=True))
