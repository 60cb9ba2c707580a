"""Stage import-llm: the given GGUF as a working GGUF and as a folder to train from.

Also writes policy 0, the base LLM: a policy without an adapter.
"""

from rec import layout
from rec.config import BASE, Params
from rec.files import atomic_path, write_json
from rec.llm.weights import import_weights
from rec.machine import cores
from stages.runner import stage


@stage
def main(params: Params) -> None:
    """Import the LLM for sampling and for training."""
    with atomic_path(layout.LLM) as folder:
        source = layout.RAW_LLM / "model.gguf"
        import_weights(source, folder, params.llm.weights, params.machine.threads or cores())
    with atomic_path(layout.policy(BASE)) as folder:
        folder.mkdir(parents=True)
        write_json(folder / "policy.json", {"adapter": None, "llm": params.llm.name})


if __name__ == "__main__":
    main()
