import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from rec.errors import RecError
from rec.knowledge import Encoder, item_text, matrix, read_vectors, vectors_table
from rec.tables import vectors_schema, write_table

CONTROL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz[]().,")
WORDS = ["war", "love", "film", "sep", "cls"]
CLS, SEP = 2, 3


def save_encoder(folder: Path) -> Path:
    """A tiny BERT with random weights and a WordPiece tokenizer that pads and cuts by itself."""
    from transformers import BertConfig, BertModel

    vocabulary = [*CONTROL, *LETTERS, *[f"##{letter}" for letter in LETTERS], *WORDS]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(vocab=numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.add_special_tokens(CONTROL)
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(16)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return Encoder(folder, max_tokens=24, batch_size=4)


@pytest.fixture
def damaged(tmp_path: Path, folder: Path) -> Path:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


class TestTokens:
    def test_control_tokens_in_a_text_are_text(self, encoder: Encoder) -> None:
        for text in ("war [SEP] love", "[CLS]", "[PAD][MASK]", "[UNK]"):
            (ids,) = encoder.token_ids([text])
            assert (ids[0], ids[-1]) == (CLS, SEP)
            assert all(number >= len(CONTROL) for number in ids[1:-1])

    def test_cut_at_max_tokens_without_padding(self, encoder: Encoder) -> None:
        short, long = encoder.token_ids(["war", "war " * 100])
        assert len(short) == 3
        assert len(long) == 24 and long[-1] == SEP

    def test_share_of_texts_that_lose_their_end(self, encoder: Encoder) -> None:
        assert encoder.cut(["war", "war " * 22, "war " * 23, "war " * 100]) == 0.5
        assert encoder.cut([]) == 0


class TestEncode:
    TEXTS = ("war film", "love", "a love film (a)", "", "war " * 50, "war film", "zebra.")

    def test_shape_order_and_length(self, encoder: Encoder) -> None:
        found = encoder.encode(self.TEXTS)
        assert found.shape == (len(self.TEXTS), encoder.dimension) and found.dtype == np.float16
        np.testing.assert_allclose(np.linalg.norm(found.astype(float), axis=1), 1.0, atol=2e-3)
        np.testing.assert_array_equal(found[0], found[5])

    def test_neighbours_in_the_batch_do_not_count(self, encoder: Encoder) -> None:
        together = encoder.encode(self.TEXTS)
        for text, vector in zip(self.TEXTS, together, strict=True):
            np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=0.03)

    def test_mean_over_tokens_that_are_not_padding(self, encoder: Encoder) -> None:
        (ids,) = encoder.token_ids(["a love film (a)"])
        with torch.inference_mode():
            states = encoder._model(input_ids=torch.tensor([ids], device=encoder._device))
        mean = states.last_hidden_state[0].float().mean(0)
        expected = (mean / mean.norm()).cpu().numpy()
        np.testing.assert_allclose(encoder.encode(["a love film (a)"])[0], expected, atol=2e-3)

    def test_no_texts(self, encoder: Encoder) -> None:
        assert encoder.encode([]).shape == (0, encoder.dimension)


class TestFiles:
    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_missing(self, damaged: Path, name: str) -> None:
        (damaged / name).unlink()
        with pytest.raises(RecError, match=f"{name}: no such file"):
            Encoder(damaged, 16, 4)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
    def test_cut_short(self, damaged: Path, name: str) -> None:
        path = damaged / name
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(RecError, match="read") as found:
            Encoder(damaged, 16, 4)
        assert "\n" not in str(found.value)

    def test_a_weight_that_is_missing(self, damaged: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(damaged / "model.safetensors")
        name = next(name for name in weights if name.endswith("output.dense.weight"))
        del weights[name]
        save_file(weights, damaged / "model.safetensors", {"format": "pt"})
        with pytest.raises(RecError, match="is missing"):
            Encoder(damaged, 16, 4)

    def test_weights_that_are_not_finite(self, damaged: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = {
            name: value * torch.nan
            for name, value in load_file(damaged / "model.safetensors").items()
        }
        save_file(weights, damaged / "model.safetensors", {"format": "pt"})
        with pytest.raises(RecError, match="not finite"):
            Encoder(damaged, 16, 4).encode(["war"])

    def test_more_tokens_than_the_model_holds(self, folder: Path) -> None:
        with pytest.raises(RecError, match=r"encoder\.max_tokens: 64 .* holds 32"):
            Encoder(folder, 64, 4)

    def test_tokenizer_of_another_model(self, damaged: Path) -> None:
        path = damaged / "tokenizer.json"
        values = json.loads(path.read_text())
        values["model"]["vocab"]["extra"] = len(values["model"]["vocab"])
        path.write_text(json.dumps(values))
        with pytest.raises(RecError, match="more tokens than"):
            Encoder(damaged, 16, 4)


class TestTables:
    def test_round_trip(self, tmp_path: Path) -> None:
        values = np.arange(6, dtype=np.float16).reshape(3, 2)
        table = vectors_table(["b", "a", "a"], [0, 1, 0], values)
        assert table.rows()[0][:2] == ("a", 0)
        path = tmp_path / "vectors.parquet"
        write_table(table, path, vectors_schema(2))
        np.testing.assert_array_equal(matrix(read_vectors(path)), values[[2, 1, 0]])

    def test_other_tables_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "vectors.parquet"
        with pytest.raises(RecError, match="no such file"):
            read_vectors(path)
        path.write_text("text")
        with pytest.raises(RecError, match="not a readable Parquet"):
            read_vectors(path)
        pl.DataFrame({"key": ["a"]}).write_parquet(path)
        with pytest.raises(RecError, match="'sample' is missing"):
            read_vectors(path)


def test_item_text() -> None:
    assert item_text("Heat", 1995, ["Crime"]) == "Heat (1995). Crime"
    assert item_text("Heat", 1995, []) == "Heat (1995)"
    assert item_text("Heat", None, ["Crime", "Drama"]) == "Heat. Crime, Drama"
