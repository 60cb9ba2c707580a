"""rec.report_alignment: the table of what each policy's training came to, and its sentences."""

from __future__ import annotations

from dataclasses import replace

from rec import config
from rec.outcomes import Share
from rec.report_alignment import (
    LOSSES,
    alignment_grid,
    displacement,
    judged,
    setting,
    signed,
)
from rec.report_grid import Grid
from tests.align.settings import SETTINGS
from tests.aligned import outcome


def cells(grid: Grid, name: str) -> list[str]:
    return next(line.cells for line in grid.lines if line.name == name)


def test_alignment_by_hand() -> None:
    grid = alignment_grid({"1": outcome(pairs=0), "2": replace(outcome(), displaced=True)})
    assert grid.columns == ["Alignment", "Round 1", "Round 2"]
    assert cells(grid, "Steps") == ["5", "5"]
    assert cells(grid, "Loss") == ["0.6500", "0.6500"]
    assert cells(grid, "Reward accuracy") == ["0.800", "0.800"]
    assert cells(grid, "Margin") == ["+1.25", "+1.25"]
    assert cells(grid, "Log-ratio, chosen") == ["+0.004", "+0.004"]
    assert cells(grid, "Log-ratio, rejected") == ["−0.00812", "−0.00812"]
    assert cells(grid, "KL to the reference") == ["0.002", "0.002"]
    assert cells(grid, "Likelihood displacement") == ["not seen", "seen"]
    assert cells(grid, "Held-out pairs") == ["0", "10"]
    chance = "not distinguishable from chance"
    likelihood = [f".500 [.240, .760], {chance}", f".600 [.310, .830], {chance}"]
    assert cells(grid, "Held-out likelihood accuracy, before") == ["–", likelihood[0]]
    assert cells(grid, "Held-out likelihood accuracy, after") == ["–", likelihood[1]]
    assert cells(grid, "Held-out reward accuracy") == ["–", ".900 [.600, .980], above chance"]


def test_fine_tuning_stands_beside_the_rounds_without_a_margin() -> None:
    grid = alignment_grid({"1": outcome(), "sft": replace(outcome(), loss=2.5, kl=0.01)})
    assert grid.columns == ["Alignment", "Round 1", "Fine-tuning"]
    assert cells(grid, "Loss") == ["0.6500", "2.5000"]
    assert cells(grid, "Reward accuracy") == ["0.800", "–"]
    assert cells(grid, "Margin") == ["+1.25", "–"]
    assert cells(grid, "KL to the reference") == ["0.002", "0.01"]
    assert cells(grid, "Held-out reward accuracy") == [".900 [.600, .980], above chance"] * 2


def test_numbers_of_alignment_are_short() -> None:
    assert [signed(v) for v in (-0.0, 1234.5, -0.00123456)] == ["+0", "+1.23e+03", "−0.00123"]
    assert judged(Share(1.0, 0.722467, 1.0)) == "1.000 [.722, 1.000], above chance"
    assert judged(Share(0.0, 0.0, 0.277533)) == ".000 [.000, .278], below chance"


def test_displacement_in_words() -> None:
    calm, displaced = outcome(), replace(outcome(), displaced=True)
    assert displacement({"1": calm, "2": calm}).startswith("Likelihood displacement was not seen: ")
    seen = displacement({"1": displaced, "2": calm, "3": displaced})
    assert seen.startswith("Likelihood displacement was seen in round 1, round 3: ")
    assert "was seen in fine-tuning: " in displacement({"1": calm, "sft": displaced})


def test_loss_and_reference_are_named() -> None:
    assert tuple(LOSSES) == config.LOSSES
    words = setting(replace(SETTINGS, loss="ipo", reference="base", beta=0.25))
    assert words.startswith("Loss: ipo (IPO). The reference is the base LLM; ")
    assert "beta (0.25)" in words
    assert "the policy of the round before" in setting(SETTINGS)


def test_the_control_is_explained_where_there_is_one() -> None:
    words = setting(SETTINGS, ["sft"])
    assert words.startswith(setting(SETTINGS))
    assert "fine-tuning is the control" in words.lower()
    assert "control" not in setting(SETTINGS)
