"""Titles as MovieLens writes them: the article at the end, then the year."""

from __future__ import annotations

import polars as pl

#: Articles that titles carry at their end, in the languages of the data; then one without a space.
ARTICLES = (
    "The|A|An|La|Le|Les|Lo|El|Los|Las|Il|I|Gli|Un|Une|Una|Der|Die|Das|Ein|Eine|Det|Den|De|O|Os"
)
ELIDED = "L'"
#: The year at the end of a title; a series has its first and perhaps its last.
YEAR = r"\s*\(([0-9]{4})(?:\s*[-–]\s*(?:[0-9]{4})?)?\)\s*(?:\((?:V|TV)\))?\s*$"


def article_first(title: pl.Expr) -> pl.Expr:
    """Move the article from the end of a title, and of each title in parentheses, to its front.

    "Tin Drum, The (Blechtrommel, Die)" becomes "The Tin Drum (Die Blechtrommel)".
    """
    title = title.str.replace_all(r"\s+\)", ")")
    for articles, space in ((ARTICLES, " "), (ELIDED, "")):
        title = title.str.replace(
            rf"^([^()]+), ({articles})(\s*\(|$)", f"${{2}}{space}${{1}}${{3}}"
        ).str.replace_all(rf"\(([^()]+), ({articles})\)", f"(${{2}}{space}${{1}})")
    return title
