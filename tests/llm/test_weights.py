"""rec.llm.weights: one model for two runtimes, and files that are none."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rec import layout
from rec.errors import RecError
from rec.files import read_json, sha256
from rec.llm.weights import check_gguf, import_weights
from stages.import_llm import main
from tests.llm.tiny import (
    OTHERS,
    Tiny,
    hf_logits,
    llama_logits,
    load_hf,
    make_model,
    write_gguf,
)

ROOT = Path(__file__).parents[2]
IDS = [5, 80, 300, 41, 7, 9, 200, 310, 222, 14]
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def imported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tiny, Path]:
    """A tiny model and the folder that `import_weights` makes of its GGUF."""
    tiny: Tiny = request.getfixturevalue(f"tiny_{request.param}")
    folder = tmp_path_factory.mktemp("import") / "llm"
    import_weights(tiny.gguf, folder, "bf16", 1)
    return tiny, folder


def gguf_values(path: Path) -> Mapping[str, NDArray[np.float32]]:
    """The tensors of a GGUF of F32 and BF16, in fp32."""
    reader = gguf.GGUFReader(path)
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}


def same_values(values: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool(torch.equal(values.float(), expected.float()))


def test_working_file_is_bf16_with_the_same_values(imported: tuple[Tiny, Path]) -> None:
    tiny, folder = imported
    types = {
        (t.tensor_type.name, len(t.shape)) for t in gguf.GGUFReader(folder / "model.gguf").tensors
    }
    assert types == {("BF16", 2), ("F32", 1)}
    before, after = gguf_values(tiny.gguf), gguf_values(folder / "model.gguf")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_training_folder_has_the_same_values(imported: tuple[Tiny, Path]) -> None:
    tiny, folder = imported
    expected = load_file(tiny.hf / "model.safetensors")
    found = load_file(folder / "hf" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert {value.dtype for value in found.values()} == {torch.bfloat16}
    assert all(same_values(found[name], expected[name]) for name in expected)
    assert read_json(folder / "import.json") == {
        "source_sha256": sha256(tiny.gguf),
        "architecture": read_json(tiny.hf / "config.json")["model_type"],
        "weights": "bf16",
        "chosen_by": "params",
        "largest_rounding": 0.0,
    }


def test_both_runtimes_agree(imported: tuple[Tiny, Path]) -> None:
    _, folder = imported
    sampled = llama_logits(folder / "model.gguf", IDS)
    trained = hf_logits(load_hf(folder / "hf"), IDS)
    assert np.corrcoef(sampled.ravel(), trained.ravel())[0, 1] > 0.999
    assert np.abs(sampled - trained).max() < 0.2 * trained.std()


def test_training_folder_needs_no_quantisation(imported: tuple[Tiny, Path]) -> None:
    _, folder = imported
    config = read_json(folder / "hf" / "config.json")
    assert "quantization_config" not in config
    assert config["num_key_value_heads"] == 2
    assert (folder / "hf" / "tokenizer.json").is_file()


def test_original_weights_are_kept(tiny_llama: Tiny, tmp_path: Path) -> None:
    import_weights(tiny_llama.gguf, tmp_path, "original", 1)
    assert (tmp_path / "model.gguf").read_bytes() == tiny_llama.gguf.read_bytes()
    assert read_json(tmp_path / "import.json")["weights"] == "original"


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bf16"), (False, "f16")])
def test_the_processor_chooses(
    tiny_llama: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool, chosen: str
) -> None:
    monkeypatch.setattr("rec.llm.weights.processor_has_bf16", lambda: fast)
    import_weights(tiny_llama.gguf, tmp_path, "auto", 1)
    about = read_json(tmp_path / "import.json")
    assert (about["weights"], about["chosen_by"]) == (chosen, "processor")
    tensors = gguf.GGUFReader(tmp_path / "model.gguf").tensors
    assert {t.tensor_type.name for t in tensors} == {chosen.upper(), "F32"}
    kinds = {value.dtype for value in load_file(tmp_path / "hf" / "model.safetensors").values()}
    assert kinds == {torch.bfloat16 if fast else torch.float16}
    sampled = llama_logits(tmp_path / "model.gguf", IDS)
    trained = hf_logits(load_hf(tmp_path / "hf"), IDS)
    assert np.corrcoef(sampled.ravel(), trained.ravel())[0, 1] > 0.999


def test_rounding_is_reported(tmp_path: Path) -> None:
    model = make_model("qwen2", 1)
    norm = model.model.norm.weight
    with torch.no_grad():
        norm[0] = 1 + 1 / 1024  # bf16 rounds it to 1
    write_gguf(tmp_path / "m.gguf", model)
    import_weights(tmp_path / "m.gguf", tmp_path / "llm", "bf16", 1)
    assert read_json(tmp_path / "llm" / "import.json")["largest_rounding"] == 1 / 1024


def llama3_factors(factor: float) -> list[float]:
    """Factors of the eight frequencies of the tiny llama, by transformers' own rule."""
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 10000.0 ** (-torch.arange(8) / 8)
    return [float(one) for one in plain / scaled]


def test_rotary_scaling_of_llama_3(tmp_path: Path) -> None:
    factors = llama3_factors(8.0)
    assert factors[0] == 1.0 and 1.0 < factors[6] < factors[7] == pytest.approx(8.0)
    source = tmp_path / "m.gguf"
    write_gguf(source, make_model("llama", 1), rope_factors=factors)
    import_weights(source, tmp_path / "llm", "original", 1)
    ids = [int(one) for one in np.random.default_rng(3).integers(0, 600, 250)]
    model = load_hf(tmp_path / "llm" / "hf")
    right = np.abs(llama_logits(source, ids) - hf_logits(model, ids)).max()
    model = load_hf(tmp_path / "llm" / "hf", rope_parameters=PLAIN)
    unscaled = np.abs(llama_logits(source, ids) - hf_logits(model, ids)).max()
    assert right < 1e-4 < 1e-2 < unscaled


@pytest.mark.parametrize("scaling", [{"rope_factors": [2.0] * 8}, {"rope_scaling": "yarn"}])
def test_other_rotary_scaling_is_refused(tmp_path: Path, scaling: dict[str, Any]) -> None:
    write_gguf(tmp_path / "m.gguf", make_model("llama", 1), **scaling)
    with pytest.raises(RecError, match=r"a model with rotary .* cannot be aligned"):
        import_weights(tmp_path / "m.gguf", tmp_path / "llm", "bf16", 1)


def write_params() -> None:
    shutil.copy(ROOT / "params.yaml", "params.yaml")


def run_stage(source: Path | None) -> str:
    """Run the stage on a raw file that must be refused; its one line."""
    write_params()
    layout.RAW_LLM.mkdir(parents=True)
    if source:
        shutil.copy(source, layout.RAW_LLM / "model.gguf")
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert [path.name for path in layout.DATA.iterdir()] == ["raw"]
    return line.removeprefix("Error: ")


def damaged(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    return path


@pytest.fixture()
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_stage_writes_the_base_policy(tiny_llama: Tiny, project: Path) -> None:
    write_params()
    layout.RAW_LLM.mkdir(parents=True)
    shutil.copy(tiny_llama.gguf, layout.RAW_LLM / "model.gguf")
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 0, result.output
    assert layout.GGUF.is_file() and (layout.HF / "config.json").is_file()
    assert layout.aligned("0") is None


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"no model at all" * 50, b"GGUF\x03\0\0\0" + b"\xff" * 64]
)
def test_garbage(project: Path, tmp_path: Path, content: bytes) -> None:
    line = run_stage(damaged(tmp_path, content))
    assert "data/raw/llm/model.gguf: not a whole GGUF file" in line


@pytest.mark.parametrize("share", [0.001, 0.02, 0.1, 0.5, 0.99])
def test_truncated(project: Path, tmp_path: Path, tiny_llama: Tiny, share: float) -> None:
    whole = tiny_llama.gguf.read_bytes()
    line = run_stage(damaged(tmp_path, whole[: int(len(whole) * share)]))
    assert "data/raw/llm/model.gguf: " in line and "fetch it again" in line


def test_missing(project: Path) -> None:
    assert "no such file; run the stage fetch@llm" in run_stage(None)


def test_every_truncation_is_refused(tmp_path: Path, tiny_qwen2: Tiny) -> None:
    whole = tiny_qwen2.gguf.read_bytes()
    header = whole.index(b"token_embd.weight") + 40
    cuts = [*range(0, 400, 7), *range(400, header, 997), len(whole) - 1]
    for cut in cuts:
        path = damaged(tmp_path, whole[:cut])
        with pytest.raises(RecError) as caught:
            check_gguf(path)
        assert "\n" not in str(caught.value) and "fetch it again" in str(caught.value), cut


def test_wrong_architecture(project: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    write_gguf(path, make_model("llama", 1), architecture="gemma")
    line = run_stage(path)
    assert "architecture 'gemma' cannot be aligned; use llama or qwen2" in line


def test_tensor_missing(project: Path, tmp_path: Path) -> None:
    model = make_model("llama", 1)
    state = {name: v for name, v in model.state_dict().items() if name != "model.norm.weight"}
    incomplete: Any = type(
        "Incomplete", (), {"config": model.config, "state_dict": lambda self: state}
    )()
    write_gguf(tmp_path / "other.gguf", incomplete)
    line = run_stage(tmp_path / "other.gguf")
    assert "the tensor of model.norm.weight is missing" in line


def test_source_of_test_values() -> None:
    """The GGUF of the tests names tensors as llama.cpp does."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    for name, written in OTHERS.items():
        assert names.get_name(name, try_suffixes=(".weight",)) == written
