"""dvc.yaml against the code: what a stage imports is what DVC watches."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from rec.curves import ALIGNMENT_CURVES, REWARD_CURVES
from rec.results import results_plot
from tests.synthetic_run import comparison

ROOT = Path(__file__).parents[1]

#: Modules that cannot change what a stage writes: the schema of params.yaml and which policy comes
#: from which (DVC watches the values, dvc.yaml names the files), the text of errors, progress
#: bars, what libraries print, figures about the run, and paths. A change here reruns nothing.
NEUTRAL = {
    "rec/chatter.py",
    "rec/config.py",
    "rec/params.py",
    "rec/errors.py",
    "rec/layout.py",
    "rec/progress.py",
    "stages/__init__.py",
    "stages/runner.py",
}


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml, a `foreach` by its template."""
    entries = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: entry.get("do", entry) for name, entry in entries.items()}


def script(stage: dict[str, Any]) -> str:
    """The stage's script, from `python -m stages.NAME …`."""
    module = stage["cmd"].split()[2]
    return str(module.replace(".", "/") + ".py")


def imported(path: str) -> set[str]:
    """Files of this project that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = set()
    for name in names:
        place = Path(*name.split("."))
        for parent in [place, *place.parents][:-1]:
            for candidate in (parent.with_suffix(".py"), parent / "__init__.py"):
                if (ROOT / candidate).is_file():
                    files.add(candidate.as_posix())
    return files


def has_code(path: str) -> bool:
    """Whether a file holds more than its docstring."""
    return len(ast.parse((ROOT / path).read_text()).body) > 1


def closure(path: str) -> set[str]:
    """A script and the files that it imports, directly or not, without the neutral ones."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in seen and current not in NEUTRAL:
            seen.add(current)
            waiting += imported(current)
    return {file for file in seen if has_code(file)}


@pytest.mark.parametrize("name", stages())
def test_deps_are_the_modules_that_the_stage_imports(name: str) -> None:
    stage = stages()[name]
    deps = {dep for dep in stage.get("deps", []) if dep.endswith((".py", ".j2", ".css", ".js"))}
    expected = closure(script(stage))
    for module, cards in (("rec/report.py", False), ("rec/cards.py", True)):
        if module in expected:
            names = [path.name for path in (ROOT / "rec/templates").iterdir()]
            expected |= {f"rec/templates/{name}" for name in names if ("card" in name) == cards}
    assert deps == expected


def test_neutral_modules_import_no_other_module_of_the_method() -> None:
    for path in NEUTRAL:
        others = {file for file in imported(path) - NEUTRAL if has_code(file)}
        assert others <= {"rec/files.py"}, path


def plots() -> dict[str, dict[str, Any]]:
    """The plots of dvc.yaml by title."""
    entries = yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]
    return {title: plot for entry in entries for title, plot in entry.items()}


@pytest.mark.parametrize("title", plots())
def test_plots_are_of_columns_that_are_there(title: str) -> None:
    columns = {
        "plots/results.csv": results_plot(comparison()).columns,
        "plots/reward.csv": list(REWARD_CURVES),
        "plots/alignment.csv": list(ALIGNMENT_CURVES),
    }
    plot = plots()[title]
    assert (ROOT / f".dvc/plots/{plot['template']}.json").is_file()
    for path, fields in plot["y"].items():
        named = fields if isinstance(fields, list) else [fields]
        assert {plot["x"], *named} <= set(columns[path])
        assert (plot["template"] == "by_side") == (len(named) == 2)


@pytest.mark.parametrize("name", stages())
def test_every_stage_runs_as_a_module(name: str) -> None:
    path = ROOT / script(stages()[name])
    assert '__name__ == "__main__"' in path.read_text()


def used_params(path: str) -> set[str]:
    """Parameters that a file reads: `params.BLOCK.KEY`, `params.KEY`, or a whole `params.BLOCK`."""
    parents: dict[ast.AST, ast.AST] = {}
    tree = ast.parse((ROOT / path).read_text())
    for node in ast.walk(tree):
        parents |= dict.fromkeys(ast.iter_child_nodes(node), node)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "params":
            names: list[str] = []
            outer: ast.AST = parents[node]
            while isinstance(outer, ast.Attribute) and len(names) < 2:
                names.append(outer.attr)
                outer = parents[outer]
            if names and names[0] != "machine":
                found.add(".".join(names))
    return found


#: Not read as `params.…`: a round's policy comes through `judged_policy` or `start_policy`.
OTHERWISE = {"rounds.${key}"}
#: Files besides the script that take parameters for a stage.
READERS = {"rec/align/origin.py", "stages/inputs.py"}
#: Read, but only to refuse a policy that is not there.
UNTRACKED = {"policies"}


@pytest.mark.parametrize("name", sorted(set(stages()) - {"check", "fetch", "report", "cards"}))
def test_params_are_the_ones_that_the_stage_reads(name: str) -> None:
    stage = stages()[name]
    declared = set(stage.get("params", [])) - OTHERWISE
    files = {script(stage)} | (closure(script(stage)) & READERS)
    used = {key for file in files for key in used_params(file)}
    uncovered = {k for k in used if k not in declared and k.split(".")[0] not in declared}
    assert uncovered - (UNTRACKED if name != "evaluate" else set()) == set()
    unused = {k for k in declared if not any(u == k or u.startswith(f"{k}.") for u in used)}
    assert unused == set()
