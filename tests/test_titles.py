"""Titles: the article stands in front."""

from __future__ import annotations

import polars as pl
import pytest

from rec.titles import article_first


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ("Usual Suspects, The", "The Usual Suspects"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Tin Drum, The (Blechtrommel, Die)", "The Tin Drum (Die Blechtrommel)"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Enfer, L'", "L'Enfer"),
        ("Hate (Haine, La)", "Hate (La Haine)"),
        ("Convent, The (Convento, O)", "The Convent (O Convento)"),
        ("White Balloon, The (Badkonake Sefid )", "The White Balloon (Badkonake Sefid)"),
        ("American in Paris, An", "An American in Paris"),
        ("I, Worst of All (Yo, la peor de todas)", "I, Worst of All (Yo, la peor de todas)"),
        ("Paris, Texas", "Paris, Texas"),
        ("Bye Bye, Theodore", "Bye Bye, Theodore"),
        ("Seven (Se7en)", "Seven (Se7en)"),
    ],
)
def test_article_moves_to_the_front(published: str, expected: str) -> None:
    table = pl.DataFrame({"title": [published]})
    assert table.select(article_first(pl.col("title"))).item() == expected
