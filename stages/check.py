"""Stage check: params.yaml against its schema, before any stage does work.

Its output never changes, so that it makes nothing stale.
"""

from pathlib import Path

from rec.config import Params
from rec.files import write_json
from rec.layout import DATA
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Check params.yaml: every key, type and range."""
    write_json(Path(DATA / "checked.json"), {"params": "valid"})


if __name__ == "__main__":
    main()
