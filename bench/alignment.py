"""Alignment against TRL's own trainer: `python -m bench.alignment`, JSON on stdout.

Real MovieLens pairs (prompts of 300 to 450 tokens, cards of about 100), SmolLM2, a LoRA of rank 8
on all projections. Three trainers, each in a process of its own, one after the other: this
project's (bf16, batches of two, the reference scored once for three epochs, its time counted), and
TRL's DPOTrainer with its defaults in fp32 and in bf16. `--quick` takes one pair. `--llm llama-1b`
is a randomly initialised llama of 1.1B parameters over SmolLM2's pairs, for a GPU. `--part
attention` compares the blocks of `rec.align.attention` with torch's fused kernel, `--part profile`
prints the profiler's top entries of a packed step.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from bench.measure import measured, peak_flops, peak_megabytes, print_figures
from bench.models import ROOT, WORK, imported
from bench.pairs import real_pairs

EPOCHS = 3
PARTS: dict[str, Callable[[str, int, int], dict[str, Any]]] = {}
RANDOM = {  # about Llama-3.2-1B, with SmolLM2's vocabulary
    "llama-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
}
OF_PAIRS = "smollm2-135m"


def part(function: Callable[[str, int, int], dict[str, Any]]) -> Any:
    """Register a part of the bench, which runs in a process of its own."""
    PARTS[function.__name__] = function
    return function


def folder(llm: str) -> Path:
    """The Hugging Face folder of a model of conf/llm, or of a random one."""
    if llm not in RANDOM:
        return imported(llm).hf
    target = WORK / llm
    if not target.is_dir():
        _random_model(target, llm)
    return target


def _random_model(target: Path, llm: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from rec.files import atomic_path

    torch.manual_seed(0)
    source = imported(OF_PAIRS).hf
    config = AutoConfig.from_pretrained(source, local_files_only=True)
    config.update({**RANDOM[llm], "head_dim": 64})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with atomic_path(target) as place:
        model.save_pretrained(place)
        AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(place)


def pairs_of(llm: str, count: int) -> list[Any]:
    """Real pairs in the model's tokens."""
    return real_pairs(imported(OF_PAIRS if llm in RANDOM else llm), count)


def settings() -> Any:
    """The alignment of params.yaml with the paper's epochs and all projections."""
    from rec.config import PROJECTIONS, Guards
    from rec.params import load_params

    return replace(
        load_params(ROOT / "params.yaml").align,
        loss="sigmoid",
        epochs=EPOCHS,
        batch_size=2,
        gradient_accumulation=1,
        target_modules=list(PROJECTIONS),
        precision="bf16",
        guards=Guards(),
    )


def synchronise() -> None:
    """Wait for the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def timed_steps(trainer: Any) -> Iterator[list[float]]:
    """Seconds of each of the trainer's steps, optimiser included."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            synchronise()
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronise()
            seconds.append(time.perf_counter() - self.started)

    seconds: list[float] = []
    trainer.add_callback(Clock())
    yield seconds


def memory() -> float:
    """Most megabytes held: of the GPU where there is one, else of the process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_megabytes()


@part
def packed(llm: str, count: int, batch: int) -> dict[str, Any]:
    """This project's trainer: reference once, then EPOCHS epochs."""
    from rec.align import training
    from rec.align.policy import load_policy
    from rec.align.reference import log_probabilities
    from rec.machine import use_threads

    use_threads(None)
    pairs, chosen = pairs_of(llm, count), replace(settings(), batch_size=batch)
    with tempfile.TemporaryDirectory() as work:
        model = load_policy(folder(llm), None, chosen, 1)
        log_probabilities(model, pairs[:1], 1, True, Path(work) / "first", "first")
        synchronise()
        started = time.perf_counter()
        scores = log_probabilities(model, pairs, batch, True, Path(work) / "all", "reference")
        synchronise()
        reference = time.perf_counter() - started
        trainer = training.make_trainer(model, pairs, scores, folder(llm), chosen, 1, Path(work))
        with timed_steps(trainer) as seconds:
            trainer.train()
        flops = step_flops(model, pairs)
    first, rest = seconds[0], seconds[1:]
    step = sum(rest) / len(rest) if rest else first
    per_pair = step / batch + reference / len(pairs) / EPOCHS
    return {
        "pairs_per_s": 1 / per_pair,
        "step_pairs_per_s": batch / step,
        "reference_pairs_per_s": len(pairs) / reference,
        "peak_mb": memory(),
        "flops_per_pair": flops,
        "step_seconds_per_pair": step / batch,
        "mean_prompt": sum(len(pair.prompt) for pair in pairs) / len(pairs),
        "mean_response": sum(len(p.chosen) + len(p.rejected) for p in pairs) / len(pairs) / 2,
    }


def step_flops(model: Any, pairs: list[Any]) -> float:
    """Operations that a packed step needs for a pair, of products alone.

    Of a frozen weight the forward product and the gradient to its input, of a LoRA's its own
    gradient too; the LM head for tokens that count; attention over the tokens that each one sees.
    """
    from rec.align.collation import collate
    from rec.align.packing import pack

    config = model.config
    matrices = {n: p.numel() for n, p in model.named_parameters() if p.ndim == 2}
    lora = sum(size for name, size in matrices.items() if "lora_" in name)
    head = config.vocab_size * config.hidden_size
    body = sum(matrices.values()) - lora - head * (1 if config.tie_word_embeddings else 2)
    width = 2 * 2 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
    total = 0.0
    for pair in pairs:
        batch = collate([pair.example()], 0)
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        packing = pack(batch["input_ids"], batch["attention_mask"], labels)
        (s,) = packing.segments
        seen = sum(range(1, s.shared + 1)) + sum(
            s.shared + n for own in (s.chosen, s.rejected) for n in range(1, own + 1)
        )
        total += s.length * (4 * body + 6 * lora) + 4 * head * len(packing.labels)
        total += 3 * width * seen
    return total / len(pairs)


def stock(llm: str, count: int, batch: int, *, bf16: bool) -> dict[str, Any]:
    """TRL's DPOTrainer with its defaults, over the same token ids."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from rec.machine import device, use_threads

    class OverTokens(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    use_threads(None)
    pairs, chosen = pairs_of(llm, count), settings()
    keys = ("prompt_ids", "chosen_ids", "rejected_ids")
    examples = [{key: pair.example()[key] for key in keys} for pair in pairs]
    dtype = torch.bfloat16 if bf16 else torch.float32
    with tempfile.TemporaryDirectory() as work:
        trainer = OverTokens(
            model=AutoModelForCausalLM.from_pretrained(folder(llm), dtype=dtype).to(device()),
            args=DPOConfig(
                output_dir=work,
                bf16=bf16,
                use_cpu=device() == "cpu",
                per_device_train_batch_size=batch,
                num_train_epochs=1,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(examples),
            processing_class=AutoTokenizer.from_pretrained(folder(llm)),
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=chosen.rank,
                lora_alpha=chosen.alpha,
                target_modules=chosen.target_modules,
            ),
        )
        with timed_steps(trainer) as seconds:
            trainer.train()
    measured_steps = seconds[1:] or seconds
    return {
        "pairs_per_s": batch * len(measured_steps) / sum(measured_steps),
        "peak_mb": memory(),
    }


@part
def stock_fp32(llm: str, count: int, batch: int) -> dict[str, Any]:
    """TRL's trainer in fp32."""
    return stock(llm, count, batch, bf16=False)


@part
def stock_bf16(llm: str, count: int, batch: int) -> dict[str, Any]:
    """TRL's trainer in bf16, the base's weights too."""
    return stock(llm, count, batch, bf16=True)


@part
def attention(llm: str, count: int, batch: int) -> dict[str, Any]:
    """Milliseconds of attention of one layer, forward and backward, for a pair of 570 tokens."""
    import torch

    from rec.align import attention as ours
    from rec.align.packing import Segment
    from rec.machine import device, use_threads

    use_threads(None)
    segments = (Segment(0, 370, 100, 100),)
    shapes = ((1, heads, segments[0].length, 64) for heads in (9, 3, 3))
    tensors = [
        torch.randn(*shape, device=device(), dtype=torch.bfloat16, requires_grad=True)
        for shape in shapes
    ]
    layout, figures = ours.Layout(segments), {}
    for name in ("_in_blocks", "_fused"):
        inputs = [t[0] for t in tensors] if name == "_in_blocks" else tensors
        times = []
        for _ in range(25):
            synchronise()
            started = time.perf_counter()
            getattr(ours, name)(*inputs, layout, 0.125, 0.0).sum().backward()
            synchronise()
            times.append(time.perf_counter() - started)
        figures[f"{name.removeprefix('_')}_ms"] = sorted(times)[len(times) // 2] * 1e3
    return {**figures, "ratio_blocks": figures["fused_ms"] / figures["in_blocks_ms"]}


@part
def profile(llm: str, count: int, batch: int) -> dict[str, Any]:
    """The profiler's top entries of one packed step: name, share of the time, calls."""
    import torch

    from rec.align import training
    from rec.align.policy import load_policy
    from rec.align.reference import log_probabilities
    from rec.machine import use_threads

    use_threads(None)
    pairs, chosen = pairs_of(llm, count), replace(settings(), batch_size=batch, epochs=1)
    with tempfile.TemporaryDirectory() as work:
        model = load_policy(folder(llm), None, chosen, 1)
        scores = log_probabilities(model, pairs, batch, True, Path(work) / "all", "reference")
        trainer = training.make_trainer(model, pairs, scores, folder(llm), chosen, 1, Path(work))
        with torch.profiler.profile() as profiler:
            trainer.train()
    kind = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    entries = sorted(profiler.key_averages(), key=lambda entry: -float(getattr(entry, kind)))
    total = sum(float(getattr(entry, kind)) for entry in entries)
    return {
        entry.key: [round(float(getattr(entry, kind)) / total, 3), entry.count]
        for entry in entries[:12]
    }


@click.command()
@click.option("--llm", default="smollm2-135m", show_default=True, help="A name in conf/llm.")
@click.option("--quick", is_flag=True, help="One pair.")
@click.option("--pairs", "count", default=16, show_default=True, help="Pairs of each part.")
@click.option("--batch", default=0, help="Pairs computed together; 0: 2, and TRL's default of 8.")
@click.option("--part", "name", type=click.Choice(list(PARTS)), help="This part alone.")
def main(llm: str, quick: bool, count: int, batch: int, name: str | None) -> None:
    """Print the figures of alignment as JSON."""
    if name:
        print(json.dumps(PARTS[name](llm, count, batch or 2)))
        return
    count = 1 if quick else count
    pairs_of(llm, count)
    ours, theirs = (1, 1) if quick else (batch or 2, batch or 8)
    options = {"llm": llm, "pairs": count}
    own = measured("bench.alignment", "packed", **options, batch=ours)
    fp32 = measured("bench.alignment", "stock_fp32", **options, batch=theirs)
    bf16 = measured("bench.alignment", "stock_bf16", **options, batch=theirs)
    peak = peak_flops()
    rate = own["pairs_per_s"]
    print_figures(
        {
            "llm": llm,
            "pairs": count,
            "mean_prompt_tokens": own["mean_prompt"],
            "mean_response_tokens": own["mean_response"],
            "pairs_per_s": rate,
            "step_pairs_per_s": own["step_pairs_per_s"],
            "reference_pairs_per_s": own["reference_pairs_per_s"],
            "stock_fp32_pairs_per_s": fp32["pairs_per_s"],
            "ratio_stock_fp32": rate / fp32["pairs_per_s"],
            "stock_bf16_pairs_per_s": bf16["pairs_per_s"],
            "ratio_stock_bf16": rate / bf16["pairs_per_s"],
            "stock_batch": theirs,
            "peak_mb": own["peak_mb"],
            "peak_rss_ratio": own["peak_mb"] / min(fp32["peak_mb"], bf16["peak_mb"]),
            "gflop_per_pair": own["flops_per_pair"] / 1e9,
            "limit_gflops": peak / 1e9,
            "limit_fraction": own["flops_per_pair"] / own["step_seconds_per_pair"] / peak,
        }
    )


if __name__ == "__main__":
    main()
