"""`rec rerank`: candidates ranked for a history, with a profile's knowledge and without."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rec.cli.logs import verbose_option
from rec.cli.output import Column, Form, format_option, print_records, say
from rec.cli.people import (
    FILE,
    STDIN,
    Asked,
    asked_for,
    history_options,
    read_catalogue,
    read_people,
    read_text,
    say_matches,
)
from rec.cli.project import Project, project_option
from rec.cli.rankers import (
    WITHOUT,
    backbone_option,
    chosen_backbone,
    open_encoder,
    require_item_vectors,
    require_reranker,
)
from rec.cli.writers import Drawing, drawing_options, require_writer, write_on_screen
from rec.errors import RecError

if TYPE_CHECKING:
    from rec.config import Params
    from rec.inference.adapters import Writer
    from rec.inference.catalogue import Catalogue, Match
    from rec.inference.rankings import Place, Ranker

_log = logging.getLogger(__name__)


def _moved(places: int) -> str:
    return f"{places:+d}" if places else "="


_COLUMNS = (
    Column("rank", "rank", right=True),
    Column("item", "item", right=True),
    Column("title", "title"),
    Column("score", "score", "{:.3f}".format, right=True),
    Column("rank_without", "without", right=True),
    Column("change", "change", _moved, right=True),
)


@click.command()
@history_options
@click.option("--candidates", help="What to rank, titles or ids: 'Babe, Seven, #50'.")
@click.option("--candidates-file", type=FILE, help="The same as a file; - is stdin.")
@click.option(
    "--batch",
    type=FILE,
    help='Many users: JSON lines {"user", "history", "candidates"}; - is stdin.',
)
@drawing_options
@backbone_option
@click.option("--explain", is_flag=True, help="Show the profiles that the re-ranker was told.")
@project_option
@format_option
@verbose_option
def rerank(
    user: str | None,
    history: str | None,
    history_file: str | None,
    candidates: str | None,
    candidates_file: str | None,
    batch: str | None,
    adapter: str,
    count: int,
    seed: int | None,
    temperature: float | None,
    backbone: str | None,
    explain: bool,
    project: Project,
    form: Form,
) -> None:
    """Rank candidates for a user, and say what texts about the user changed.

    An LLM writes a profile of the history (see `rec profile`), and the re-ranker of the comparison
    that learned from this LLM's texts ranks the candidates; of several profiles it is told each,
    and the mean of its scores counts. The column "without" is the rank by the re-ranker that knows
    no text (No knowledge in the results table), "change" by how many places the texts moved a
    candidate up: the profile and, by default, the history's titles before it. Both know the history
    by its items' numbers. Only differences of scores mean something.

    --batch answers each line by a line, in their order, whatever --format says.
    """
    context = click.get_current_context()
    alone = (user, history, history_file, candidates, candidates_file)
    drawing = Drawing(adapter, count, seed, temperature)
    if batch is not None:
        if any(one is not None for one in alone):
            raise click.UsageError(
                "--batch holds histories and candidates; name no others.", context
            )
        _rank_many(batch, _models(drawing, backbone, project), explain, project)
        return
    asked = asked_for(user, history, history_file)
    if (candidates is None) == (candidates_file is None):
        raise click.UsageError("Name candidates by --candidates or --candidates-file.", context)
    if history_file == candidates_file == STDIN:
        raise click.UsageError("stdin holds the history or the candidates, not both.", context)
    to_rank = _Candidates(candidates, candidates_file)
    _rank_one(asked, to_rank, _models(drawing, backbone, project), explain, project, form)


@dataclass(frozen=True)
class _Models:
    """What writes and what ranks. The files are there; nothing is loaded."""

    writer: Writer
    params: Params
    count: int
    backbone: str
    told: Path
    untold: Path

    def ranker(self, catalogue: Catalogue, project: Project) -> Ranker:
        """The re-rankers, loaded."""
        from rec.inference.rankings import Ranker

        vectors, encoder = require_item_vectors(project), open_encoder(project)
        return Ranker(self.params, catalogue.items, vectors, encoder, self.told, self.untold)

    def __str__(self) -> str:
        from rec.comparison.names import label, slug

        names = [label(slug(variant)) for variant in (self.writer.variant, WITHOUT)]
        return f"re-ranker {self.backbone} of {names[0]!r}; without: of {names[1]!r}"


def _models(drawing: Drawing, backbone: str | None, project: Project) -> _Models:
    writer, chosen = require_writer(drawing.adapter, project), chosen_backbone(backbone, project)
    told, untold = (
        require_reranker(variant, chosen, project) for variant in (writer.variant, WITHOUT)
    )
    return _Models(writer, drawing.params(project), drawing.count, chosen, told, untold)


@dataclass(frozen=True)
class _Candidates:
    """The options that say what to rank, one of which is given."""

    text: str | None
    file: str | None

    def find(self, catalogue: Catalogue) -> tuple[Match, ...]:
        """The items; says which titles they were taken for."""
        from rec.inference.entries import read_entries, text_entries
        from rec.inference.histories import resolve_candidates

        if self.text is not None:
            entries = text_entries(self.text, "--candidates", rated=False)
        else:
            name, text = read_text(str(self.file))
            entries = [
                entry for rows in read_entries(text, name, rated=False).values() for entry in rows
            ]
        if not entries:
            raise RecError("--candidates: there is no item in it")
        found = resolve_candidates(entries, catalogue)
        say_matches([match for match in found if match.approximate])
        return found


def _rank_one(
    asked: Asked,
    candidates: _Candidates,
    models: _Models,
    explain: bool,
    project: Project,
    form: Form,
) -> None:
    from rec.inference.profiles import write_profiles
    from rec.inference.rankings import Task

    catalogue = read_catalogue(project)
    people = read_people(asked, project, catalogue)
    if len(people.histories) > 1:
        raise RecError(
            f"{asked.file}: {len(people.histories)} users; it ranks for one, --batch for many"
        )
    items = tuple(match.item for match in candidates.find(catalogue))
    ranker = models.ranker(catalogue, project)
    wanted = (people.prompts, models.writer.policy, models.params, models.count)
    shown = explain and form == "table"
    profiles = list(write_on_screen(*wanted) if shown else write_profiles(*wanted, together=False))
    ((user, history),) = people.histories.items()
    texts = tuple(profile.text for profile in profiles)
    (places,) = ranker.rank([Task(user, history, people.prompts["history"][0], texts, items)])
    ranking = list(_ranking(places, catalogue))
    document = _document(user, texts if explain else (), ranking)
    if shown:
        click.echo()
    print_records(ranking, _COLUMNS, form, notes=[str(models)], document=document)


def _rank_many(batch: str, models: _Models, explain: bool, project: Project) -> None:
    from rec.inference.batches import rank_jobs, read_jobs
    from rec.inference.histories import Scale

    name, text = read_text(batch)
    catalogue = read_catalogue(project)
    jobs = read_jobs(text, name, catalogue, Scale.of(project.params))
    _say_approximate([match for job in jobs for match in job.matches])
    ranker = models.ranker(catalogue, project)
    done = rank_jobs(jobs, models.writer.policy, models.params, models.count, ranker)
    records = (
        _document(
            one.job.user,
            [profile.text for profile in one.profiles] if explain else (),
            list(_ranking(one.places, catalogue)),
        )
        for one in done
    )
    print_records(records, (), "jsonl")


def _say_approximate(matches: Sequence[Match]) -> None:
    near = dict.fromkeys(match for match in matches if match.approximate)
    for match in near:
        _log.info("%s", match)
    if near:
        some = "; ".join(map(str, list(near)[:3]))
        say(f"taken for titles that they are not: {len(near)} texts, such as {some}")


def _ranking(places: Sequence[Place], catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    for place in places:
        named = {"rank": place.rank, "item": place.item, "title": catalogue.label(place.item)}
        yield {**named, **asdict(place), "change": place.change}


def _document(
    user: str, profiles: Sequence[str], ranking: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    told = {"profiles": list(profiles)} if profiles else {}
    return {"user": user or None, **told, "ranking": ranking}
