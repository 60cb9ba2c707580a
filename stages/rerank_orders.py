"""Stage rerank-orders: the lists of validation and test users in orders that no re-ranker made."""

import polars as pl

from rec import layout
from rec.config import Params
from rec.rerank.variants import ordered, runs_table
from rec.tables import RUNS, write_table
from stages import inputs
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Rank the lists of every protocol by each of `orders`."""
    tables = []
    for protocol in inputs.protocols():
        features = inputs.features(params, protocol)
        rows = inputs.judged_rows(features)
        for order in params.orders:
            ranked = ordered(features, order, rows, params.seed)
            tables.append(runs_table(features, None, ranked, variant=order, protocol=protocol))
    runs = pl.concat(tables).sort("variant", "protocol", "list", "sample")
    write_table(runs, layout.ORDER_RUNS, RUNS)


if __name__ == "__main__":
    main()
