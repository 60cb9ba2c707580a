"""Stage cards: the aligned adapter and its re-ranker, each with a model card, to be passed on."""

import shutil
from pathlib import Path

from rec import layout
from rec.cards import Adapter, Ranker, adapter_card, ranker_card
from rec.comparison.result import Comparison, Estimate, read_comparison
from rec.comparison.single import own_values
from rec.config import Params, protocols
from rec.files import atomic_path, read_json, sha256
from rec.outcomes import read_outcome
from rec.rerank.reranker import load
from rec.results import NDCG
from rec.tables import USER_METRICS, read_table
from stages.runner import stage

CARD = "README.md"


@stage
def main(params: Params) -> None:
    """Put the last round's adapter and a re-ranker that reads its texts into data/models."""
    comparison, policy = read_comparison(layout.DIFFERENCES), str(len(params.rounds))
    with atomic_path(layout.MODELS) as folder:
        folder.mkdir()
        write_adapter(params, comparison, policy, folder / "adapter")
        write_ranker(params, comparison, policy, folder / "reranker")


def write_adapter(params: Params, comparison: Comparison, policy: str, folder: Path) -> None:
    """A policy's adapter for both runtimes, with its card."""
    adapter = Adapter(
        policy,
        read_json(layout.pairs_metrics(int(policy))),
        read_outcome(layout.alignment_summary(policy), params.align.beta),
        sha256(layout.GGUF),
    )
    shutil.copytree(layout.policy(policy), folder)
    (folder / CARD).write_text(adapter_card(params, comparison, adapter), encoding="utf-8")


def write_ranker(params: Params, comparison: Comparison, policy: str, folder: Path) -> None:
    """The re-ranker of the first backbone and seed that reads a policy's texts, with its card."""
    backbone, seed = params.rerank.backbones[0], params.rerank.seeds[0]
    weights = layout.reranker(policy, backbone, seed)
    described = read_json(layout.training(policy, backbone, seed))
    main_protocol = protocols(params.data, params.prepare)[0]
    parameters = sum(p.numel() for p in load(weights, "cpu").parameters())
    training = described["protocols"][main_protocol]
    own = own_ndcg(params, comparison, (policy, backbone, seed))
    ranker = Ranker(policy, backbone, seed, parameters, training, own)
    folder.mkdir()
    for path in (weights, weights.with_suffix(".json")):
        shutil.copyfile(path, folder / f"model{path.suffix}")
    (folder / CARD).write_text(ranker_card(params, comparison, ranker), encoding="utf-8")


def own_ndcg(
    params: Params, comparison: Comparison, run: tuple[str, str, int]
) -> dict[str, Estimate]:
    """A run's own NDCG@5 on test users by protocol, with as many resamples as the comparison."""
    users = read_table(layout.USER_METRICS, USER_METRICS)
    drawn = (comparison.bootstrap, params.seed)
    return own_values(users, run, comparison.protocols, NDCG, *drawn)


if __name__ == "__main__":
    main()
