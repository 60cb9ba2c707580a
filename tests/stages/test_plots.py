"""stages.plots: DVC's plots, of the data in the repository, as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import click
import polars as pl
import pytest
import vl_convert
import yaml
from click.testing import CliRunner

from bench.models import ROOT
from stages import plots
from stages.plots import DRAWN, Spec, main, shown, side_by_side


@pytest.fixture(scope="module")
def specs() -> dict[str, Spec]:
    return shown()


def test_every_plot_is_drawn_with_its_title_and_axes(specs: dict[str, Spec]) -> None:
    entries = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    wanted = {title: plot for entry in entries for title, plot in entry.items()}
    assert list(specs) == list(wanted)
    for title, plot in wanted.items():
        svg = vl_convert.vegalite_to_svg(specs[title])
        assert title in svg and plot["y_label"] in svg


def test_reward_models_have_a_line_per_fold(specs: dict[str, Spec]) -> None:
    """A mean over the folds that still train would jump where one stops."""
    models = pl.read_csv(ROOT / "plots/reward.csv").select("round", "fold").n_unique()
    svg = vl_convert.vegalite_to_svg(specs["Reward model, validation NDCG@5"])
    assert svg.count('aria-roledescription="line mark"') == models > 2


def test_protocols_are_named_in_words(specs: dict[str, Spec]) -> None:
    svg = vl_convert.vegalite_to_svg(specs[DRAWN[0]])
    assert "Negatives by popularity" in svg and ">popularity<" not in svg


def test_a_picture(specs: dict[str, Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "shown", lambda: specs)
    done = CliRunner().invoke(main, [str(tmp_path / "plots.png")])
    assert done.exit_code == 0, done.output
    png = (tmp_path / "plots.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) < 200_000
    svg = vl_convert.vegalite_to_svg(json.dumps(side_by_side(specs)))
    assert all(title in svg for title in DRAWN)


def test_a_plot_that_is_not_there_is_named(specs: dict[str, Spec]) -> None:
    without = {title: spec for title, spec in specs.items() if title != DRAWN[1]}
    with pytest.raises(click.ClickException, match="no plot 'Alignment: log"):
        side_by_side(without)
