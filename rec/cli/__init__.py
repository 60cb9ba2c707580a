"""The command `rec`: one module per subcommand, each a thin layer over the rest of `rec`.

A module here imports only what is quick to import, and the rest inside its functions, so that
`rec --help` answers at once.
"""

from __future__ import annotations

from typing import Any

import click

from rec.cli.store import store
from rec.errors import RecError


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; a RecError is one line on stderr and exit status 1."""
        try:
            return super().invoke(ctx)
        except RecError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Look after what the pipeline of DPO4Rec keeps outside of DVC."""


main.add_command(store)
