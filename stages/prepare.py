"""Stage prepare: clean interactions, split users, lists with negatives, and what was dropped."""

from rec.config import Params
from rec.files import atomic_path
from rec.preparation import prepare_data
from stages import layout
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Turn the published files into the tables that all later stages read."""
    machine = params.machine
    with atomic_path(layout.TABLES) as folder:
        prepare_data(
            params.data,
            params.prepare,
            params.seed,
            folder,
            layout.WORK / "prepare",
            machine.memory_limit,
            machine.threads,
        )


if __name__ == "__main__":
    main()
