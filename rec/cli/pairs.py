"""`rec pairs`: browsing the preference pairs of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from rec import layout
from rec.cli.differences import print_texts
from rec.cli.logs import verbose_option
from rec.cli.numbers import not_nan
from rec.cli.output import Column, Form, format_option, print_line, print_records, say, stream_text
from rec.cli.project import Project, project_option
from rec.errors import RecError

if TYPE_CHECKING:
    import polars as pl

_log = logging.getLogger(__name__)

SHOWN = 20  # pairs in a table where no limit is given


def _on_one_line(text: str) -> str:
    return " / ".join(text.splitlines())


_COLUMNS = (
    Column("round", "round", right=True),
    Column("user", "user"),
    Column("margin", "margin", "{:.4f}".format, right=True),
    Column("chosen_score", "chosen", "{:.4f}".format, right=True),
    Column("rejected_score", "rejected", "{:.4f}".format, right=True),
    Column("chosen", "chosen text", _on_one_line, cut=40),
    Column("rejected", "rejected text", _on_one_line, cut=40),
)


@click.command()
@click.option("--round", "round_", type=int, help="Only the pairs of this round.")
@click.option("--user", "users", multiple=True, help="Only those of this user; may be repeated.")
@click.option("--min-margin", type=float, callback=not_nan, help="Only margins of this or more.")
@click.option("--max-margin", type=float, callback=not_nan, help="Only margins of this or less.")
@click.option(
    "--held-out", is_flag=True, help="Pairs of validation users, which nothing was trained on."
)
@click.option(
    "--sort",
    type=click.Choice(["margin", "user"]),
    default="margin",
    show_default=True,
    help="The largest margin first, or users in order.",
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    help=f"At most so many pairs; 0 is all.  [default: {SHOWN} in a table, else all]",
)
@click.option(
    "--full/--list",
    default=None,
    help="Whole texts, differences marked, or a line each.  [default: --full with --user or"
    " --prompt]",
)
@click.option("--prompt", is_flag=True, help="Whole texts with what the LLM was asked.")
@project_option
@format_option
@verbose_option
def pairs(
    round_: int | None,
    users: tuple[str, ...],
    min_margin: float | None,
    max_margin: float | None,
    held_out: bool,
    sort: str,
    limit: int | None,
    full: bool | None,
    prompt: bool,
    project: Project,
    form: Form,
) -> None:
    """Browse preference pairs: what DPO is taught to prefer, and to what.

    Scores and margins are of the measure that the pairs were made by. In whole texts [-words-] are
    in the rejected text alone and {+words+} in the chosen one; on a terminal they have colours.
    """
    if min_margin is not None and max_margin is not None and min_margin > max_margin:
        raise click.UsageError(
            f"--min-margin {min_margin:g} is above --max-margin {max_margin:g}.",
            click.get_current_context(),
        )
    table = _read(project, round_, held_out)
    _require_users(users, table, held_out)
    records = _records(table, users, min_margin, max_margin)
    records.sort(key=_by_margin if sort == "margin" else _by_user)
    most = (SHOWN if form == "table" else 0) if limit is None else limit
    shown = records[: most or None]
    note = _note(len(shown), len(records), table, held_out)
    if form == "table" and (bool(users) or prompt if full is None else full):
        for record in shown:
            _print_whole(record, prompt)
        print_line(note)
    else:
        print_records(shown, _COLUMNS, form, notes=[note])


def _read(project: Project, round_: int | None, held_out: bool) -> pl.DataFrame:
    """The pairs of a round, or of all rounds that have been made, with their round and measure."""
    import polars as pl

    from rec.config import judged_policy

    if round_ is not None:
        judged_policy(project.params, round_)
        return _of_round(project, round_, held_out)
    rounds = [int(name) for name in project.params.rounds]
    if not rounds:
        raise RecError("params.yaml: rounds: none, so that there are no pairs; choose rounds=t2")
    made = [number for number in rounds if layout.pairs(number).exists()]
    for number in rounds if made else ():
        if number not in made:
            command = project.command(f"pairs@{number}")
            say(f"round {number} has no pairs yet: `{command}` makes them")
    made = made or rounds[:1]
    return pl.concat([_of_round(project, number, held_out) for number in made])


def _of_round(project: Project, number: int, held_out: bool) -> pl.DataFrame:
    import polars as pl

    from rec.files import read_json
    from rec.tables import PAIRS, read_table

    stage = f"pairs@{number}"
    place = layout.heldout_pairs if held_out else layout.pairs
    table = read_table(project.require(place(number), stage), PAIRS)
    figures = read_json(project.require(layout.pairs_metrics(number), stage))
    measure = figures.get("measure") if isinstance(figures, dict) else None
    if not isinstance(measure, str):
        path, command = layout.pairs_metrics(number), project.command(stage)
        raise RecError(f"{path}: measure: {measure!r} is no name; run `{command}`")
    _log.info("%s: %d pairs", place(number), table.height)
    named = [pl.lit(number).alias("round"), pl.lit(held_out).alias("held_out")]
    return table.select(*named, pl.lit(measure).alias("measure"), pl.all())


def _require_users(users: Sequence[str], table: pl.DataFrame, held_out: bool) -> None:
    """Raise RecError, with the reason, for a user who has no pair."""
    lacking = [user for user in users if user not in set(table["user"])]
    if lacking:
        raise RecError(f"user {lacking[0]!r} has no such pair: {_reason(lacking[0], held_out)}")


def _reason(user: str, held_out: bool) -> str:
    from rec.tables import USERS, read_table

    splits = dict(read_table(layout.USERS, USERS).select("user", "split").iter_rows())
    split = splits.get(user)
    if split is None:
        return f"{layout.USERS} has no user of that id"
    if split == "test":
        return "a test user, and pairs are made of train and validation users"
    if held_out != (split == "valid"):
        return "a train user: leave out --held-out" if held_out else "of validation: use --held-out"
    return f"none could be made; {layout.pairs(1).parent}/ROUND.json counts why"


def _records(
    table: pl.DataFrame, users: Sequence[str], least: float | None, most: float | None
) -> list[dict[str, Any]]:
    import polars as pl

    wanted = pl.lit(True)
    if users:
        wanted &= pl.col("user").is_in(list(users))
    if least is not None:
        wanted &= pl.col("margin") >= least
    if most is not None:
        wanted &= pl.col("margin") <= most
    return table.filter(wanted).to_dicts()


def _by_margin(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return -record["margin"], record["round"], _natural(record["user"])


def _by_user(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return _natural(record["user"]), record["round"], -record["margin"]


def _natural(user: str) -> tuple[bool, int, str]:
    """Numbers by their value, before other names."""
    decimal = user.isascii() and user.isdecimal()
    digits = user.lstrip("0") if decimal else ""
    return not decimal, len(digits), digits or user


def _note(shown: int, found: int, table: pl.DataFrame, held_out: bool) -> str:
    what = "held-out pairs" if held_out else "pairs"
    first = f", the first {shown} shown (--limit 0 shows all)" if shown < found else ""
    measures = "; ".join(sorted(map(_name, set(table["measure"]))))
    return f"{found} of {table.height} {what}{first}; scores and margins are {measures}"


def _name(measure: str) -> str:
    from rec.pair_metrics import MEASURES

    return MEASURES.get(measure, measure)


def _print_whole(record: Mapping[str, Any], prompt: bool) -> None:
    held_out = " (held out)" if record["held_out"] else ""
    print_line(
        f"Round {record['round']}, user {record['user']}{held_out}:"
        f" margin {record['margin']:.4f} {_name(record['measure'])}"
    )
    if prompt:
        for message in record["messages"]:
            stream_text([f"{message['role']}: {message['content']}"])
    rejected, chosen = (_titled(record, side) for side in ("rejected", "chosen"))
    print_texts(rejected, chosen)
    print_line("")


def _titled(record: Mapping[str, Any], side: str) -> tuple[str, str]:
    sample, score = record[f"{side}_sample"], record[f"{side}_score"]
    return f"{side}, response {sample}: {score:.4f}", record[side]
