"""Stage prepare: clean interactions, split users, lists with negatives, and what was dropped."""

from rec.config import Params
from rec.datasets import read
from rec.files import atomic_path, write_json
from rec.interactions import prepare_histories
from rec.lists import prepare_lists
from rec.tables import INTERACTIONS, ITEMS, LISTS, USERS, write_table
from stages import layout
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Turn the published files into the tables that all later stages read."""
    ratings, items = read(params.data.reader, layout.RAW_DATA)
    histories = prepare_histories(ratings, items, params.data, params.prepare, params.seed)
    prepared = prepare_lists(histories, params.prepare, params.data.positive_rating, params.seed)
    with atomic_path(layout.TABLES) as folder:
        write_table(prepared.interactions, folder / layout.INTERACTIONS.name, INTERACTIONS)
        write_table(histories.items, folder / layout.ITEMS.name, ITEMS)
        write_table(prepared.users, folder / layout.USERS.name, USERS)
        write_table(prepared.lists, folder / layout.LISTS.name, LISTS)
        write_json(folder / layout.PREPARED.name, prepared.summary)


if __name__ == "__main__":
    main()
