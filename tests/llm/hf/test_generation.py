"""rec.llm.hf.generation: transformers in batches writes what transformers one by one would."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from rec.errors import RecError
from rec.llm.form import Form, TokenSlot, by_policy, card, free_text
from rec.llm.hf import generation, policy
from rec.llm.hf.flight import Sample, by_prompt
from rec.llm.hf.generation import Generator
from rec.llm.model import Model
from rec.llm.request import Backend, Request, Response
from rec.llm.sampler import SamplerSettings
from rec.prompts import DOMAINS
from tests.llm.drawing import greedy, prompts, slots
from tests.llm.test_adapter import edit_config, save_lora
from tests.llm.tiny import Tiny, hf_logits, load_hf

Drawn = dict[tuple[str, int], Response]
COLD = SamplerSettings(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)
WARM = replace(COLD, temperature=0.9)


@dataclass(frozen=True)
class Options:
    """How to draw: the form, the sampler and the generator."""

    card: bool = True
    limit: int = 6
    sampler: SamplerSettings = WARM
    context: int = 256
    parallel: int = 8
    deterministic: bool = False
    adapter: Path | None = None


GREEDY = Options(card=False, limit=10, sampler=COLD)


@pytest.fixture(autouse=True)
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "fast_bf16", lambda: False)


def make_form(tiny: Tiny, options: Options) -> Form:
    with Model(tiny.gguf, vocabulary_only=True) as model:
        if options.card:
            return card(model, DOMAINS["films"].labels, options.limit)
        return free_text(model, options.limit)


@contextmanager
def open_generator(tiny: Tiny, options: Options, form: Form | None = None) -> Iterator[Generator]:
    with Generator(
        tiny.hf,
        form or make_form(tiny, options),
        options.sampler,
        context=options.context,
        parallel=options.parallel,
        threads=1,
        adapter=options.adapter,
        deterministic=options.deterministic,
    ) as generator:
        yield generator


def collect(responses: Iterator[Response]) -> Drawn:
    """All responses by key and sample; each must come once."""
    found = list(responses)
    drawn = {(response.key, response.sample): response for response in found}
    assert len(drawn) == len(found)
    return drawn


def draw(tiny: Tiny, wanted: Sequence[Request], options: Options) -> Drawn:
    backend: Backend
    with open_generator(tiny, options) as backend:
        return collect(backend.generate(wanted))


def texts(drawn: Drawn) -> dict[tuple[str, int], tuple[int, ...]]:
    return {name: response.token_ids for name, response in drawn.items()}


def requests(count: int, seeds: int) -> list[Request]:
    """A request per prompt of mixed length, each with its own seeds."""
    return [
        Request(f"user:{index}", prompt, {n: 1 + 100 * index + n for n in range(seeds)})
        for index, prompt in enumerate(prompts(count))
    ]


def check_greedy(hf: Any, tiny: Tiny, wanted: Sequence[Request], options: Options) -> None:
    """Each response begins with what transformers writes one by one; most of it is compared."""
    drawn = draw(tiny, wanted, options)
    assert len(drawn) == sum(len(request.seeds) for request in wanted)
    form = make_form(tiny, options)
    compared = total = 0
    for request in wanted:
        expected = greedy(hf, request.prompt, form, options.sampler.repeat_penalty)
        for sample in request.seeds:
            ids = list(drawn[request.key, sample].token_ids)
            assert ids[: len(expected)] == expected
            compared += len(expected)
            total += len(ids)
    assert compared > 0.6 * total


@pytest.mark.parametrize("parallel", [1, 4, 64])
def test_greedy_text_is_that_of_transformers(tiny: Tiny, parallel: int) -> None:
    check_greedy(load_hf(tiny.hf), tiny, requests(7, 3), replace(GREEDY, parallel=parallel))


def test_greedy_card_is_that_of_transformers(tiny: Tiny) -> None:
    options = Options(limit=5, parallel=5, sampler=COLD)
    check_greedy(load_hf(tiny.hf), tiny, requests(6, 2), options)


def test_prompts_computed_in_several_goes(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "PROMPT_TOKENS", 50)
    options = replace(GREEDY, parallel=16)
    check_greedy(load_hf(tiny_llama.hf), tiny_llama, requests(9, 3), options)


def test_prompts_in_one_go_are_bounded_with_their_padding() -> None:
    wanted = [Request(f"user:{n}", (1,) * n, {0: 1, 1: 2}) for n in (9, 4, 5, 2, 2, 2, 8)]
    samples = [Sample(request, index) for request in wanted for index in request.seeds]
    groups = by_prompt(samples, 10)
    lengths = [[len(prompt[0].request.prompt) for prompt in group] for group in groups]
    assert lengths == [[9], [4, 5], [2, 2, 2], [8]]
    assert [sample for group in groups for prompt in group for sample in prompt] == samples


def test_penalty_counts_every_token_chosen(tiny_llama: Tiny) -> None:
    penalised = replace(COLD, repeat_penalty=3.0)
    hf = load_hf(tiny_llama.hf)
    check_greedy(hf, tiny_llama, requests(12, 1), replace(GREEDY, limit=14, sampler=penalised))
    check_greedy(hf, tiny_llama, requests(4, 1), Options(limit=5, sampler=penalised))


def test_adapter_is_that_of_peft(tiny: Tiny, tmp_path: Path) -> None:
    adapted = save_lora(tiny, tmp_path)
    options = replace(GREEDY, adapter=tmp_path)
    check_greedy(adapted, tiny, requests(5, 2), options)
    wanted = requests(5, 2)
    assert texts(draw(tiny, wanted, options)) != texts(draw(tiny, wanted, GREEDY))


def test_one_and_many_in_flight_are_the_same(tiny: Tiny) -> None:
    options = replace(GREEDY, card=True)
    one = draw(tiny, requests(6, 2), replace(options, parallel=1))
    assert texts(one) == texts(draw(tiny, requests(6, 2), options))


def test_form_of_every_response(tiny: Tiny) -> None:
    options = Options(limit=5, parallel=6)
    drawn, form = draw(tiny, requests(8, 4), options), make_form(tiny, options)
    assert len(drawn) == 32
    with Model(tiny.gguf, vocabulary_only=True) as model:
        for response in drawn.values():
            filled = slots(form, response.token_ids)
            assert all(0 < len(one) <= 5 for one in filled)
            assert response.cut_slots == sum(len(one) == 5 for one in filled)
            chosen = by_policy(form, response.token_ids)[1]
            assert sum(chosen) == sum(map(len, filled)) + len(filled) - response.cut_slots
            assert all(model.is_text(token) for token in response.token_ids)
            assert all(model.detokenize(one[:1]).strip() for one in filled)
            lines = model.detokenize(response.token_ids).split("\n")
            assert [line.split(":")[0] for line in lines] == [
                model.detokenize(slot.label)[:-1] for slot in form.slots
            ]
    assert len(set(texts(drawn).values())) == 32
    assert {response.cut_slots for response in drawn.values()} > {3, 4}


def test_text_ends_or_is_cut(tiny_llama: Tiny) -> None:
    sampler = replace(COLD, temperature=0.7)
    drawn = draw(tiny_llama, requests(10, 4), replace(GREEDY, limit=8, sampler=sampler))
    lengths = {len(response.token_ids) for response in drawn.values()}
    assert max(lengths) == 8 and min(lengths) < 8
    for response in drawn.values():
        assert response.cut_slots == (len(response.token_ids) == 8)


def test_a_response_says_what_it_is(tiny_llama: Tiny) -> None:
    first, second = prompts(2)
    wanted = [Request("user:0", first, {4: 17, 1: 9}), Request("user:0", second, {2: 5})]
    drawn = draw(tiny_llama, wanted, GREEDY)
    assert {(sample, r.seed) for (_, sample), r in drawn.items()} == {(4, 17), (1, 9), (2, 5)}
    assert drawn["user:0", 2].prompt_tokens == len(second)
    assert drawn["user:0", 1].prompt_tokens == drawn["user:0", 4].prompt_tokens == len(first)
    assert all(0 < response.seconds < 600 for response in drawn.values())


def test_no_requests(tiny_llama: Tiny) -> None:
    assert draw(tiny_llama, [], Options()) == {}
    assert draw(tiny_llama, [Request("user:0", (5, 6), {})], Options()) == {}


def test_deterministic_responses_depend_on_nothing_else(tiny_llama: Tiny) -> None:
    options = Options(deterministic=True, limit=4)
    wanted = requests(3, 2)
    torch.manual_seed(1)
    together = texts(draw(tiny_llama, wanted, options))
    torch.manual_seed(2)
    reverse = texts(draw(tiny_llama, wanted[::-1], options))
    alone = {}
    for request in wanted:
        alone.update(texts(draw(tiny_llama, [request], options)))
    assert together == reverse == alone
    assert len(set(together.values())) == 6


def test_deterministic_rows_are_computed_alone(tiny_llama: Tiny) -> None:
    with open_generator(tiny_llama, replace(GREEDY, deterministic=True)) as generator:
        shapes = recorded(generator)
        assert len(collect(generator.generate(requests(2, 2)))) == 4
    assert {rows for rows, _ in shapes} == {1}
    assert len([length for _, length in shapes if length > 1]) == 4


def test_seeds_decide_whatever_is_in_flight(tiny_llama: Tiny) -> None:
    options = Options(limit=4, sampler=replace(COLD, temperature=0.8, min_p=0.01))
    wanted = requests(5, 3)
    first = texts(draw(tiny_llama, wanted, replace(options, parallel=7)))
    assert first == texts(draw(tiny_llama, wanted[::-1], replace(options, parallel=2)))
    other = [replace(r, seeds={n: seed + 50 for n, seed in r.seeds.items()}) for r in wanted]
    moved = texts(draw(tiny_llama, other, options))
    assert not any(first[name] == moved[name] for name in first)


def test_first_tokens_follow_the_model(tiny_llama: Tiny) -> None:
    """3000 draws against the softmax of the five likeliest logits."""
    prompt, count = prompts(1)[0], 3000
    form = Form((TokenSlot((300, 58), 1),), 10, (), (10,))
    options = Options(parallel=500, sampler=replace(COLD, temperature=1.3, top_k=5))
    wanted = [Request("user:0", prompt, {n: 1 + n for n in range(count)})]
    with open_generator(tiny_llama, options, form) as generator:
        drawn = [ids[-1] for ids in texts(collect(generator.generate(wanted))).values()]
    logits = hf_logits(load_hf(tiny_llama.hf), [*prompt, 300, 58])[-1].astype(np.float64)
    logits[10] = -np.inf
    likeliest = np.argsort(logits)[-5:]
    shares = np.exp(logits[likeliest] / 1.3)
    expected = count * shares / shares.sum()
    counts = np.array([drawn.count(token) for token in likeliest])
    assert counts.sum() == count
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 4 degrees of freedom, p = 0.001


def recorded(generator: Generator) -> list[tuple[int, int]]:
    """Rows and new tokens of each call of the model, as they come."""
    shapes: list[tuple[int, int]] = []
    forward = generator.model.forward

    def watched(**inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return forward(**inputs)

    generator.model.forward = watched
    return shapes


def test_prompts_are_computed_once_and_finished_rows_make_room(tiny_llama: Tiny) -> None:
    options = Options(card=False, limit=40, parallel=12)
    with open_generator(tiny_llama, options) as generator:
        shapes = recorded(generator)
        drawn = collect(generator.generate(requests(9, 4)))
    prefills = [rows for rows, length in shapes if length > 1]
    steps = [rows for rows, length in shapes if length == 1]
    assert 9 <= sum(prefills) <= 9 + len(prefills)  # a request may be split where there is room
    assert len(prefills) > 2 and max(steps) == 12 and min(steps) < 6
    assert sum(steps) < 1.8 * sum(len(ids) for ids in texts(drawn).values())


class Starved:
    """A forward pass that has no memory for more rows than `rows`, or at some calls."""

    def __init__(self, generator: Generator, rows: int, calls: Sequence[int] = ()) -> None:
        self.forward, self.rows, self.calls, self.count = generator.model.forward, rows, calls, 0
        generator.model.forward = self

    def __call__(self, **inputs: Any) -> Any:
        self.count += 1
        if self.count in self.calls or len(inputs["input_ids"]) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.forward(**inputs)


@pytest.mark.parametrize(
    ("rows", "calls", "parallel"), [(99, [1], 4), (99, [5], 4), (3, [], 2), (99, [3, 12], 2)]
)
def test_lack_of_memory_halves_the_rows(
    tiny_llama: Tiny, rows: int, calls: list[int], parallel: int
) -> None:
    options = Options(limit=3, sampler=replace(COLD, temperature=0.8))
    expected = texts(draw(tiny_llama, requests(6, 3), options))
    with open_generator(tiny_llama, options) as generator:
        Starved(generator, rows, calls)
        assert texts(collect(generator.generate(requests(6, 3)))) == expected
        assert generator.parallel == parallel


def test_no_memory_for_one_row(tiny_llama: Tiny) -> None:
    with open_generator(tiny_llama, GREEDY) as generator:
        Starved(generator, 0)
        with pytest.raises(RecError, match="has no memory for a single response; lower"):
            list(generator.generate(requests(3, 3)))


def test_no_memory_for_the_model(tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", starved)
    with pytest.raises(RecError, match=f"{tiny_llama.hf}: .* has no memory for this model"):
        draw(tiny_llama, [], GREEDY)


def test_bf16_with_logits_in_fp32(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "fast_bf16", lambda: True)
    adapted = save_lora(tiny, tmp_path)
    options = Options(limit=4, adapter=tmp_path)
    ids, form = list(prompts(1)[0]), make_form(tiny, options)
    with open_generator(tiny, options, form) as generator:
        assert generator.model.get_input_embeddings().weight.dtype == torch.bfloat16
        kinds = {name: value.dtype for name, value in generator.model.named_parameters()}
        assert {kind for name, kind in kinds.items() if "lora_" in name} == {torch.float32}
        tensor = torch.tensor([ids], device=generator.device)
        logits = generator.model(input_ids=tensor).logits[0].cpu()
        for response in generator.generate(requests(4, 2)):
            assert len(slots(form, response.token_ids)) == 7
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())
    exact = torch.from_numpy(hf_logits(adapted, ids))
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()


def test_prompt_too_long(tiny_llama: Tiny) -> None:
    wanted = [Request("user:1", (1,) * 20, {0: 1}), Request("user:2", (1,) * 95, {0: 1})]
    options = replace(GREEDY, context=105)
    message = r"prompt user:2: 95 tokens and a response of up to 11 exceed llm.context \(105\)"
    with pytest.raises(RecError, match=message):
        draw(tiny_llama, wanted, options)
    assert len(draw(tiny_llama, wanted, replace(options, context=106))) == 2


def test_a_generator_can_be_used_again_after_an_abandoned_run(tiny_llama: Tiny) -> None:
    wanted = requests(5, 3)
    with open_generator(tiny_llama, GREEDY) as generator:
        running = generator.generate(wanted)
        next(running)
        del running
        first = texts(collect(generator.generate(wanted)))
        assert first == texts(collect(generator.generate(wanted[::-1])))


def test_closing_frees_the_model(tiny_llama: Tiny, tmp_path: Path) -> None:
    save_lora(tiny_llama, tmp_path)
    with open_generator(tiny_llama, replace(GREEDY, adapter=tmp_path)) as generator:
        running = generator.generate(requests(6, 3))
        next(running)
        model = weakref.ref(generator.model)
    assert model() is None
    with pytest.raises(RuntimeError, match="closed"):
        list(running)


def cut(path: Path, size: int = 500) -> None:
    path.write_bytes(path.read_bytes()[:size])


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def drop_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors[max(tensors)]
    save_file(tensors, path, {"format": "pt"})


Damage = Callable[[Path], object]
MODEL_DAMAGE: dict[str, tuple[Damage, str]] = {
    "no folder": (shutil.rmtree, "no such file"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "no such file"),
    "broken configuration": (lambda folder: cut(folder / "config.json"), "not valid JSON"),
    "no model type": (lambda folder: (folder / "config.json").write_text("{}"), "not a readable"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "cut weights": (lambda folder: cut(folder / "model.safetensors"), "not a readable model"),
    "a pickle": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "model.safetensors",
    ),
    "a lost tensor": (lambda folder: drop_tensor(folder / "model.safetensors"), "is in one of"),
    "another width": (lambda folder: change(folder / "config.json", hidden_size=32), "not a read"),
    "more layers": (
        lambda folder: change(folder / "config.json", num_hidden_layers=3),
        "model.layers.2.input_layernorm.weight is in one of",
    ),
    "fewer layers": (
        lambda folder: change(folder / "config.json", num_hidden_layers=1),
        "model.layers.1.input_layernorm.weight is in one of",
    ),
}


@pytest.mark.parametrize("name", list(MODEL_DAMAGE))
def test_damaged_models_are_refused(tiny_llama: Tiny, tmp_path: Path, name: str) -> None:
    damage, message = MODEL_DAMAGE[name]
    form = make_form(tiny_llama, GREEDY)
    broken = replace(tiny_llama, hf=tmp_path / "hf")
    shutil.copytree(tiny_llama.hf, broken.hf)
    damage(broken.hf)
    with pytest.raises(RecError) as caught, open_generator(broken, GREEDY, form):
        pass
    assert_one_line(caught.value, str(broken.hf), message)


def assert_one_line(error: RecError, path: str, message: str) -> None:
    assert str(error).startswith(path) and message in str(error)
    assert "\n" not in str(error) and len(str(error)) < 400


ADAPTER_DAMAGE: dict[str, tuple[Damage, str]] = {
    "no folder": (shutil.rmtree, "no such file"),
    "no settings": (lambda folder: (folder / "adapter_config.json").unlink(), "no such file"),
    "broken settings": (lambda folder: cut(folder / "adapter_config.json", 9), "not valid JSON"),
    "empty settings": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "not an"),
    "no weights": (
        lambda folder: (folder / "adapter_model.safetensors").unlink(),
        "adapter_model.safetensors: no such file",
    ),
    "a pickle": (
        lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
        "adapter_model.safetensors: no such file",
    ),
    "cut weights": (lambda folder: cut(folder / "adapter_model.safetensors"), "not an adapter of"),
    "a lost tensor": (
        lambda folder: drop_tensor(folder / "adapter_model.safetensors"),
        "v_proj.lora_B.weight is in one of them only",
    ),
    "another rank": (lambda folder: edit_config(folder, r=5), "not an adapter of this model"),
    "other targets": (lambda folder: edit_config(folder, target_modules=["x"]), "not found in"),
    "fewer targets": (
        lambda folder: edit_config(folder, target_modules=["q_proj"]),
        "is in one of them only",
    ),
}


@pytest.mark.parametrize("name", list(ADAPTER_DAMAGE))
def test_damaged_adapters_are_refused(tiny_llama: Tiny, tmp_path: Path, name: str) -> None:
    damage, message = ADAPTER_DAMAGE[name]
    folder = tmp_path / "adapter"
    save_lora(tiny_llama, folder)
    damage(folder)
    with pytest.raises(RecError) as caught:
        draw(tiny_llama, [], replace(GREEDY, adapter=folder))
    assert_one_line(caught.value, str(folder), message)


def test_an_adapter_of_a_larger_model_is_refused(tiny_llama: Tiny, tmp_path: Path) -> None:
    save_lora(tiny_llama, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    wider = {
        name: np.repeat(values, 2, 1) if ".lora_A." in name else np.repeat(values, 2, 0)
        for name, values in load_file(path).items()
    }
    save_file(wider, path, {"format": "pt"})
    with pytest.raises(RecError, match=r"not an adapter of this model .*size mismatch"):
        draw(tiny_llama, [], replace(GREEDY, adapter=tmp_path))
