"""Stage encode-catalogue: vectors of what is known without an LLM, items and histories as text.

They are the knowledge of the variants "items" and "history", and every policy's item knowledge.
"""

from rec import layout
from rec.config import Params
from rec.files import atomic_path
from rec.knowledge import Encoder, item_text, vectors_table
from rec.machine import use_threads
from rec.tables import ITEMS, PROMPTS, read_table, vectors_schema, write_table
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Encode each item's title, year and categories, and each user's history as plain text."""
    use_threads(params.machine.threads)
    items = read_table(layout.ITEMS, ITEMS)
    prompts = read_table(layout.PROMPTS, PROMPTS)
    encoder = Encoder(layout.RAW_ENCODER, params.encoder.max_tokens, params.encoder.batch_size)
    texts = [
        item_text(row["title"], row["year"], row["categories"])
        for row in items.iter_rows(named=True)
    ]
    schema = vectors_schema(encoder.dimension)
    with atomic_path(layout.CATALOGUE) as folder:
        for keys, values, name in (
            (items["item"].to_list(), texts, layout.ITEM_VECTORS.name),
            (prompts["key"].to_list(), prompts["history"].to_list(), layout.HISTORY_VECTORS.name),
        ):
            table = vectors_table(keys, [0] * len(keys), encoder.encode(values))
            write_table(table, folder / name, schema)


if __name__ == "__main__":
    main()
