"""What came out, on the terminal: `python -m stages.results` after `dvc repro`."""

import click

from rec import layout
from rec.comparison.result import read_comparison
from rec.errors import RecError
from rec.files import read_json
from rec.results import WIDTH, summary, text_tables


@click.command()
def main() -> None:
    """Print the results tables and where the metrics and the report lie."""
    try:
        for path in (layout.FIGURES, layout.DIFFERENCES):
            if not path.is_file():
                raise RecError(f"{path}: no results yet; make them with `dvc repro`")
        comparison = read_comparison(layout.DIFFERENCES)
        sentence = click.wrap_text(summary(comparison), WIDTH)
        click.echo(f"{text_tables(comparison, read_json(layout.FIGURES))}\n\n{sentence}\n")
    except RecError as error:
        raise click.ClickException(str(error)) from error
    for path in (layout.METRICS, layout.DIFFERENCES, layout.USER_METRICS):
        click.echo(f"{path.stem + ':':<13}{path.resolve()}")
    if layout.REPORT.is_file():
        click.echo(f"report:      {layout.REPORT.resolve()}")
    else:
        click.echo(f"report:      {layout.REPORT} is not there; make it with `dvc repro report`")


if __name__ == "__main__":
    main()
