"""A small project as a run leaves it, for docs/cli.md and the tests of commands without a model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rec import layout
from rec.files import write_json
from rec.llm.request import Request, Response
from rec.llm.store.responses import PLACE, ResponseStore
from rec.tables import PAIRS, USERS, Schema, write_table
from tests.cli.running import ROOT

#: A card of each user, worst first.
CARDS = {
    "12": (
        """Loved films: The Godfather; The Godfather
Disliked films: Jerry Maguire
Favourite genres: Drama
People: Actor, Director
Period: World War II
Mood: Drama, Crime
Similar films: The Godfather""",
        """Loved films: Fargo; The Godfather; Chinatown
Disliked films: Jerry Maguire
Favourite genres: Crime, Drama, Film-Noir
People: Joel Coen, Roman Polanski
Period: 1970s and 1990s
Mood: dark, ironic
Similar films: Blood Simple""",
    ),
    "34": (
        """Loved films: Toy Story
Disliked films: Alien
Favourite genres: Animation
People: Disney
Period: 1990s
Mood: The Lion King
Similar films: Toy Story""",
        """Loved films: Toy Story; Babe
Disliked films: Alien
Favourite genres: Animation, Children's
People: John Lasseter
Period: 1990s
Mood: warm, funny
Similar films: A Bug's Life""",
    ),
    "56": (
        """Loved films: Blade Runner; Star Wars
Disliked films: Evita
Favourite genres: Action
People: Tom Cruise
Period: Star Wars
Mood: exciting
Similar films: Star Wars""",
        """Loved films: Blade Runner; Star Wars
Disliked films: Evita
Favourite genres: Sci-Fi, Action
People: Ridley Scott
Period: 1980s
Mood: tense, visual
Similar films: Brazil""",
    ),
}
#: Round, whether held out, user, score of the rejected and of the chosen response.
PAIRS_MADE = [
    (1, False, "12", 0.5123, 0.6931),
    (1, False, "34", 0.6104, 0.6532),
    (2, False, "12", 0.6211, 0.6931),
    (1, True, "56", 0.4402, 0.4571),
    (2, True, "56", 0.4402, 0.4899),
]
SPLITS = {"12": "train", "34": "train", "56": "valid", "78": "test", "90": "train"}


def write_example(root: Path) -> Path:
    """Write the project; its folder."""
    root.mkdir(parents=True)
    for name in ("params.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    (root / ".dvc").mkdir()
    users = [(user, split, 30, 12) for user, split in SPLITS.items()]
    _write(root / layout.USERS, users, USERS)
    for round_ in (1, 2):
        write_json(root / layout.pairs_metrics(round_), {"measure": "ndcg@5"})
        for held_out, place in ((False, layout.pairs), (True, layout.heldout_pairs)):
            rows = [_pair(*row[2:]) for row in PAIRS_MADE if row[:2] == (round_, held_out)]
            _write(root / place(round_), rows, PAIRS)
    _fill_store(root / PLACE)
    return root


def _write(path: Path, rows: Sequence[tuple[object, ...]], schema: Schema) -> None:
    write_table(pl.DataFrame(rows, schema=dict(schema), orient="row"), path, schema)


def _pair(user: str, rejected: float, chosen: float) -> tuple[object, ...]:
    worse, better = CARDS[user]
    messages = [{"role": "user", "content": "The history of this viewer, latest first."}]
    margin = round(chosen - rejected, 6)
    texts = (better, worse, [5, 6, 7], [5, 6])
    return (f"user:{user}", user, messages, *texts, 2, 0, chosen, rejected, margin)


def _fill_store(root: Path) -> None:
    """Two policies' responses; of the base LLM's half were found again."""
    for adapter in (None, "b" * 64):
        space = {"backend": "llama_cpp", "model": "a" * 64, "adapter": adapter, "temperature": 0.7}
        wanted = [Request(f"user:{user}", (1, 2, int(user)), {0: 1, 1: 2}) for user in SPLITS]
        with ResponseStore(root, space) as store:
            _, missing = store.find(wanted)
            for request in missing:
                for sample, seed in request.seeds.items():
                    ids = tuple(range(80))
                    response = Response(request.key, sample, seed, 3, ids, 0, 5.0)
                    store.add(response, request.prompt)
            if adapter is None:
                store.find(wanted)
