"""The command `rec`: one module per subcommand, each a thin layer over the rest of `rec`.

A module here imports only what is quick to import, and the rest inside its functions, so that
`rec --help` answers at once.
"""

from __future__ import annotations

import click

from rec.cli.group import LazyGroup

#: The commands: heading, name, what it does (the first sentence of the command's own help).
SECTIONS = {
    "Use the models": {
        "profile": "Write what a user prefers, from a history, as an LLM reads it.",
        "rerank": "Rank candidates for a user, and say what texts about the user changed.",
        "compare": "Compare what the base and an aligned LLM write about a prepared user.",
    },
    "Look into a run": {
        "pairs": "Browse preference pairs: what DPO is taught to prefer, and to what.",
    },
    "Look after the project": {
        "doctor": "Check the machine and the project, and say how to mend what is wrong.",
        "store": "Show or prune the responses that were sampled from LLMs.",
    },
}

EXAMPLES = """\b
Examples:
  rec profile --history "Toy Story:5, Fargo:3"
  rec rerank --history "Toy Story:5, Fargo:3" --candidates "Babe, Seven, Twister" --explain
  rec rerank --batch users.jsonl > rankings.jsonl
  rec compare --user 12
  rec pairs --min-margin 0.1
  rec pairs --user 12
  rec doctor
  rec store                 what was sampled from which model, and what was found again
  rec store prune --keep 2GB

`rec COMMAND --help` says more; docs/cli.md shows what each command prints.
"""


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    epilog=EXAMPLES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="rec", prog_name="rec", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Use what the pipeline of DPO4Rec made: an LLM that writes what a user prefers, and
    re-rankers that read it.

    The pipeline itself is DVC's (`dvc repro`, `dvc exp run`). A command works on the project around
    the current folder, or on the one that --project or REC_PROJECT names.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
