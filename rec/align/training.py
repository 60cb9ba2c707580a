"""One round of alignment: from pairs and a policy to the next policy (paper, section 4.3)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset
from transformers import AutoTokenizer, PrinterCallback, set_seed

from rec.align.collation import PairCollator
from rec.align.guards import verdict
from rec.align.heldout import preference_accuracy
from rec.align.memory import checkpoint_activations
from rec.align.pairs import TokenPair, require_fit
from rec.align.policy import WEIGHTS, load_policy, use_bf16
from rec.align.reference import Scores, log_probabilities
from rec.align.trainer import PackedDPOTrainer, arguments
from rec.align.watch import CALMER, Checkpoints, Curve, Progress, Row, curve, last_checkpoint
from rec.config import Align
from rec.errors import RecError
from rec.files import read_json, sha256, write_json
from rec.machine import device

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
    _prepare(work, _inputs(pairs, heldout, base, previous, settings, seed))
    set_seed(seed)
    model = load_policy(base, previous, settings, seed)
    scored = _Reference(model, settings, previous, work)
    reference = scored.of_reference(pairs, "train")
    before = scored.of_start(heldout, "heldout")
    trainer = make_trainer(model, pairs, reference, base, settings, seed, work)
    trainer.add_callback(Curve(live))
    trainer.add_callback(Progress(len(pairs)))
    trainer.add_callback(Checkpoints(checkpoint_seconds))
    checkpoint = last_checkpoint(work)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    rows = curve(trainer.state.log_history)
    _require_finite_weights(model)
    summary = verdict(rows, settings)
    after = scored.of_trained(heldout)
    adapter = work / "adapter"
    trainer.save_model(str(adapter))
    return Alignment(adapter, rows, {**summary, "heldout": preference_accuracy(before, after)})


@dataclass(frozen=True)
class _Reference:
    """Log-probabilities under the policies that a round knows; those before training are kept."""

    model: Any
    settings: Align
    previous: Path | None
    work: Path

    def of_reference(self, pairs: Sequence[TokenPair], name: str) -> list[Scores]:
        """Under the reference: the policy before training, or the base."""
        if self.settings.reference == "base" and self.previous is not None:
            with self.model.disable_adapter():
                return self._scores(pairs, f"reference-{name}")
        return self._scores(pairs, f"reference-{name}")

    def of_start(self, pairs: Sequence[TokenPair], name: str) -> list[Scores]:
        """Under the policy before training."""
        return self._scores(pairs, f"start-{name}")

    def of_trained(self, pairs: Sequence[TokenPair]) -> list[Scores]:
        """Under the policy after training."""
        return self._scores(pairs, "trained")

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
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
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
    return {
        "pairs": hashlib.sha256(texts.encode()).hexdigest(),
        "base": sha256(base / "model.safetensors")
        if (base / "model.safetensors").is_file()
        else "",
        "previous": sha256(previous / WEIGHTS) if previous else None,
        "settings": asdict(settings),
        "seed": seed,
        "bf16": use_bf16(settings),
        "device": device(),
        "processes": PartialState().num_processes,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _prepare(work: Path, inputs: dict[str, Any]) -> None:
    """Empty `work` unless it holds what a run with the same inputs left."""
    if PartialState().is_main_process:
        known = work / "inputs.json"
        if not known.is_file() or read_json(known) != json.loads(json.dumps(inputs)):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            write_json(known, inputs)
    PartialState().wait_for_everyone()


def _require_finite_weights(model: Any) -> None:
    for name, value in model.named_parameters():
        if value.requires_grad and not value.isfinite().all():
            raise RecError(f"align: {name} is no longer finite after the last step; {CALMER}")
