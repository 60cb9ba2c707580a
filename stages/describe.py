"""Stage describe: what the prepared data are, in numbers: data/stats.json."""

from rec import layout
from rec.config import Params
from rec.files import read_json, write_json
from rec.statistics import describe
from rec.tables import TablePaths, read_protocols
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Count the tables, and judge the order of popularity on every split's lists."""
    machine = params.machine
    prepared = read_json(layout.PREPARED)
    further = {name: layout.protocol_lists(name) for name in read_protocols(prepared)[1:]}
    figures = describe(
        TablePaths(layout.INTERACTIONS, layout.ITEMS, layout.USERS, layout.LISTS, further=further),
        prepared,
        layout.WORK / "describe",
        machine.memory_limit,
        machine.threads,
    )
    write_json(layout.STATISTICS, figures)


if __name__ == "__main__":
    main()
