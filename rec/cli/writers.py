"""Which LLM writes, and how: options, the parameters that they change, what must be there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rec import layout
from rec.cli.numbers import not_nan
from rec.cli.output import print_line
from rec.cli.project import Project
from rec.cli.text import plain_lines

if TYPE_CHECKING:
    import polars as pl

    from rec.config import Params
    from rec.inference.adapters import Writer
    from rec.inference.profiles import Profile
    from rec.llm.backends import Policy

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Drawing:
    """The options of drawing profiles."""

    adapter: str
    count: int
    seed: int | None
    temperature: float | None

    def params(self, project: Project) -> Params:
        """The project's parameters with what the options change."""
        params = project.params
        if self.seed is not None:
            params = replace(params, seed=self.seed)
        if self.temperature is not None:
            params = replace(
                params, sampling=replace(params.sampling, temperature=self.temperature)
            )
        return params


def drawing_options(function: F) -> F:
    """The options --adapter, -n, --seed and --temperature."""
    options = (
        click.option(
            "--adapter",
            default="aligned",
            show_default=True,
            help="Who writes: base, aligned (the last round of DPO), a policy of params.yaml, or"
            " a folder or .gguf file with a LoRA.",
        ),
        click.option(
            "-n",
            "--n",
            "count",
            type=click.IntRange(1, 1000),
            default=1,
            show_default=True,
            help="How many profiles to write per user.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**31 - 1),
            help="Of sampling.  [default: the project's]",
        ),
        click.option(
            "--temperature",
            type=click.FloatRange(0, 5),
            callback=not_nan,
            help="Of sampling; 0 takes the likeliest token.  [default: the project's]",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def require_writer(adapter: str, project: Project) -> Writer:
    """The LLM of --adapter, whose files are there."""
    from rec.inference.adapters import find_writer

    writer = find_writer(adapter, project.params, project.origin)
    project.require(layout.GGUF, "import-llm")
    if writer.stage and writer.policy.adapter_gguf:
        project.require(writer.policy.adapter_gguf, writer.stage)
    return writer


class Screen:
    """Shows profiles on stdout while they are written, each below its heading."""

    def __init__(self, headings: dict[tuple[str, int], str]) -> None:
        self.headings = headings  # by key and sample; "" for none
        self.at: tuple[str, int] | None = None

    def tell(self, key: str, sample: int, text: str) -> None:
        """Show more of a profile."""
        if (key, sample) != self.at:
            if self.at:
                click.echo()
            self.at = (key, sample)
            if heading := self.headings[key, sample]:
                print_line(heading)
        click.echo(plain_lines(text), nl=False)

    def end(self, profile: Profile) -> None:
        """End a profile, which is shown as a whole where nothing of it was told."""
        if (profile.key, profile.sample) != self.at:
            self.tell(profile.key, profile.sample, profile.text)
        click.echo()


def write_on_screen(
    prompts: pl.DataFrame, policy: Policy, params: Params, count: int
) -> Iterator[Profile]:
    """Yield the profiles of all prompts, which are shown on stdout as they are written."""
    from rec.inference.profiles import write_profiles

    several = {
        (row["key"], sample): _heading(row["user"] if prompts.height > 1 else "", sample, count)
        for row in prompts.iter_rows(named=True)
        for sample in range(count)
    }
    screen = Screen(several)
    for profile in write_profiles(prompts, policy, params, count, together=False, told=screen.tell):
        screen.end(profile)
        yield profile


def _heading(user: str, sample: int, count: int) -> str:
    number = f"profile {sample + 1} of {count}" if count > 1 else ""
    said = ", ".join(filter(None, (f"user {user}" if user else "", number)))
    return f"{said[0].upper()}{said[1:]}:" if said else ""
