"""What came out, on the terminal: `python -m stages.results` after `dvc repro`."""

import click

from rec.errors import RecError
from rec.files import read_json
from rec.results import WIDTH, summary, text_table
from stages import layout


@click.command()
def main() -> None:
    """Print the results table and where the metrics and the report lie."""
    try:
        if not layout.METRICS.is_file():
            raise RecError(f"{layout.METRICS}: no results yet; make them with `dvc repro`")
        metrics = read_json(layout.METRICS)
        sentence = click.wrap_text(summary(metrics), WIDTH)
        click.echo(f"{text_table(metrics)}\n\n{sentence}\n")
    except RecError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"metrics: {layout.METRICS.resolve()}")
    if layout.REPORT.is_file():
        click.echo(f"report:  {layout.REPORT.resolve()}")
    else:
        click.echo(f"report:  {layout.REPORT} is not there; make it with `dvc repro report`")


if __name__ == "__main__":
    main()
