"""One round of alignment: from pairs and a policy to the next policy (paper, section 4.3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import PrinterCallback

from rec.align.collation import PairCollator
from rec.align.guards import verdict
from rec.align.heldout import preference_accuracy
from rec.align.memory import checkpoint_activations
from rec.align.pairs import TokenPair, require_fit
from rec.align.policy import WEIGHTS, load_policy, load_tokenizer, use_bf16
from rec.align.reference import Scores, kept_file, log_probabilities
from rec.align.trainer import PackedDPOTrainer, accumulation, arguments
from rec.align.watch import CALMER, Checkpoints, Curve, Progress, Row, curve, last_checkpoint
from rec.align.work import prepare_work
from rec.config import Align
from rec.errors import RecError
from rec.files import sha256
from rec.machine import device

#: To be raised with a change after which the same inputs train another adapter: what a killed run
#: of before left is then not continued.
VERSION = 1

LIBRARIES = ("accelerate", "peft", "torch", "transformers", "trl")


@dataclass(frozen=True)
class Alignment:
    """How a round went."""

    adapter: Path  # folder inside of `work` that PEFT wrote
    curve: list[Row]  # a row of rec.curves.ALIGNMENT per optimiser step
    summary: dict[str, Any]  # where the curve ended, and accuracy on held-out pairs


def align(
    pairs: Sequence[TokenPair],
    heldout: Sequence[TokenPair],
    *,
    base: Path,
    previous: Path | None,
    live: Path,
    settings: Align,
    seed: int,
    work: Path,
    checkpoint_seconds: float,
) -> Alignment:
    """Train a LoRA over the Hugging Face folder `base`.

    `previous` is the adapter of the round before (None: the base itself), from which the policy
    starts; it or the base is the reference, by `settings.reference`. What a killed run left in
    `work` is continued if it had the same inputs. `live` is DVCLive's folder. In a distributed run
    all processes call this, and the first one writes.

    Raises RecError for no pairs, for a pair that is longer than `settings.max_length`, for a loss
    or a weight that is not finite, and for a policy beyond `settings.guards`.
    """
    require_fit([*pairs, *heldout] if pairs else [], settings.max_length)
    PartialState(cpu=device() == "cpu")
    accumulation(settings)
    model = load_policy(base, previous, settings, seed)
    prepare_work(work, _inputs(pairs, heldout, base, previous, settings, seed))
    scored = _Scored(model, settings, previous, work)
    reference = scored.of_reference(pairs)
    start = scored.start_margin(pairs, reference)
    before = scored.of_start(heldout, "heldout")
    trainer = make_trainer(model, pairs, reference, base, settings, seed, work)
    trainer.add_callback(Curve(live))
    trainer.add_callback(Progress(len(pairs)))
    trainer.add_callback(Checkpoints(checkpoint_seconds))
    checkpoint = last_checkpoint(work)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    rows = curve(trainer.state.log_history)
    _require_finite_weights(model)
    summary = verdict(rows, settings, start)
    after = scored.of_trained(heldout)
    adapter = work / "adapter"
    trainer.save_model(str(adapter))
    return Alignment(adapter, rows, {**summary, "heldout": preference_accuracy(before, after)})


@dataclass(frozen=True)
class _Scored:
    """Log-probabilities under the policies that a round knows; those before training are kept."""

    model: Any
    settings: Align
    previous: Path | None
    work: Path

    @property
    def refers_elsewhere(self) -> bool:
        """Whether the reference is another policy than the one that the round starts from."""
        return self.settings.reference == "base" and self.previous is not None

    def of_reference(self, pairs: Sequence[TokenPair]) -> list[Scores]:
        """Under the reference: the policy before training, or the base."""
        if self.refers_elsewhere:
            with self.model.disable_adapter():
                return self._scores(pairs, "reference")
        return self._scores(pairs, "reference")

    def start_margin(self, pairs: Sequence[TokenPair], reference: Sequence[Scores]) -> float:
        """Mean margin of the pairs before training, in nats."""
        if not self.refers_elsewhere:
            return 0.0
        found = preference_accuracy(reference, self.of_start(pairs, "train"))
        return float(found["mean_margin"])

    def of_start(self, pairs: Sequence[TokenPair], name: str) -> list[Scores]:
        """Under the policy before training."""
        return self._scores(pairs, f"start-{name}")

    def of_trained(self, pairs: Sequence[TokenPair]) -> list[Scores]:
        """Under the policy after training, which are never read again."""
        name = "trained"
        kept_file(self.work / name).unlink(missing_ok=True)
        return self._scores(pairs, name)

    def _scores(self, pairs: Sequence[TokenPair], name: str) -> list[Scores]:
        batch, bf16 = self.settings.batch_size, use_bf16(self.settings)
        return log_probabilities(self.model, pairs, batch, bf16, self.work / name, name)


def make_trainer(
    model: Any,
    pairs: Sequence[TokenPair],
    reference: Sequence[Scores],
    base: Path,
    settings: Align,
    seed: int,
    work: Path,
) -> PackedDPOTrainer:
    """The trainer of a round, from the pairs and their scores under the reference."""
    tokenizer = load_tokenizer(base)
    examples = [
        {**pair.example(), "ref_chosen": chosen, "ref_rejected": rejected, "length": pair.longest}
        for pair, (chosen, rejected) in zip(pairs, reference, strict=True)
    ]
    checkpointing = checkpoint_activations(model.config, pairs, settings)
    trainer = PackedDPOTrainer(
        model=model,
        args=arguments(settings, seed, work, checkpointing),
        train_dataset=Dataset.from_list(examples),
        data_collator=PairCollator(pad_token_id=_padding(tokenizer)),
        processing_class=tokenizer,
    )
    trainer.by_length = settings.group_by_length
    model.delete_adapter("ref")  # TRL's copy of the start, whose scores are known by now
    trainer.remove_callback(PrinterCallback)
    return trainer


def _padding(tokenizer: Any) -> int:
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def _inputs(
    pairs: Sequence[TokenPair],
    heldout: Sequence[TokenPair],
    base: Path,
    previous: Path | None,
    settings: Align,
    seed: int,
) -> dict[str, Any]:
    """What a run depends on; the work of another is of no use to it."""
    texts = json.dumps([[pair.example() for pair in side] for side in (pairs, heldout)])
    files = [base / "config.json", *sorted(base.glob("*.safetensors"))]
    return {
        "version": VERSION,
        "pairs": hashlib.sha256(texts.encode()).hexdigest(),
        "base": [sha256(path) for path in files],
        "previous": sha256(previous / WEIGHTS) if previous else None,
        "settings": {k: v for k, v in asdict(settings).items() if k != "guards"},
        "seed": seed,
        "bf16": use_bf16(settings),
        "device": device(),
        "processes": PartialState().num_processes,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _require_finite_weights(model: Any) -> None:
    for name, value in model.named_parameters():
        if value.requires_grad and not value.isfinite().all():
            raise RecError(f"align: {name} is no longer finite after the last step; {CALMER}")
