"""`rec compare`: what two LLMs write about a prepared user, and what it leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rec import layout
from rec.cli.differences import print_texts
from rec.cli.logs import verbose_option
from rec.cli.output import Column, Form, format_option, print_line, print_records, say
from rec.cli.people import read_catalogue
from rec.cli.project import Project, project_option
from rec.cli.rankers import (
    WITHOUT,
    backbone_option,
    chosen_backbone,
    open_encoder,
    require_item_vectors,
    require_reranker,
)
from rec.cli.writers import require_writer

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from rec.inference.adapters import Writer
    from rec.inference.catalogue import Catalogue
    from rec.inference.comparisons import Compared, Side, Subject, Told
    from rec.reward import RewardModel

_REWARDS = ("ndcg@5", "map@5", "log_likelihood")
_RANKS = ("rank_first", "rank_without", "rank_base", "rank_adapter")
_NO_REWARD = {"test": "No reward: a test user, whom no reward model may judge."}

_four = "{:.4f}".format
_REWARD_COLUMNS = (
    Column("llm", "LLM"),
    Column("response", "response"),
    Column("ndcg@5", "NDCG@5", _four, right=True),
    Column("map@5", "MAP@5", _four, right=True),
    Column("log_likelihood", "log-likelihood", _four, right=True),
)
_LIST_COLUMNS = (
    Column("item", "item", right=True),
    Column("title", "title"),
    Column("rank_first", "at first", right=True),
    Column("rank_without", "without", right=True),
)


@click.command()
@click.option("--user", required=True, help="A user of the prepared data.")
@click.option(
    "--adapter",
    default="aligned",
    show_default=True,
    help="The LLM beside the base: aligned (the last round of DPO), a policy of params.yaml, or a"
    " folder or .gguf file with a LoRA.",
)
@click.option(
    "--list",
    "number",
    type=click.IntRange(1),
    help="Which of the user's lists to rank, from 1.  [default: the first with a liked item]",
)
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which of the responses to show and to rank with.",
)
@click.option("--round", "round_", type=int, help="Whose reward models judge.  [default: the last]")
@backbone_option
@project_option
@format_option
@verbose_option
def compare(
    user: str,
    adapter: str,
    number: int | None,
    sample: int,
    round_: int | None,
    backbone: str | None,
    project: Project,
    form: Form,
) -> None:
    """Compare what the base and an aligned LLM write about a prepared user.

    Their texts are those that the pipeline sampled, where it has. A reward is the mean over the
    user's lists of what re-rankers make of them with the text: for a train user by the reward model
    of the user's fold, for a validation user the mean of all folds; no model may judge a test user.
    Reward models read what `reward.text` says, the re-rankers of the comparison what
    `knowledge.text` says. Then one of the user's lists, as these rank it with each text and with
    none.
    """
    from rec.config import BASE_NAME
    from rec.inference.comparisons import Comparer

    catalogue, subject = read_catalogue(project), _subject(user, project)
    chosen = chosen_backbone(backbone, project)
    writers = [require_writer(name, project) for name in (BASE_NAME, adapter)]
    weights = [require_reranker(writer.variant, chosen, project) for writer in writers]
    comparer = Comparer(
        project.params,
        catalogue.items,
        require_item_vectors(project),
        _reward_models(round_, project),
        require_reranker(WITHOUT, chosen, project),
    )
    told = [
        _told(writer, subject, comparer.item_vectors, project, path)
        for writer, path in zip(writers, weights, strict=True)
    ]
    compared = comparer.compare(subject, told, number, sample)
    sides = zip(writers, told, compared.sides, strict=True)
    document = {
        **_about(subject, compared),
        "llms": [_llm(writer, one.texts, side, sample) for writer, one, side in sides],
        "ranking": _ranking(subject, compared, catalogue),
    }
    if form == "table":
        _print(document)
    else:
        print_records([document], (), form, document=document)


def _subject(user: str, project: Project) -> Subject:
    from rec.inference.comparisons import Subject
    from rec.inference.histories import prepared_rows
    from rec.tables import INTERACTIONS, LISTS, PROMPTS

    prompt = prepared_rows(user, project.require(layout.PROMPTS, "prompts"), PROMPTS)
    interactions, lists = (
        prepared_rows(user, project.require(path, "prepare"), schema)
        for path, schema in ((layout.INTERACTIONS, INTERACTIONS), (layout.LISTS, LISTS))
    )
    return Subject(interactions, lists, prompt)


def _reward_models(round_: int | None, project: Project) -> list[RewardModel]:
    """The models of a round, of the last one where none is named; none where there is no round."""
    from rec.config import judged_policy
    from rec.reward import load_models

    number = len(project.params.rounds) if round_ is None else round_
    if round_ is None and number == 0:
        return []
    judged_policy(project.params, number)
    return load_models(project.require(layout.reward(number), f"reward@{number}"))


def _told(
    writer: Writer, subject: Subject, item_vectors: pl.DataFrame, project: Project, weights: Path
) -> Told:
    """An LLM's responses about the user, as its re-ranker and the reward models read them.

    They are those that the pipeline sampled, else as many new ones.
    """
    from rec.inference.comparisons import Told, stored_vectors
    from rec.inference.histories import prepared_rows
    from rec.inference.rankings import encoded
    from rec.tables import RESPONSES

    told, judged = project.params.knowledge.text, project.params.reward.text
    (key,) = subject.prompt["key"]
    path = layout.responses(writer.variant)
    if writer.is_policy and path.is_file():
        project.require(layout.knowledge(writer.variant), f"encode@{writer.variant}")
        texts = prepared_rows(key, path, RESPONSES, "key").sort("sample")
        vectors = {
            kind: stored_vectors(key, writer.variant, kind, item_vectors) for kind in {told, judged}
        }
    else:
        texts, encoder = _written(writer, subject, project), open_encoder(project)
        vectors = {kind: encoded(texts, subject.prompt, encoder, kind) for kind in {told, judged}}
    return Told(texts, vectors[told], vectors[judged], weights)


def _written(writer: Writer, subject: Subject, project: Project) -> pl.DataFrame:
    import polars as pl

    from rec.inference.profiles import write_profiles
    from rec.inference.rankings import TEXTS
    from rec.sampling import sample_counts

    say(f"{writer.name}: the pipeline has sampled nothing of it, so this does")
    (split,) = subject.prompt["split"]
    count = sample_counts(project.params.sampling)[split]
    drawn = write_profiles(subject.prompt, writer.policy, project.params, count)
    rows = [(one.key, one.sample, one.text) for one in drawn]
    return pl.DataFrame(rows, schema=dict(TEXTS), orient="row")


def _about(subject: Subject, compared: Compared) -> dict[str, Any]:
    chosen = subject.lists.row(compared.row, named=True)
    return {
        "user": chosen["user"],
        "split": chosen["split"],
        "list": compared.row + 1,
        "lists": subject.lists.height,
        "ndcg@5_first": compared.first.ndcg,
        "ndcg@5_without": compared.without.ndcg,
    }


def _llm(writer: Writer, texts: pl.DataFrame, side: Side, sample: int) -> dict[str, Any]:
    """What is known of an LLM's texts; the reward is null where no model may judge the user."""
    import polars as pl

    from rec.comparison.names import label, slug

    judged = side.rewards.filter(pl.col("sample") == sample).select(_REWARDS)
    means = side.rewards.select(pl.col(_REWARDS).mean())
    return {
        "llm": label(slug(writer.variant)) if writer.is_policy else writer.name,
        "adapter": writer.name,
        "sample": sample,
        "samples": texts.height,
        "profile": texts.filter(pl.col("sample") == sample)["text"].item(),
        "reward": judged.row(0, named=True) if judged.height else None,
        "mean_reward": means.row(0, named=True) if judged.height else None,
        "ndcg@5": side.ranked.ndcg,
    }


def _ranking(subject: Subject, compared: Compared, catalogue: Catalogue) -> list[dict[str, Any]]:
    """The list, in the order that the texts of the LLM beside the base give it."""
    chosen = subject.lists.row(compared.row, named=True)
    ranked = (compared.first, compared.without, *(side.ranked for side in compared.sides))
    columns = (chosen["items"], chosen["labels"], *(one.ranks for one in ranked))
    rows = [
        {
            "item": item,
            "title": catalogue.label(item),
            "liked": bool(label),
            **dict(zip(_RANKS, places, strict=True)),
        }
        for item, label, *places in zip(*columns, strict=True)
    ]
    return sorted(rows, key=lambda row: row["rank_adapter"])


def _print(document: dict[str, Any]) -> None:
    base, other = document["llms"]
    left, right = (
        (f"{llm['llm']}, response {llm['sample']}", llm["profile"]) for llm in (base, other)
    )
    print_texts(left, right)
    click.echo()
    _print_rewards(document)
    click.echo()
    notes = [
        f"NDCG@5: at first {document['ndcg@5_first']:.4f},"
        f" without texts {document['ndcg@5_without']:.4f},"
        f" {base['adapter']} {base['ndcg@5']:.4f}, {other['adapter']} {other['ndcg@5']:.4f}"
    ]
    if document["split"] == "train":
        notes.append("A train user: the re-rankers have learned from this list.")
    columns = (
        *_LIST_COLUMNS,
        Column("rank_base", base["adapter"], right=True),
        Column("rank_adapter", other["adapter"], right=True),
        Column("liked", "liked", lambda liked: "✓" if liked else ""),
    )
    title = f"List {document['list']} of {document['lists']}, ranked with each response:"
    print_records(document["ranking"], columns, "table", title=title, notes=notes)


def _print_rewards(document: dict[str, Any]) -> None:
    split = document["split"]
    if document["llms"][0]["reward"] is None:
        print_line(_NO_REWARD.get(split, "No reward: no round, or no list with a liked item."))
        return
    records = [
        {"llm": llm["llm"], "response": name, **values}
        for llm in document["llms"]
        for name, values in (
            (f"{llm['sample']}", llm["reward"]),
            (f"mean of {llm['samples']}", llm["mean_reward"]),
        )
    ]
    print_records(records, _REWARD_COLUMNS, "table", title=f"Reward of a {split} user:")
