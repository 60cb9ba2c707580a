"""Finding the project, and saying what is missing in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from rec.cli.project import Project, find_project, project_option
from rec.errors import RecError
from tests.cli.running import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a folder in it."""
    made = tmp_path / "a project"
    (made / "notes" / "deep").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", made)
    return made


@click.command()
@project_option
@click.argument("path", type=click.Path(path_type=Path), default="params.yaml")
def command(project: Project, path: Path) -> None:
    """Print where it works and what it reads there."""
    project.require(path, "align@1")
    click.echo(f"{Path.cwd()} {project.root} {project.origin} {project.params.policies}")


def call(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)], env=environment)


def test_a_project_is_found_from_any_folder_in_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (root, root / "notes" / "deep"):
        monkeypatch.chdir(folder)
        assert find_project() == root
        assert call().output == f"{root} {root} {folder} ['0', '1', '2']\n"
        assert Path.cwd() == folder


def test_a_project_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = f"{root} {root} {tmp_path} ['0', '1', '2']\n"
    assert call("--project", root.name).output == expected
    assert call(REC_PROJECT=str(root)).output == expected
    assert call("--project", tmp_path / "none").exit_code == 2


def test_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rec.cli.project.PARAMS", Path("params-of-no-folder.yaml"))
    with pytest.raises(RecError, match="go to one, or name one with --project"):
        find_project()
    with pytest.raises(RecError, match=r"no project, it holds no params-of"):
        find_project(tmp_path)


def test_what_is_missing_is_said_with_the_command_that_makes_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        root: "data/policy/1 is missing: run `dvc repro align@1`",
        root / "notes" / "deep": (
            "../../data/policy/1 is missing: run `dvc --cd ../.. repro align@1`"
        ),
        tmp_path: f"{root}/data/policy/1 is missing: run `dvc --cd '{root}' repro align@1`",
    }
    for origin, line in said.items():
        monkeypatch.chdir(origin)
        error = call("--project", root, "data/policy/1").exception
        assert isinstance(error, RecError) and str(error) == line


def test_what_is_there_is_given_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    path = Path("params.yaml")
    assert Project(root, root).require(path, "check") is path
