"""Sampling against its rivals: `python -m bench.sampling`, JSON on stdout.

The same MovieLens prompts (`dvc repro prompts` makes them), N = 10 responses of up to 128 tokens of
free text, by the engine, by a loop over `Llama.create_chat_completion` with the file as published,
and by `generate` of transformers in bf16 with `num_return_sequences`. Each runs in a process of its
own, one after the other. `--quick` takes four prompts for the engine, which draws them together,
and the first of them for the others. `--part scaling` measures the engine at 1 to 64 sequences
instead, `--part cache` a cache of streams against one for all sequences, `--part form` with the
form of a card and without, `--part generator` the backend `transformers` of this project, which a
GPU machine runs beside the others.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click

from bench.measure import measured, peak_flops, peak_megabytes, print_figures
from bench.models import ROOT, imported, prompts

N, TOKENS = 10, 128
CARD_SLOT_TOKENS = 14  # a film card of seven such slots and their labels has about TOKENS tokens
QUICK_ENGINE = 4  # prompts
PARTS: dict[str, Callable[[str, int], dict[str, float]]] = {}


def part(function: Callable[[str, int], dict[str, float]]) -> Callable[[str, int], Any]:
    """Register a part of the bench, which runs in a process of its own."""
    PARTS[function.__name__] = function
    return function


def settings() -> Any:
    """The sampler of params.yaml with N and the length of this bench."""
    from rec.params import load_params

    params = load_params(ROOT / "params.yaml")
    return replace(
        params.sampling,
        backend="llama_cpp",
        deterministic=False,
        responses=N,
        responses_valid=N,
        responses_eval=N,
        text_tokens=TOKENS,
        slot_tokens=CARD_SLOT_TOKENS,
    )


def run_engine(
    llm: str,
    count: int,
    *,
    parallel: int | None = None,
    response: str = "text",
    backend: str = "llama_cpp",
) -> dict[str, float]:
    """Tokens per second of a backend as the stage sample uses it, without loading the model."""
    from rec.config import Machine
    from rec.llm.backends import Policy
    from rec.sampling import sample

    model = imported(llm)
    with tempfile.TemporaryDirectory() as store:
        table, work = sample(
            prompts(count),
            Policy("0", model.gguf, model.hf),
            domain="films",
            response=response,
            settings=replace(settings(), backend=backend),
            context=1024,
            seed=1,
            machine=Machine(parallel_sequences=parallel),
            store=Path(store),
        )
    return {
        "tokens_per_s": work.tokens / work.seconds,
        "tokens": work.tokens,
        "cut_off": int((table["finish_reason"] == "length").sum()),
    }


@part
def engine(llm: str, count: int) -> dict[str, float]:
    """The engine, and its memory against weights and cache."""
    from rec.llm.context import sequence_bytes, sequences_that_fit
    from rec.llm.form import free_text
    from rec.llm.model import Model
    from rec.machine import cores

    path = imported(llm).gguf
    with Model(path) as model:
        form = free_text(model, TOKENS)
        longest = max(len(model.chat(row)) for row in prompts(count)["messages"]) + form.longest
        places = sequences_that_fit(model, longest, cores())
        planned = (path.stat().st_size + (places + 2) * sequence_bytes(model, longest)) / 2**20
    figures = run_engine(llm, count, parallel=places)
    return {
        **figures,
        "peak_rss_mb": peak_megabytes(),
        "planned_mb": planned,
        "parallel": places,
    }


@part
def chat_completion(llm: str, count: int) -> dict[str, float]:
    """One response after the other from the file as published, as most projects do."""
    from llama_cpp import Llama

    from rec.machine import cores

    chosen = settings()
    threads = {"n_threads": cores(), "n_threads_batch": cores()}
    model = Llama(str(imported(llm).source), n_ctx=1024, **threads, verbose=False)
    tokens, started = 0, time.perf_counter()
    for row in prompts(count).iter_rows(named=True):
        for index in range(N):
            answer = model.create_chat_completion(
                row["messages"],
                max_tokens=TOKENS,
                temperature=chosen.temperature,
                top_k=chosen.top_k,
                top_p=chosen.top_p,
                min_p=chosen.min_p,
                repeat_penalty=chosen.repeat_penalty,
                seed=index + 1,
            )
            tokens += answer["usage"]["completion_tokens"]
    return {"tokens_per_s": tokens / (time.perf_counter() - started), "tokens": tokens}


@part
def transformers(llm: str, count: int) -> dict[str, float]:
    """`generate` in bf16, a prompt and its N responses at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    from rec.llm.model import Model
    from rec.machine import cores, device

    chosen = settings()
    torch.set_num_threads(cores())
    torch.manual_seed(1)
    where = imported(llm)
    model = AutoModelForCausalLM.from_pretrained(where.hf, dtype=torch.bfloat16).to(device())
    with Model(where.gguf, vocabulary_only=True) as vocabulary:
        end = vocabulary.eos
        ids = [torch.tensor([vocabulary.chat(row)]) for row in prompts(count)["messages"]]
    tokens, started = 0, time.perf_counter()
    for prompt in ids:
        prompt = prompt.to(device())
        drawn = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            temperature=chosen.temperature,
            top_k=chosen.top_k,
            top_p=chosen.top_p,
            min_p=chosen.min_p,
            repetition_penalty=chosen.repeat_penalty,
            num_return_sequences=N,
            max_new_tokens=TOKENS,
            eos_token_id=end,
            pad_token_id=end,
        )
        written = drawn[:, prompt.shape[1] :]
        tokens += int((written != end).sum())
    return {"tokens_per_s": tokens / (time.perf_counter() - started), "tokens": tokens}


@part
def generator(llm: str, count: int) -> dict[str, float]:
    """This project's backend over transformers."""
    return run_engine(llm, count, backend="transformers")


@part
def limits(llm: str, count: int) -> dict[str, float]:
    """llama.cpp's prompt processing and decoding as fractions of the processor's bf16 peak."""
    from rec.llm.context import Context, sequences_that_fit
    from rec.llm.model import Model
    from rec.machine import cores

    path = imported(llm).gguf
    with Model(path) as model:
        ids = [model.chat(row) for row in prompts(min(count, 8))["messages"]]
        cells = max(map(len, ids)) + TOKENS
        places = sequences_that_fit(model, cells, cores())
        context = Context(model, sequences=places, cells=cells, threads=cores())
        context.extend(0, ids[0], 0)
        started = time.perf_counter()
        for prompt in ids:
            context.drop(0)
            context.extend(0, prompt, 0)
        context.synchronize()
        prefill = sum(map(len, ids)) / (time.perf_counter() - started)
        decode = places / step_seconds(context, places, len(ids[-1]))
        context.close()
    body, head = matrix_parameters(path)
    peak = peak_flops()
    return {
        "prefill_tokens_per_s": prefill,
        "decode_tokens_per_s": decode,
        "prefill": 2 * body * prefill / peak,
        "decode": 2 * (body + head) * decode / peak,
        "peak_gflops": peak / 1e9,
    }


def step_seconds(context: Any, places: int, position: int) -> float:
    """Median seconds of decoding a token of each of `places` sequences after `position`."""
    for place in range(1, places):
        context.copy(0, place)
    times = []
    for step in range(24):
        context.batch.clear()
        for place in range(places):
            context.batch.add([100 + place], position + step, place, wanted=True)
        started = time.perf_counter()
        context.decode()
        context.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def matrix_parameters(path: Path) -> tuple[int, int]:
    """Weights that a token is multiplied with: in the layers, and in the output matrix."""
    import gguf

    sizes = {t.name: int(t.n_elements) for t in gguf.GGUFReader(path).tensors if len(t.shape) == 2}
    embedding = sizes.pop("token_embd.weight")
    head = sizes.pop("output.weight", embedding)
    return sum(sizes.values()), head


@part
def store(llm: str, count: int) -> dict[str, float]:
    """A run of the stage's own function that finds everything: responses per second."""
    from rec import sampling
    from rec.config import Machine
    from rec.llm.backends import Policy

    model = imported(llm)
    table = prompts(10**9)
    instant = patch.object(sampling, "open_backend", lambda *_, **__: Instant())
    with tempfile.TemporaryDirectory() as folder, instant:
        for _ in range(2):
            started = time.perf_counter()
            _, work = sampling.sample(
                table,
                Policy("0", model.gguf, model.hf),
                domain="films",
                response="text",
                settings=replace(
                    settings(), responses=100, responses_valid=100, responses_eval=100
                ),
                context=1024,
                seed=1,
                machine=Machine(),
                store=Path(folder),
            )
            seconds = time.perf_counter() - started
    assert work.found == work.wanted
    return {"hits_per_s": work.found / seconds, "responses": work.found}


class Instant:
    """A backend that writes 100 tokens at once, to fill a store."""

    def __enter__(self) -> Instant:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def generate(self, requests: Iterable[Any]) -> Iterator[Any]:
        """A response to each seed."""
        from rec.llm.request import Response

        for request in requests:
            for sample, seed in request.seeds.items():
                ids = tuple(500 + (seed + 7 * place) % 30_000 for place in range(100))
                yield Response(request.key, sample, seed, len(request.prompt), ids, 0, 1.0)


@part
def scaling(llm: str, count: int) -> dict[str, float]:
    """Tokens per second of the engine by the number of sequences decoded together."""
    return {
        str(parallel): run_engine(llm, 1 if parallel < 4 else count, parallel=parallel)[
            "tokens_per_s"
        ]
        for parallel in (1, 2, 4, 8, 16, 32, 48, 64)
    }


@part
def cache(llm: str, count: int) -> dict[str, float]:
    """Tokens per second with a stream of the cache per sequence and with one for all."""
    from rec.llm.backends import sampler_settings
    from rec.llm.engine import Engine
    from rec.llm.form import free_text
    from rec.llm.model import Model
    from rec.llm.request import Request
    from rec.machine import cores

    figures = {}
    with Model(imported(llm).gguf) as model:
        table = prompts(count)
        wanted = [
            Request(key, tuple(model.chat(messages)), {n: n + 1 for n in range(N)})
            for key, messages in table.select("key", "messages").iter_rows()
        ]
        answer = free_text(model, TOKENS)
        cells = max(len(request.prompt) for request in wanted) + answer.longest
        for unified, parallel in itertools.product((False, True), (10, 20, 48)):
            with Engine(
                model,
                answer,
                sampler_settings(settings()),
                context=cells,
                parallel=parallel,
                threads=cores(),
                unified=unified,
            ) as engine:
                started = time.perf_counter()
                tokens = sum(len(response.token_ids) for response in engine.generate(wanted))
                name = f"{'unified' if unified else 'streams'}_{parallel}"
                figures[name] = tokens / (time.perf_counter() - started)
    return figures


@part
def form(llm: str, count: int) -> dict[str, float]:
    """Tokens per second with the form of a card and without, responses of about equal length."""
    text, card = run_engine(llm, count), run_engine(llm, count, response="card")
    return {
        "text_tokens_per_s": text["tokens_per_s"],
        "card_tokens_per_s": card["tokens_per_s"],
        "ratio_card": card["tokens_per_s"] / text["tokens_per_s"],
        "text_tokens": text["tokens"],
        "card_tokens": card["tokens"],
    }


@click.command()
@click.option("--llm", default="smollm2-135m", show_default=True, help="A name in conf/llm.")
@click.option("--quick", is_flag=True, help="One prompt, four for the engine.")
@click.option("--prompts", "count", default=16, show_default=True, help="Prompts of each part.")
@click.option("--part", type=click.Choice(list(PARTS)), help="This part alone, in this process.")
def main(llm: str, quick: bool, count: int, part: str | None) -> None:
    """Print the figures of sampling as JSON."""
    from rec.machine import device

    count = 1 if quick else count
    if part:
        print(json.dumps(PARTS[part](llm, count)))
        return
    imported(llm)
    names = ["engine", "chat_completion", "transformers", "limits", "store"]
    if device() == "cuda":
        names.append("generator")
    found = {
        name: measured(
            "bench.sampling",
            name,
            llm=llm,
            prompts=QUICK_ENGINE if quick and name == "engine" else count,
        )
        for name in names
    }
    rates = {name: figures.get("tokens_per_s", 0.0) for name, figures in found.items()}
    figures = {
        "llm": llm,
        "prompts": QUICK_ENGINE if quick else count,
        "engine_tokens_per_s": rates["engine"],
        "chat_completion_tokens_per_s": rates["chat_completion"],
        "ratio_chat_completion": rates["engine"] / rates["chat_completion"],
        "transformers_tokens_per_s": rates["transformers"],
        "ratio_transformers": rates["engine"] / rates["transformers"],
        "prefill_tokens_per_s": found["limits"]["prefill_tokens_per_s"],
        "decode_tokens_per_s": found["limits"]["decode_tokens_per_s"],
        "limit_gflops": found["limits"]["peak_gflops"],
        "limit_fraction_prefill": found["limits"]["prefill"],
        "limit_fraction_decode": found["limits"]["decode"],
        "parallel": found["engine"]["parallel"],
        "peak_rss_mb": found["engine"]["peak_rss_mb"],
        "ratio_planned_memory": found["engine"]["peak_rss_mb"] / found["engine"]["planned_mb"],
        "store_hits_per_s": found["store"]["hits_per_s"],
    }
    if "generator" in found:
        figures["generator_tokens_per_s"] = rates["generator"]
    print_figures(figures)


if __name__ == "__main__":
    main()
