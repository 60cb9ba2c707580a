"""rec.outcomes: what the training of a policy came to, from its summary.json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rec.errors import RecError
from rec.files import write_json
from rec.outcomes import HeldOut, Outcome, Share, read_outcome
from tests.aligned import alignment_summary
from tests.composed import ROOT


def read(folder: Path, summary: Any, beta: float = 0.1) -> Outcome:
    write_json(folder / "summary.json", summary)
    return read_outcome(folder / "summary.json", beta)


def test_summary_by_hand(tmp_path: Path) -> None:
    """Of 12 steps the last three: 10, 11 and 12, whose mean is 11."""
    found = read(tmp_path, alignment_summary(round_=2))
    assert found.steps == 12
    assert found.loss == pytest.approx(0.69 - 0.22)
    assert found.accuracy == pytest.approx(0.5 + 0.33 + 0.04)
    assert found.margin == pytest.approx(0.44 / 0.1)
    assert found.chosen_log_ratio == pytest.approx(-0.044)
    assert found.rejected_log_ratio == pytest.approx(-0.088)
    assert found.kl == pytest.approx(0.0011)
    assert found.displaced
    assert found.held_out == HeldOut(
        pairs=10,
        before=Share(0.5, 0.236593, 0.763407),
        after=Share(0.6, 0.312674, 0.83182),
        reward=Share(0.9, 0.59585, 0.982124),
    )


def test_without_held_out_pairs(tmp_path: Path) -> None:
    assert read(tmp_path, alignment_summary(pairs=0)).held_out is None


@pytest.mark.parametrize("hits", [0, 7, 20])
def test_reads_what_the_align_stage_writes(tmp_path: Path, hits: int) -> None:
    from rec.align.guards import verdict
    from rec.align.heldout import preference_accuracy
    from rec.curves import ALIGNMENT
    from tests.align.settings import SETTINGS

    rows = [{**dict.fromkeys(ALIGNMENT, 0.1), "step": step} for step in range(1, 9)]
    before = [([-1.0], [-1.0])] * 20
    after = [([-0.5 if number < hits else -2.0], [-1.0]) for number in range(20)]
    heldout = preference_accuracy(before, after)
    found = read(tmp_path, {**verdict(rows, SETTINGS), "heldout": heldout}, SETTINGS.beta)
    assert (found.steps, found.displaced) == (8, False)
    assert found.margin == pytest.approx(1.0)
    assert found.held_out is not None
    assert (found.held_out.pairs, found.held_out.reward.value) == (20, hits / 20)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (Share(0.9, 0.6, 0.98), "above chance"),
        (Share(0.1, 0.02, 0.4), "below chance"),
        (Share(0.6, 0.31, 0.83), "not distinguishable from chance"),
        (Share(0.7, 0.5, 0.85), "not distinguishable from chance"),
        (Share(0.3, 0.15, 0.5), "not distinguishable from chance"),
    ],
)
def test_verdict_is_of_the_interval(share: Share, words: str) -> None:
    assert share.verdict == words


GOOD = alignment_summary()
SHARE = {"value": 0.5, "low": 0.2, "high": 0.8}


def held_out(**values: Any) -> dict[str, Any]:
    return {**GOOD, "heldout": {**GOOD["heldout"], **values}}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([], "it is no mapping"),
        (None, "it is no mapping"),
        ({}, "'likelihood_displacement' is missing"),
        ({**GOOD, "steps": 2.5}, r"steps is 2.5; it must be a whole number of 0 or more"),
        ({**GOOD, "margin": "0.1"}, r"margin is '0.1'; it must be a finite number"),
        ({**GOOD, "kl": True}, "kl is True; it must be a finite number"),
        ({**GOOD, "likelihood_displacement": 1}, "likelihood_displacement is 1; it must be true"),
        ({**GOOD, "heldout": None}, "heldout is no mapping"),
        (held_out(pairs=-1), "pairs is -1"),
        (held_out(reward_accuracy=0.9), "reward_accuracy is no mapping"),
        (held_out(reward_accuracy={"value": 0.9}), "'low' is missing"),
        (held_out(reward_accuracy={**SHARE, "high": 1.2}), r"0.5 in \[0.2, 1.2\]; .* a share"),
        (held_out(reward_accuracy={**SHARE, "low": 0.6}), r"0.5 in \[0.6, 0.8\]; .* a share"),
    ],
)
def test_broken_summary_is_one_line_that_names_the_file(
    tmp_path: Path, broken: Any, message: str
) -> None:
    with pytest.raises(RecError, match=f"summary.json: not the summary .*{message}") as caught:
        read(tmp_path, broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_numbers_are_finite(tmp_path: Path, number: str) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({**GOOD, "kl": 7}).replace('"kl": 7', f'"kl": {number}'))
    with pytest.raises(RecError, match=r"summary.json: .*kl is (nan|inf); it must be a finite"):
        read_outcome(path, 0.1)


def test_stages_that_read_it_need_no_torch() -> None:
    code = "import sys, stages.evaluate, stages.report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
