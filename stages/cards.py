"""Stage cards: the aligned adapter and its re-ranker, each with a model card, to be passed on."""

import shutil
from pathlib import Path

from rec.cards import Adapter, Ranker, adapter_card, ranker_card
from rec.comparison.result import read_comparison
from rec.config import Params, protocols
from rec.files import atomic_path, read_json, sha256
from rec.outcomes import read_outcome
from rec.rerank.reranker import load
from stages import layout
from stages.runner import stage

CARD = "README.md"


@stage
def main(params: Params) -> None:
    """Put the last round's adapter and a re-ranker that reads its texts into data/models."""
    policy = str(len(params.rounds))
    comparison = read_comparison(layout.DIFFERENCES)
    round_ = int(policy)
    adapter = Adapter(
        policy,
        read_json(layout.pairs_metrics(round_)),
        read_outcome(layout.alignment_summary(policy), params.align.beta),
        sha256(layout.GGUF),
    )
    backbone, seed = params.rerank.backbones[0], params.rerank.seeds[0]
    weights = layout.reranker(policy, backbone, seed)
    described = read_json(layout.training(policy, backbone, seed))
    main_protocol = protocols(params.data, params.prepare)[0]
    parameters = sum(p.numel() for p in load(weights, "cpu").parameters())
    ranker = Ranker(policy, backbone, seed, parameters, described["protocols"][main_protocol])
    with atomic_path(layout.MODELS) as folder:
        shutil.copytree(layout.policy(policy), folder / "adapter")
        _write(folder / "adapter" / CARD, adapter_card(params, comparison, adapter))
        (folder / "reranker").mkdir()
        for path in (weights, weights.with_suffix(".json")):
            shutil.copyfile(path, folder / "reranker" / f"model{path.suffix}")
        _write(folder / "reranker" / CARD, ranker_card(params, comparison, ranker))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
