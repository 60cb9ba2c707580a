"""rec.llm.engine: every response is its own prompt's and seed's, whatever runs beside it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, islice, takewhile
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from rec.errors import RecError
from rec.llm.adapter import export_adapter
from rec.llm.engine import Engine, common_prefix
from rec.llm.form import Form, TokenSlot, by_policy, free_text
from rec.llm.model import Model
from rec.llm.request import Request
from rec.llm.sampler import SamplerSettings
from rec.seeds import derive_seed
from tests.llm.drawing import (
    Drawn,
    Options,
    draw,
    greedy,
    make_form,
    open_engine,
    prompts,
    requests,
    slots,
)
from tests.llm.test_adapter import save_lora
from tests.llm.tiny import Tiny, hf_logits, load_hf, make_model, write_gguf

ROOT = Path(__file__).parents[2]
GREEDY = Options(card=False, limit=10, temperature=0.0)


def texts(drawn: Drawn) -> dict[tuple[str, int], tuple[int, ...]]:
    return {name: response.token_ids for name, response in drawn.items()}


def check_greedy(tiny: Tiny, wanted: Sequence[Request], options: Options) -> None:
    """Each response begins with what transformers writes; most of it is compared."""
    hf = load_hf(tiny.hf)
    drawn = draw(tiny.gguf, wanted, options)
    assert len(drawn) == sum(len(request.seeds) for request in wanted)
    with Model(tiny.gguf, vocabulary_only=True) as model:
        form = make_form(model, options)
    compared = total = 0
    for request in wanted:
        expected = greedy(hf, request.prompt, form, options.repeat_penalty)
        for sample in range(len(request.seeds)):
            ids = list(drawn[request.key, sample].token_ids)
            assert ids[: len(expected)] == expected
            compared += len(expected)
            total += len(ids)
    assert compared > 0.6 * total


@pytest.mark.parametrize("shared", [0, 60])
def test_greedy_text_is_that_of_transformers(tiny: Tiny, shared: int) -> None:
    check_greedy(tiny, requests(6, 2, shared=shared), replace(GREEDY, parallel=4))


def test_greedy_card_is_that_of_transformers(tiny_llama: Tiny) -> None:
    options = Options(temperature=0.0, limit=5, parallel=3)
    check_greedy(tiny_llama, requests(4, 1, shared=20), options)


def test_more_seeds_than_sequences(tiny_llama: Tiny) -> None:
    check_greedy(tiny_llama, requests(8, 7), replace(GREEDY, parallel=3))


def unrestricted(model: Model, limit: int) -> Form:
    """Free text in which any token may stand anywhere, as `Llama` writes."""
    return Form((TokenSlot((), limit),), model.eos, (), ())


@pytest.mark.parametrize("threads", [1, 2])
def test_greedy_text_is_that_of_llama_one_by_one(tiny: Tiny, threads: int) -> None:
    wanted = requests(9, 3, shared=25)
    single = llama_cpp.Llama(str(tiny.gguf), n_ctx=256, n_threads=1, verbose=False)
    sampler = SamplerSettings(0.0, 0, 1.0, 0.0, 1.0)
    with (
        Model(tiny.gguf) as model,
        Engine(
            model, unrestricted(model, 12), sampler, context=256, parallel=5, threads=threads
        ) as engine,
    ):
        drawn = {(r.key, r.sample): list(r.token_ids) for r in engine.generate(wanted)}
        for request in wanted:
            single.reset()
            stream = single.generate(list(request.prompt), temp=0.0, repeat_penalty=1.0)
            expected = list(takewhile(lambda token: token != model.eos, islice(stream, 12)))
            for sample in request.seeds:
                assert drawn[request.key, sample] == expected
    single.close()


@pytest.mark.parametrize(
    "settings",
    [
        SamplerSettings(1.0, 0, 1.0, 0.0, 1.0),
        SamplerSettings(0.6, 0, 1.0, 0.05, 1.0),
        SamplerSettings(1.3, 40, 0.9, 0.0, 1.0),
    ],
)
def test_tokens_follow_the_distribution_of_the_model(
    tiny_llama: Tiny, settings: SamplerSettings
) -> None:
    """Chi-square of 6,000 first tokens against the softmax of transformers' logits."""
    (prompt,) = prompts(1)
    wanted = [Request("user:0", prompt, {n: derive_seed("chi", n) for n in range(6000)})]
    with (
        Model(tiny_llama.gguf) as model,
        Engine(
            model, unrestricted(model, 1), settings, context=256, parallel=64, threads=2
        ) as engine,
    ):
        first = [(*r.token_ids, model.eos)[0] for r in engine.generate(wanted)]
    probabilities = truncated(hf_logits(load_hf(tiny_llama.hf), list(prompt))[-1], settings)
    counts = np.bincount(first, minlength=len(probabilities))
    assert not counts[probabilities == 0].any()
    expected = probabilities * len(first)
    common = expected >= 5
    pairs = [*zip(counts[common], expected[common], strict=True)]
    pairs.append((counts[~common].sum(), expected[~common].sum()))
    statistic = sum((seen - awaited) ** 2 / awaited for seen, awaited in pairs if awaited > 0)
    freedom = len(pairs) - 1
    assert freedom > 5
    assert statistic < freedom + 3.5 * (2 * freedom) ** 0.5


def truncated(logits: np.ndarray[Any, Any], settings: SamplerSettings) -> np.ndarray[Any, Any]:
    """Top-k, top-p and min-p at temperature 1, then the temperature: llama.cpp's order."""
    order = np.argsort(-logits)
    scores = np.full(len(logits), -np.inf)
    kept = order[: settings.top_k or None]
    share = np.exp(logits[kept] - logits[kept].max())
    share /= share.sum()
    kept = kept[: int(np.searchsorted(np.cumsum(share), settings.top_p) + 1)]
    kept = kept[np.exp(logits[kept] - logits[kept].max()) >= settings.min_p]
    scores[kept] = logits[kept] / settings.temperature
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


def test_a_cache_that_is_full_makes_the_engine_draw_fewer_together(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared cache of too few cells: llama.cpp finds no room, and all is drawn all the same."""
    wanted = [Request(f"user:{i}", (i + 1,) * 60, {n: n + 1 for n in range(4)}) for i in range(5)]
    options = replace(GREEDY, limit=24, parallel=16)
    expected = texts(draw(tiny_llama.gguf, wanted, options))
    make = llama_cpp.llama_init_from_model

    def cramped(model: Any, options: Any) -> Any:
        options.n_ctx = 256
        return make(model, options)

    monkeypatch.setattr(llama_cpp, "llama_init_from_model", cramped)
    with open_engine(tiny_llama.gguf, replace(options, unified=True)) as engine:
        drawn = {(r.key, r.sample): r.token_ids for r in engine.generate(wanted)}
        assert engine.places < 16
    assert drawn == expected


def test_a_prompt_without_room_waits_for_a_response_to_end(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [Request(f"user:{i}", (i + 1,) * 125, {0: 1}) for i in range(3)]
    options = replace(GREEDY, limit=20, parallel=2)
    expected = texts(draw(tiny_llama.gguf, wanted, options))
    make = llama_cpp.llama_init_from_model

    def cramped(model: Any, options: Any) -> Any:
        options.n_ctx = 256
        return make(model, options)

    monkeypatch.setattr(llama_cpp, "llama_init_from_model", cramped)
    assert texts(draw(tiny_llama.gguf, wanted, replace(options, unified=True))) == expected


def test_a_cache_without_room_for_one_response(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = llama_cpp.llama_init_from_model

    def cramped(model: Any, options: Any) -> Any:
        options.n_ctx = 256
        return make(model, options)

    monkeypatch.setattr(llama_cpp, "llama_init_from_model", cramped)
    options = replace(GREEDY, context=512, unified=True)
    with pytest.raises(RecError, match="no room for a single response"):
        draw(tiny_llama.gguf, [Request("user:0", (1,) * 300, {0: 1})], options)


def test_too_little_memory_makes_the_engine_draw_fewer_together(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = llama_cpp.llama_init_from_model

    def poor(model: Any, options: Any) -> Any:
        return make(model, options) if options.n_seq_max <= 6 else None

    monkeypatch.setattr(llama_cpp, "llama_init_from_model", poor)
    with open_engine(tiny_llama.gguf, Options(parallel=16)) as engine:
        assert engine.places == 4
        assert len(list(engine.generate(requests(3, 4)))) == 12


def test_base_and_adapter_from_one_model(tiny_llama: Tiny, tmp_path: Path) -> None:
    """Two engines over the same weights in one process: each has its own policy."""
    save_lora(tiny_llama, tmp_path)
    export_adapter(tmp_path, tiny_llama.hf, tmp_path / "a.gguf")
    wanted = requests(4, 2, shared=8)
    apart = [
        texts(draw(tiny_llama.gguf, wanted, replace(GREEDY, adapter=adapter)))
        for adapter in (None, tmp_path / "a.gguf")
    ]
    sampler = SamplerSettings(0.0, 0, 1.0, 0.0, 1.0)
    with Model(tiny_llama.gguf) as model:
        form = free_text(model, GREEDY.limit)
        with (
            Engine(model, form, sampler, context=256, parallel=8, threads=1) as base,
            Engine(
                model,
                form,
                sampler,
                context=256,
                parallel=8,
                threads=1,
                adapter=tmp_path / "a.gguf",
            ) as aligned,
        ):
            running = [base.generate(wanted), aligned.generate(wanted)]
            both = [{(r.key, r.sample): r.token_ids for r in engine_run} for engine_run in running]
    assert both == apart
    assert apart[0] != apart[1]


def test_seconds_of_a_response(tiny_llama: Tiny) -> None:
    started = time.perf_counter()
    drawn = draw(tiny_llama.gguf, requests(3, 3), GREEDY)
    passed = time.perf_counter() - started
    assert all(0 < response.seconds <= passed for response in drawn.values())


def test_seconds_of_a_response_leave_out_the_ones_before_it(tiny_llama: Tiny) -> None:
    started = time.perf_counter()
    drawn = draw(tiny_llama.gguf, requests(1, 12), replace(GREEDY, limit=30, deterministic=True))
    passed = time.perf_counter() - started
    assert sum(response.seconds for response in drawn.values()) <= passed


def test_more_responses_of_a_prompt_than_places(tiny_llama: Tiny) -> None:
    check_greedy(tiny_llama, requests(4, 5, shared=30), replace(GREEDY, parallel=4))
    drawn = draw(tiny_llama.gguf, requests(4, 9), Options(parallel=4))
    seeds = {name: response.seed for name, response in drawn.items()}
    assert seeds == {(f"user:{i}", n): 1 + 100 * i + n for i in range(4) for n in range(9)}


def test_some_samples_of_a_prompt(tiny_llama: Tiny) -> None:
    """What the store lacks: any of a prompt's samples, under their own numbers."""
    (whole,) = requests(1, 6)
    part = replace(whole, seeds={index: whole.seeds[index] for index in (1, 4)})
    options = Options(deterministic=True)
    every = texts(draw(tiny_llama.gguf, [whole], options))
    assert texts(draw(tiny_llama.gguf, [part], options)) == {
        name: ids for name, ids in every.items() if name[1] in (1, 4)
    }


def test_penalty_counts_every_token(tiny_llama: Tiny) -> None:
    options = replace(GREEDY, repeat_penalty=3.0, limit=14)
    check_greedy(tiny_llama, requests(12, 1), options)


def test_requests_may_share_a_key(tiny_llama: Tiny) -> None:
    first, second = requests(2, 3)
    twin = Request(first.key, second.prompt, {3 + n: seed for n, seed in second.seeds.items()})
    drawn = draw(tiny_llama.gguf, [first, twin], replace(GREEDY, limit=24))
    apart = draw(tiny_llama.gguf, [first, second], replace(GREEDY, limit=24))
    for sample in range(3):
        assert drawn[first.key, sample].token_ids == apart[first.key, sample].token_ids
        assert drawn[first.key, 3 + sample].token_ids == apart[second.key, sample].token_ids


def test_form_of_every_response(tiny: Tiny) -> None:
    options = Options(limit=5, parallel=6)
    drawn = draw(tiny.gguf, requests(8, 4, shared=15), options)
    assert len(drawn) == 32
    with Model(tiny.gguf, vocabulary_only=True) as model:
        form = make_form(model, options)
        assert [slot.limit for slot in form.slots] == [5] * 7
        for response in drawn.values():
            filled = slots(form, response.token_ids)
            limits = [slot.limit for slot in form.slots]
            assert all(0 < len(one) <= limit for one, limit in zip(filled, limits, strict=True))
            assert response.cut_slots == sum(
                len(one) == limit for one, limit in zip(filled, limits, strict=True)
            )
            ids, chosen = by_policy(form, response.token_ids)
            assert sum(chosen) == sum(map(len, filled)) + len(filled) - response.cut_slots
            assert len(ids) == len(chosen)
            assert all(model.is_text(token) for token in response.token_ids)
            assert all(model.detokenize(one[:1]).strip() for one in filled)
            lines = model.detokenize(response.token_ids).split("\n")
            assert [line.split(":")[0] for line in lines] == [
                model.detokenize(slot.label)[:-1] for slot in form.slots
            ]


def test_text_ends_or_is_cut(tiny_llama: Tiny) -> None:
    drawn = draw(tiny_llama.gguf, requests(10, 4), Options(card=False, limit=8, temperature=0.7))
    lengths = {len(response.token_ids) for response in drawn.values()}
    assert max(lengths) == 8 and min(lengths) < 8
    for response in drawn.values():
        assert response.cut_slots == (len(response.token_ids) == 8)
        assert response.prompt_tokens == len(prompts(10)[int(response.key.split(":")[1])])


def test_seeds_decide(tiny_llama: Tiny) -> None:
    options = Options(deterministic=True)
    first = draw(tiny_llama.gguf, requests(2, 6), options)
    again = draw(tiny_llama.gguf, requests(2, 6), options)
    assert texts(first) == texts(again)
    assert len(set(texts(first).values())) > 6


def test_first_two_tokens_are_independent(tmp_path: Path) -> None:
    """A model that finds all tokens equally likely shows the random numbers themselves."""
    model = make_model("qwen2", 1)
    model.lm_head.weight.data[:] = 0.0
    write_gguf(tmp_path / "flat.gguf", model)
    options = Options(card=False, limit=2, temperature=1.0, parallel=32)
    wanted = [Request("user:0", prompts(1)[0], dict(enumerate(range(1, 400))))]
    drawn = draw(tmp_path / "flat.gguf", wanted, options)
    pairs = [ids for ids in texts(drawn).values() if len(ids) == 2]
    first, second = np.array(pairs).T
    assert len(pairs) > 350
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.25
    assert len(set(first)) > 100


def test_deterministic_responses_depend_on_nothing_else(tiny_llama: Tiny) -> None:
    options = Options(deterministic=True, parallel=4, limit=8)
    wanted = requests(6, 4, shared=12)
    together = texts(draw(tiny_llama.gguf, wanted, options))
    reverse = texts(draw(tiny_llama.gguf, wanted[::-1], options))
    alone = {
        name: ids
        for request in wanted
        for name, ids in texts(draw(tiny_llama.gguf, [request], options)).items()
    }
    assert together == reverse == alone


def test_deterministic_responses_do_not_depend_on_threads(tiny_llama: Tiny) -> None:
    """From 512 cells on llama.cpp splits the attention of a single sequence by thread."""
    long = [Request(f"user:{i}", (*range(3 + i, 303 + i),), {0: 1, 1: 2}) for i in range(3)]
    drawn = [
        texts(
            draw(
                tiny_llama.gguf,
                long,
                Options(deterministic=True, card=False, limit=40, context=512, threads=threads),
            )
        )
        for threads in (1, 2, 3)
    ]
    assert drawn[0] == drawn[1] == drawn[2]


def test_deterministic_batches_are_those_of_a_request_alone(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The computation itself: the same tokens at the same places of the cache, step by step."""
    steps: list[list[tuple[int, int, int]]] = []
    decode = llama_cpp.llama_decode

    def recorded(context: Any, batch: Any) -> int:
        rows = range(batch.n_tokens)
        steps.append([(batch.token[i], batch.pos[i], batch.seq_id[i][0]) for i in rows])
        return int(decode(context, batch))

    monkeypatch.setattr(llama_cpp, "llama_decode", recorded)
    options = Options(deterministic=True, parallel=4)
    wanted = requests(3, 3, shared=12)
    for request in wanted:
        draw(tiny_llama.gguf, [request], options)
    alone = list(steps)
    steps.clear()
    draw(tiny_llama.gguf, wanted, options)
    assert steps == alone


def test_an_engine_can_be_used_again(tiny_llama: Tiny) -> None:
    wanted = requests(5, 3, shared=10)
    with open_engine(tiny_llama.gguf, GREEDY) as engine:
        first = {(r.key, r.sample): r.token_ids for r in engine.generate(wanted)}
        second = {(r.key, r.sample): r.token_ids for r in engine.generate(wanted[::-1])}
    assert first == second


def test_no_requests(tiny_llama: Tiny) -> None:
    assert draw(tiny_llama.gguf, [], Options()) == {}


def test_prompt_too_long(tiny_llama: Tiny) -> None:
    short, long = Request("user:1", (1,) * 20, {0: 1}), Request("user:2", (1,) * 95, {0: 1})
    options = Options(card=False, limit=10, context=104)
    with pytest.raises(RecError, match=r"prompt user:2: 95 tokens .* llm.context \(104\)"):
        draw(tiny_llama.gguf, [short, long], options)
    assert len(draw(tiny_llama.gguf, [short, long], replace(options, context=106))) == 2


def test_prompts_that_fill_the_context(tiny_llama: Tiny) -> None:
    wanted = [Request(f"user:{i}", (i + 1,) * 245, {0: 1, 1: 2, 2: 3}) for i in range(6)]
    options = Options(card=False, limit=10, context=256, parallel=3, temperature=0.0)
    drawn = draw(tiny_llama.gguf, wanted, options)
    assert len(drawn) == 18
    assert len({ids for (key, _), ids in texts(drawn).items() if key == "user:0"}) == 1


def test_more_sequences_than_llama_cpp_can_hold(tiny_llama: Tiny) -> None:
    options = Options(card=False, limit=2, parallel=400)
    assert len(draw(tiny_llama.gguf, requests(1, 300), options)) == 300


def test_adapter_changes_what_is_written(tiny_llama: Tiny, tmp_path: Path) -> None:
    model = save_lora(tiny_llama, tmp_path)
    export_adapter(tmp_path, tiny_llama.hf, tmp_path / "a.gguf")
    wanted = requests(4, 2, shared=8)
    options = replace(GREEDY, adapter=tmp_path / "a.gguf")
    adapted = draw(tiny_llama.gguf, wanted, options)
    assert texts(adapted) != texts(draw(tiny_llama.gguf, wanted, GREEDY))
    with Model(tiny_llama.gguf, vocabulary_only=True) as loaded:
        form = free_text(loaded, 10)
    for request in wanted:
        expected = greedy(model, request.prompt, form)
        assert list(adapted[request.key, 1].token_ids)[: len(expected)] == expected


BROKEN = """
import sys
from pathlib import Path
from rec.errors import RecError
from tests.llm.drawing import Options, open_engine
for name in sys.argv[2:]:
    try:
        with open_engine(Path(sys.argv[1]), Options(adapter=Path(name))):
            print("loaded", name)
    except RecError as error:
        print("refused", error)
"""


def test_broken_adapters_are_refused(tiny_llama: Tiny, tiny_qwen2: Tiny, tmp_path: Path) -> None:
    """In a process of its own, since llama.cpp may abort."""
    save_lora(tiny_llama, tmp_path)
    export_adapter(tmp_path, tiny_llama.hf, tmp_path / "whole.gguf")
    whole = (tmp_path / "whole.gguf").read_bytes()
    cases = [tmp_path / "missing.gguf", tiny_llama.gguf, tmp_path / "other.gguf"]
    for share in (0.0, 0.01, 0.3, 0.99):
        cases.append(tmp_path / f"cut-{share}.gguf")
        cases[-1].write_bytes(whole[: int(len(whole) * share)])
    save_lora(tiny_qwen2, tmp_path / "qwen2")
    export_adapter(tmp_path / "qwen2", tiny_qwen2.hf, tmp_path / "other.gguf")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, tiny_llama.gguf, tmp_path / "whole.gguf", *cases],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first.startswith("loaded ")
    assert len(others) == len(cases)
    for line, case in zip(others, cases, strict=True):
        assert line.startswith(f"refused {case}: not a LoRA adapter")


class Ledger:
    """Counts the sampler chains that are alive."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = self.freed = 0
        make, free = llama_cpp.llama_sampler_chain_init, llama_cpp.llama_sampler_free

        def counted_make(params: object) -> object:
            self.made += 1
            return make(params)

        def counted_free(chain: object) -> None:
            self.freed += 1
            free(chain)

        monkeypatch.setattr(llama_cpp, "llama_sampler_chain_init", counted_make)
        monkeypatch.setattr(llama_cpp, "llama_sampler_free", counted_free)


def test_samplers_are_freed(tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(monkeypatch)
    draw(tiny_llama.gguf, requests(3, 3), Options())
    assert ledger.made == ledger.freed == 18


def test_an_abandoned_run_frees_its_samplers(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(monkeypatch)
    wanted = requests(6, 3, shared=9)
    with open_engine(tiny_llama.gguf, GREEDY) as engine:
        running = engine.generate(wanted)
        next(running)
        running.close()
        assert ledger.made == ledger.freed > 2
        after = {(r.key, r.sample): r.token_ids for r in engine.generate(wanted)}
    assert after == texts(draw(tiny_llama.gguf, wanted, GREEDY))


def test_an_engine_closed_midway_frees_its_samplers(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(monkeypatch)
    with open_engine(tiny_llama.gguf, Options()) as engine:
        running = engine.generate(requests(6, 3))
        next(running)
    assert ledger.made == ledger.freed > 2
    with pytest.raises(RuntimeError, match="closed"):
        next(running)


def test_an_engine_that_cannot_start_frees_its_cache(
    tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = []
    free = llama_cpp.llama_free
    monkeypatch.setattr(llama_cpp, "llama_free", lambda handle: freed.append(free(handle)))
    options = Options(adapter=tmp_path / "missing.gguf")
    with pytest.raises(RecError), open_engine(tiny_llama.gguf, options):
        pass
    assert len(freed) == 1


def test_no_memory_for_the_cache(tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", lambda model, options: None)
    with (
        pytest.raises(RecError, match=r"lower machine.parallel_sequences or llm.context"),
        open_engine(tiny_llama.gguf, Options()),
    ):
        pass


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([(1, 2, 3)], []),
        ([(1, 2, 3), (1, 2, 4)], [1, 2]),
        ([(1, 2), (1, 2)], [1]),
        ([(1, 2), (1, 2, 3, 4)], [1]),
        ([(1, 2, 3), (1, 5, 3), (1, 2, 3)], [1]),
        ([(7, 1), (8, 1)], []),
        ([(1,), (1,)], []),
    ],
)
def test_common_prefix(given: list[tuple[int, ...]], expected: list[int]) -> None:
    assert common_prefix(given) == expected


@pytest.mark.parametrize("parallel", [1, 4])
def test_tokens_are_told_as_they_are_written(tiny_llama: Tiny, parallel: int) -> None:
    told: dict[tuple[str, int], list[int]] = {}
    order: list[tuple[str, int]] = []
    wanted = requests(3, 2, shared=8)

    def watch(key: str, sample: int, tokens: Sequence[int]) -> None:
        told.setdefault((key, sample), []).extend(tokens)
        order.append((key, sample))

    with open_engine(tiny_llama.gguf, Options(parallel=parallel, watch=watch)) as engine:
        for response in engine.generate(wanted):
            assert told[response.key, response.sample] == list(response.token_ids)
    assert len(told) == 6
    one_by_one = [name for name, _ in groupby(order)]
    assert (one_by_one == list(told)) == (parallel == 1)
