"""The whole pipeline with the real models on a few users: `dvc exp run` in a fresh clone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import polars as pl
import pytest
import torch
import yaml

from rec import tables
from rec.align.pairs import TokenPair, token_pairs
from rec.config import BASELINES
from rec.llm.model import Model
from rec.params import load_params
from rec.responses import response_form
from tests.align.settings import SETTINGS
from tests.align.stock import packed_step, stock_step
from tests.llm.runtimes import check

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command as a user in an activated environment would."""
    identity = {
        f"GIT_{who}_{what}": "rec@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = {
        **{name: value for name, value in os.environ.items() if name != "REC_STORE"},
        **identity,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(command)}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this tree in which `dvc exp run -S profile=tiny` has been run."""
    folder = tmp_path_factory.mktemp("clone") / "rec"
    files = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)
    run("git", "init", "--quiet", cwd=folder)
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--message", "clone", cwd=folder)
    run("dvc", "exp", "run", "--name", "tiny", "-S", "profile=tiny", cwd=folder)
    return folder


def test_the_table_has_every_variant(clone: Path) -> None:
    metrics = json.loads((clone / "data/comparison/figures.json").read_text())
    variants = ["popularity", "random", *BASELINES, "base"]
    for protocol in ("popularity", "uniform"):
        assert set(metrics[protocol]) >= {*variants, "round_1", "round_2"}
        for values in metrics[protocol].values():
            assert 0 <= values["low"] <= values["ndcg@5"] <= values["high"] <= 1
            assert 0 <= values["map@5"] <= 1
    assert 0 < metrics["comparisons"]["round_2_vs_base"]["p_holm"] <= 1
    for policy in ("base", "round_1", "round_2"):
        assert 0 < metrics["identifiability"][policy]["mrr"] <= 1
    printed = run("python", "-m", "stages.results", cwd=clone).stdout
    assert "report.html" in printed and "metrics.json" in printed and "NDCG@5" in printed


def test_report_is_written(clone: Path) -> None:
    page = (clone / "report.html").read_text()
    assert page.count("<h2") >= 4
    assert "http://" not in page.split("<script")[0]


def test_popularity_is_worth_the_same_in_the_data_and_in_the_table(clone: Path) -> None:
    stats = json.loads((clone / "data/stats.json").read_text())
    metrics = json.loads((clone / "data/comparison/figures.json").read_text())
    for measure in ("ndcg@5", "map@5"):
        found = stats["popularity_baseline"]["test"][measure]
        assert found == pytest.approx(metrics["popularity"]["popularity"][measure], abs=2e-6)


def test_evaluation_users_never_touch_training(clone: Path) -> None:
    users = tables.read_table(clone / "data/tables/users.parquet", tables.USERS)
    train, valid = (set(users.filter(pl.col("split") == s)["user"]) for s in ("train", "valid"))
    for round_ in (1, 2):
        scores = tables.read_table(clone / f"data/scores/{round_}.parquet", tables.SCORES)
        pairs = tables.read_table(clone / f"data/pairs/{round_}.parquet", tables.PAIRS)
        held_out = tables.read_table(clone / f"data/pairs/{round_}-heldout.parquet", tables.PAIRS)
        by_all = pl.col("fold") == tables.ALL_FOLDS
        assert set(scores.filter(~by_all)["user"]) <= train
        assert set(scores.filter(by_all)["user"]) <= valid
        assert set(pairs["user"]) <= train
        assert set(held_out["user"]) <= valid
        assert pairs.filter(pl.col("margin") <= 0).is_empty()
    test = set(users.filter(pl.col("split") == "test")["user"])
    runs = tables.read_table(clone / "data/comparison/users.parquet", tables.USER_METRICS)
    assert set(runs.filter(pl.col("split") == "test")["user"]) == test
    assert set(runs["user"]) <= test | valid


def test_responses_are_cards(clone: Path) -> None:
    params = load_params(clone / "params.yaml")
    with Model(clone / "data/llm/model.gguf") as model:
        form = response_form(model, "films", "card", params.sampling.slot_tokens, 0)
        labels = [model.detokenize(slot.label) for slot in form.slots]
    for policy in params.policies:
        responses = tables.read_table(clone / f"data/responses/{policy}.parquet", tables.RESPONSES)
        for text in responses["text"]:
            lines = text.split("\n")
            assert [line[: len(label)] for line, label in zip(lines, labels, strict=True)] == labels


def test_alignment_changes_what_is_sampled(clone: Path) -> None:
    texts = [
        tables.read_table(clone / f"data/responses/{policy}.parquet", tables.RESPONSES)["text"]
        for policy in (0, 1, 2)
    ]
    assert not texts[0].equals(texts[1])
    assert not texts[1].equals(texts[2])


def test_alignment_is_watched(clone: Path) -> None:
    for round_ in (1, 2):
        folder = clone / f"data/alignment/{round_}"
        curve = pl.read_csv(folder / "curve.csv")
        assert curve["step"].to_list() == list(range(1, curve.height + 1))
        live = pl.read_csv(folder / "live/plots/metrics/kl.tsv", separator="\t")
        assert live["step"].to_list() == curve["step"].to_list()
        summary = json.loads((folder / "summary.json").read_text())
        held_out = tables.read_table(clone / f"data/pairs/{round_}-heldout.parquet", tables.PAIRS)
        assert summary["heldout"]["pairs"] == held_out.height
        assert not (clone / f".cache/align/{round_}").exists()


def test_alignment_equals_stock_trainer(clone: Path, tmp_path: Path) -> None:
    """On a pair of the real model: TRL's numbers in fp32, and close to them in bf16."""
    base = clone / "data/llm/hf"
    pairs = token_pairs_of(clone)[:1]
    settings = replace(SETTINGS, max_length=1024, beta=0.01, rank=8, alpha=16)
    stock = stock_step(base, pairs, settings, tmp_path / "stock")
    for precision, loss, share, cosine in (
        ("fp32", 1e-5, 1e-3, 0.99999),
        ("bf16", 1e-2, 0.2, 0.98),
    ):
        chosen = replace(settings, precision=precision)
        found = packed_step(base, pairs, chosen, tmp_path / precision)
        assert found.loss == pytest.approx(stock.loss, rel=loss)
        ours, theirs = (
            torch.cat([step.gradients[name].double().flatten() for name in sorted(stock.gradients)])
            for step in (found, stock)
        )
        assert float((ours - theirs).norm()) <= share * float(theirs.norm())
        assert float(torch.cosine_similarity(ours, theirs, 0)) > cosine


def test_adapter_does_the_same_in_both_runtimes(clone: Path) -> None:
    """A round's adapter, made large enough to stand above the rounding of bf16."""
    rows = tables.read_table(clone / "data/prompts.parquet", tables.PROMPTS)
    llm = clone / "data/llm"
    found = check(
        llm / "model.gguf", llm / "hf", clone / "data/policy/2", list(rows["messages"])[:3], 100.0
    )
    assert found["correlation"] > 0.98
    assert found["slope"] == pytest.approx(1, abs=0.05)
    assert found["scale_zero_from_base"] == 0


def token_pairs_of(clone: Path) -> list[TokenPair]:
    """The first round's pairs in token ids."""
    params = load_params(clone / "params.yaml")
    table = tables.read_table(clone / "data/pairs/1.parquet", tables.PAIRS)
    with Model(clone / "data/llm/model.gguf", vocabulary_only=True) as model:
        form = response_form(model, "films", "card", params.sampling.slot_tokens, 0)
        return token_pairs(table, model, form)


def test_nothing_is_sampled_twice(clone: Path) -> None:
    table = clone / "data/responses/1.parquet"
    before = table.read_bytes()
    printed = run("dvc", "repro", "--force", "--single-item", "sample@1", cwd=clone)
    count = tables.read_table(table, tables.RESPONSES).height
    assert f"{count} responses, {count} from the store" in printed.stdout + printed.stderr
    assert table.read_bytes() == before


def test_a_second_run_does_no_work(clone: Path) -> None:
    printed = run("dvc", "repro", cwd=clone)
    assert "Running stage" not in printed.stdout + printed.stderr
    assert "up to date" in printed.stdout + printed.stderr


def test_experiments_can_be_shown(clone: Path) -> None:
    shown = json.loads(run("dvc", "exp", "show", "--json", cwd=clone).stdout)
    assert '"name": "tiny"' in json.dumps(shown)


def stale(clone: Path) -> set[str]:
    """Stages that the next `dvc repro` runs: the changed ones and all that follow from them.

    Nothing follows from `check`: what it writes is always the same.
    """
    changed = {
        name.removeprefix("dvc.yaml:")
        for name in json.loads(run("dvc", "status", "--json", cwd=clone).stdout)
    }
    from dvc.repo import Repo

    with Repo(str(clone)) as repo:
        graph = nx.DiGraph((target.name, source.name) for target, source in repo.index.graph.edges)
        graph.add_nodes_from(stage.name for stage in repo.index.stages)
    after = {stage for name in changed - {"check"} for stage in nx.ancestors(graph, name)}
    return changed | after


@pytest.fixture
def restored(clone: Path) -> Iterator[Path]:
    """The clone; its params.yaml is put back afterwards."""
    path = clone / "params.yaml"
    before = path.read_text()
    yield clone
    path.write_text(before)


TRAINED = ("1", "2", "sft")
ALIGNS = {"align@1", "align@2", "align-sft@sft"}
RETELLS = {"retell@1", "retell@2", "retell-sft@sft"}
MEDIATES = {"mediate@1", "mediate@2"} | RETELLS


def reranks(names: Iterable[str], stage: str = "rerank", seed: int = 1) -> set[str]:
    """The stages that rerank variants with a seed."""
    return {f"{stage}@{name}-prm-{seed}" for name in names}


def all_reranks(seed: int = 1) -> set[str]:
    """The stages that rerank anything with a seed."""
    return reranks(BASELINES, "rerank-baseline", seed) | reranks(("0", *TRAINED), seed=seed)


ALIGNED = {f"{stage}@{name}" for stage in ("sample", "encode") for name in TRAINED}
ALIGNED |= reranks(TRAINED) | MEDIATES
ROUNDS = {f"{name}@{round_}" for name in ("reward", "score", "pairs") for round_ in (1, 2)} | ALIGNS
RERANKS = all_reranks()
END = {"check", "evaluate", "report", "cards"}
LATER = {"reward@2", "score@2", "pairs@2"}

STALE: dict[str, tuple[Any, set[str]]] = {
    "evaluate.bootstrap": (300, END | MEDIATES),
    "machine.parallel_sequences": (8, {"check"}),
    "align.beta": (0.2, END | ALIGNED | LATER | ALIGNS),
    "pairs.minimum_margin": (0.01, END | ALIGNED | LATER | ALIGNS | {"pairs@1"}),
    "reward.folds": (3, END | ALIGNED | ROUNDS),
    "rerank.seeds": ([1, 2], END | all_reranks(seed=2) | RETELLS),
    "ranker.epochs": (4, END | ALIGNED | ROUNDS | RERANKS),
    "sampling.temperature": (
        0.8,
        END | ALIGNED | ROUNDS | {"sample@0", "encode@0"} | reranks(["0"]),
    ),
    "encoder.max_tokens": (
        128,
        END | ALIGNED | ROUNDS | RERANKS | {"encode@0", "encode-catalogue"},
    ),
}


def test_what_check_writes_never_changes(restored: Path) -> None:
    written = restored / "data/checked.json"
    before = written.read_bytes()
    path = restored / "params.yaml"
    path.write_text(path.read_text().replace("bootstrap: 200", "bootstrap: 500"))
    run("python", "-m", "stages.check", cwd=restored)
    assert written.read_bytes() == before


@pytest.mark.parametrize("key", STALE)
def test_a_parameter_makes_stale_what_depends_on_it(restored: Path, key: str) -> None:
    value, expected = STALE[key]
    path = restored / "params.yaml"
    params = yaml.safe_load(path.read_text())
    block, name = key.split(".")
    assert params[block][name] != value
    params[block][name] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    assert stale(restored) == expected


def test_a_comment_makes_nothing_stale(restored: Path) -> None:
    path = restored / "params.yaml"
    path.write_text("# a comment\n" + path.read_text())
    assert stale(restored) == set()


def test_a_wrong_parameter_stops_the_run_before_any_work(restored: Path) -> None:
    path = restored / "params.yaml"
    path.write_text(path.read_text().replace("beta:", "betta:"))
    done = run("dvc", "repro", cwd=restored, check=False)
    assert done.returncode != 0
    assert "align.betta: unknown key" in done.stderr
    assert "Running stage 'fetch" not in done.stdout


def test_a_killed_stage_leaves_nothing_finished(clone: Path) -> None:
    folder, partial = clone / "data/llm", clone / "data/.llm.partial"
    before = (folder / "model.gguf").read_bytes()
    shutil.rmtree(folder)
    process = subprocess.Popen([sys.executable, "-m", "stages.import_llm"], cwd=clone)
    deadline = time.monotonic() + 60
    while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not folder.exists()
    assert "import-llm" in run("dvc", "status", "--json", cwd=clone).stdout
    run("python", "-m", "stages.import_llm", cwd=clone)
    assert not partial.exists()
    assert (folder / "model.gguf").read_bytes() == before
    done = run("dvc", "repro", cwd=clone)
    assert "Running stage" not in done.stdout.replace("Running stage 'check'", "")
    assert stale(clone) == set()
