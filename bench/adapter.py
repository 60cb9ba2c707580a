"""Whether an adapter does the same in both runtimes: `python -m bench.adapter`, JSON on stdout.

Real prompts, transformers in fp32 over the Hugging Face folder against llama.cpp over the working
GGUF, as the engine runs it. The adapter is a folder of PEFT's (`--adapter`, a policy's for
example) or a LoRA of all projections that a few steps on other real prompts train here. Its
changes of logits are compared after each prompt and along the greedy continuation of 16 tokens
that transformers takes, over the whole vocabulary, less each position's mean, which no
probability sees. `greedy` has the share of those tokens before llama.cpp takes another one
(`until_first_difference`) and of all that it would take (`step_by_step`), `greedy_base` the same
without the adapter.

llama.cpp rounds activations to the type of the weights before each product, so that the logits of
the two differ without any adapter (`difference_of_bases`). A change that is not well above that
is lost in it, and the correlation is low while the slope is near 1. `--scale` makes the adapter
larger or smaller; `--f32` takes the same weights as F32, so that only the cache of keys and
values is rounded. `--quick` takes six prompts and sixteen steps.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import click

from bench.models import ROOT, WORK, Imported, imported, prompts
from bench.weights import ALL_TYPES
from rec.files import atomic_path
from rec.llm.adapter import PROJECTIONS, export_adapter
from rec.llm.model import Model
from rec.llm.weights import rewrite
from rec.machine import cores, fast_bf16, use_threads
from tests.llm.runtimes import check

COMPARED = 64
RATE = 2e-4


def pipeline_or(llm: str | None) -> Imported:
    """What the pipeline imported, unless a model is named or there is no such thing."""
    folder = ROOT / "data" / "llm"
    if llm is None and (folder / "hf").is_dir():
        return Imported(folder, folder)
    return imported(llm or "smollm2-135m")


def as_f32(model: Imported) -> Path:
    """The working GGUF with its values as F32."""
    target = WORK / "weights" / f"{model.folder.parent.name}-working-f32.gguf"
    with atomic_path(target) as partial:
        rewrite(model.gguf, partial, *ALL_TYPES["f32"], cores())
    return target


def train(model: Imported, texts: list[list[int]], steps: int, folder: Path) -> None:
    """Save a LoRA that learned to predict the texts, one in each step."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    kind = torch.bfloat16 if fast_bf16() else torch.float32
    base = AutoModelForCausalLM.from_pretrained(model.hf, dtype=kind, local_files_only=True)
    settings = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=[*PROJECTIONS])
    peft = get_peft_model(base, settings)
    optimiser = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], RATE)
    for step in range(steps):
        ids = torch.tensor([texts[step % len(texts)]])
        peft(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    peft.save_pretrained(folder)


def prepared(model: Imported, adapter: Path | None, steps: int, folder: Path) -> None:
    """Make `folder` one with an adapter of both runtimes: the given one, or a trained one."""
    if adapter:
        shutil.copytree(adapter, folder)
    else:
        with Model(model.gguf, vocabulary_only=True) as vocabulary:
            others = prompts(COMPARED + steps)["messages"][COMPARED:]
            texts = [vocabulary.chat(messages) for messages in others]
        train(model, texts, steps, folder)
    if not (folder / "adapter.gguf").is_file():
        export_adapter(folder, model.hf, folder / "adapter.gguf")


@click.command()
@click.option("--llm", help="A name in conf/llm; without it, the model of the pipeline's data/llm.")
@click.option(
    "--adapter",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of PEFT's, such as data/policy/1; without it, one is trained here.",
)
@click.option("--scale", "scales", type=float, multiple=True, default=(1.0,), show_default=True)
@click.option("--f32", is_flag=True, help="The working GGUF's values as F32.")
@click.option("--prompts", "count", default=COMPARED, show_default=True)
@click.option("--steps", default=32, show_default=True, help="Of the training.")
@click.option("--quick", is_flag=True, help="Six prompts and sixteen steps.")
def main(
    llm: str | None,
    adapter: Path | None,
    scales: tuple[float, ...],
    f32: bool,
    count: int,
    steps: int,
    quick: bool,
) -> None:
    """Print how far the adapter's effect in llama.cpp is from that in PEFT."""
    use_threads(None)
    model = pipeline_or(llm)
    count, steps = (6, 16) if quick else (count, steps)
    gguf = as_f32(model) if f32 else model.gguf
    read = prompts(count)["messages"].to_list()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "adapter"
        prepared(model, adapter, steps, folder)
        figures = [{"scale": s, **check(gguf, model.hf, folder, read, s)} for s in scales]
    source = str(adapter) if adapter else f"trained here, {steps} steps"
    print(json.dumps({"gguf": str(gguf), "adapter": source, "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
