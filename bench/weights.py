"""Which type of weights is fastest: `python -m bench.weights`, JSON on stdout.

Rewrites the published GGUF in each 16-bit type (and in F32 and Q8_0, for comparison) and measures
prompt processing and decoding of many sequences by llama.cpp, and how far the values moved from
the published ones. `--quick` takes fewer steps.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import gguf
import llama_cpp
import numpy as np

from bench.models import WORK, imported, prompts
from bench.sampling import step_seconds
from rec.files import atomic_path
from rec.llm.context import Context
from rec.llm.model import Model
from rec.llm.weights import TYPES, rewrite
from rec.machine import cores

ALL_TYPES = {
    **TYPES,
    "f32": (llama_cpp.LLAMA_FTYPE_ALL_F32, 0),
    "q8_0": (llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, 8),
}
PLACES = 48


def rewritten(source: Path, kind: str) -> Path:
    """The GGUF in another type."""
    target = WORK / "weights" / f"{source.parent.parent.name}-{kind}.gguf"
    if not target.is_file():
        with atomic_path(target) as partial:
            rewrite(source, partial, *ALL_TYPES[kind], cores())
    return target


def speeds(path: Path, repeats: int) -> dict[str, float]:
    """Tokens per second of prompts, and of `PLACES` sequences decoded together."""
    with Model(path) as model:
        ids = [model.chat(row) for row in prompts(repeats)["messages"]]
        cells = max(map(len, ids)) + 128
        context = Context(model, sequences=PLACES, cells=cells, threads=cores())
        context.extend(0, ids[0], 0)
        started = time.perf_counter()
        for prompt in ids:
            context.drop(0)
            context.extend(0, prompt, 0)
        context.synchronize()
        prefill = sum(map(len, ids)) / (time.perf_counter() - started)
        step = step_seconds(context, PLACES, len(ids[-1]))
        context.close()
    return {"prefill_tokens_per_s": round(prefill), "decode_tokens_per_s": round(PLACES / step)}


def moved(source: Path, path: Path) -> float:
    """Root mean square of the change of the matrices, relative to their own."""
    before = {t.name: t for t in gguf.GGUFReader(source).tensors}
    change = total = 0.0
    for tensor in gguf.GGUFReader(path).tensors:
        old, new = (
            gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64).ravel()
            for t in (before[tensor.name], tensor)
        )
        change += float(((old - new) ** 2).sum())
        total += float((old**2).sum())
    return float(np.sqrt(change / total))


@click.command()
@click.option("--llm", default="smollm2-135m", show_default=True, help="A name in conf/llm.")
@click.option("--quick", is_flag=True, help="Two prompts and no F32.")
def main(llm: str, quick: bool) -> None:
    """Print the speed and the faithfulness of each type as JSON."""
    source = imported(llm).source
    files = {"as published": source}
    files |= {kind: rewritten(source, kind) for kind in ALL_TYPES if not (quick and kind == "f32")}
    figures = {}
    for kind, path in files.items():
        figures[kind] = {
            "megabytes": round(path.stat().st_size / 2**20),
            **speeds(path, 2 if quick else 12),
            "relative_change": float(f"{moved(source, path):.2g}"),
        }
    print(json.dumps({"llm": llm, "types": figures}, indent=2))


if __name__ == "__main__":
    main()
