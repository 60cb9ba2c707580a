"""The pipeline on one screen: `python -m stages.dag` (or `make dag`).

`dvc dag` draws each of the stages of every round with all its edges, which no screen holds. Here a
stage of several rounds or policies is one box, and an edge that a longer path implies is left out.
"""

import networkx as nx
from dvc.dagascii import draw
from dvc.repo import Repo


def reduced_graph() -> tuple[nx.DiGraph, list[tuple[str, str]]]:
    """The stages of dvc.yaml with the edges that matter, and the edges back with a new policy."""
    with Repo() as repo:
        names = [stage.name.split("@")[0] for stage in repo.index.stages]
        edges = {
            (source.name.split("@")[0], target.name.split("@")[0])
            for target, source in repo.index.graph.edges
        }
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    forward = nx.DiGraph((a, b) for a, b in edges if order[a] < order[b])
    backward = sorted((a, b) for a, b in edges if order[a] > order[b])
    return nx.transitive_reduction(forward), backward


def main() -> None:
    """Print the pipeline."""
    graph, backward = reduced_graph()
    print(draw(list(graph.nodes), [(b, a) for a, b in graph.edges]))
    for source, target in backward:
        print(f"with the new policy: {source} -> {target}")


if __name__ == "__main__":
    main()
