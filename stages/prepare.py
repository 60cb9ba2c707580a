"""Stage prepare: clean interactions, split users, lists of each protocol, what was dropped."""

from rec import layout
from rec.config import Params, protocols
from rec.files import atomic_path, write_json
from rec.preparation import prepare_data
from rec.tables import REJECTS, TablePaths, write_table
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Turn the published files into the tables that all later stages read."""
    machine, work = params.machine, layout.WORK / "prepare"
    with atomic_path(layout.TABLES) as folder:
        folder.mkdir()
        others = protocols(params.data, params.prepare)[1:]
        further = {name: folder / layout.protocol_lists(name).name for name in others}
        tables = (layout.INTERACTIONS, layout.ITEMS, layout.USERS, layout.LISTS)
        counts, rejects = prepare_data(
            params.data,
            params.prepare,
            params.seed,
            TablePaths(*(folder / path.name for path in tables), further=further),
            work,
            machine.memory_limit,
            machine.threads,
        )
        write_table(rejects.table(), folder / layout.REJECTS.name, REJECTS)
        write_json(folder / layout.PREPARED.name, counts)


if __name__ == "__main__":
    main()
