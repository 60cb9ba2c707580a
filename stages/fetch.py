"""Stage fetch: the files of the data set, the LLM or the encoder, as published, sha256 checked."""

import click

from rec.config import Params, source_files
from rec.download import fetch_files
from rec.files import atomic_path
from rec.layout import RAW_DATA, RAW_ENCODER, RAW_LLM
from stages.runner import stage

FOLDERS = {"data": RAW_DATA, "llm": RAW_LLM, "encoder": RAW_ENCODER}


@stage
@click.argument("artifact", type=click.Choice(list(FOLDERS)))
def main(params: Params, artifact: str) -> None:
    """Fetch the files of ARTIFACT from the source that params.yaml chooses."""
    with atomic_path(FOLDERS[artifact]) as folder:
        fetch_files(source_files(getattr(params, artifact)), folder)


if __name__ == "__main__":
    main()
