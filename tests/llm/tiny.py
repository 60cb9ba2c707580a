"""Tiny LLMs with random weights: the same values for llama.cpp (GGUF) and transformers (folder).

The GGUF is written here tensor by tensor, on its own authority: nothing of `rec.llm` is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

#: llama.cpp finds a token of this type in any text, whatever it is told of control tokens.
USER_DEFINED = "<tool_call>"
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WORDS = (
    " loved disliked similar favourite films genres people period mood history viewer latest first"
    " the of a an and that they what with none describe taste from watched think answer few user"
    " system assistant title Loved Disliked Similar Favourite People Period Mood The"
)
PRE = {"llama": "smollm", "qwen2": "qwen2"}
LAYERS = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    **{
        f"self_attn.{letter}_proj.{kind}": f"attn_{letter}.{kind}"
        for letter in "qkv"
        for kind in ("weight", "bias")
    },
    "self_attn.o_proj.weight": "attn_output.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
OTHERS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


@dataclass(frozen=True)
class Tiny:
    """A tiny model in both forms, all values exact in bf16."""

    gguf: Path
    hf: Path  # made from the same values, never read back from the GGUF


def byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = iter(range(256, 512))
    return [chr(byte if byte in shown else next(hidden)) for byte in range(256)]


def vocabulary() -> tuple[list[str], list[str]]:
    """Tokens (bytes, merged words, control tokens) and merges of a byte-level BPE."""
    tokens, merges = byte_characters(), []
    for word in WORDS.split():
        for form in (word, "\u0120" + word):
            for end in range(1, len(form)):
                if form[: end + 1] not in tokens:
                    tokens.append(form[: end + 1])
                    merges.append(f"{form[:end]} {form[end]}")
    return [*tokens, USER_DEFINED, *CONTROL], merges


def make_model(architecture: str, seed: int) -> Any:
    """A transformers model with weights large enough that no two tokens are alike."""
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[architecture]
    size = len(vocabulary()[0])
    config = kind(
        vocab_size=size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=architecture == "llama",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=size - 3,
        eos_token_id=size - 1,
        attention_dropout=0.0,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        noise = torch.randn(value.shape, generator=generator) * 0.15
        value.data = ((1 + noise) if "norm" in name else noise).bfloat16().float()
    with torch.no_grad():  # so that lines and texts do end
        model.lm_head.weight[[byte_characters().index("\u010a"), size - 1]] *= 4
    return model


def write_gguf(
    path: Path,
    model: Any,
    *,
    template: str | None = CHATML,
    architecture: str = "",
    rope_factors: Sequence[float] = (),
    rope_scaling: str = "",
) -> None:
    """Write `model` as an F32 GGUF with the vocabulary of this module."""
    config = model.config
    name = config.model_type
    writer = gguf.GGUFWriter(path, architecture or name)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    if name == "llama":
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    if rope_scaling:
        writer.add_string(f"{architecture or name}.rope.scaling.type", rope_scaling)
    if rope_factors:
        writer.add_tensor("rope_freqs.weight", np.array(rope_factors, np.float32))
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(0)
    _add_tokenizer(writer, PRE[name], template)
    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = value.numpy()
        if name == "llama" and key[-13:] in ("q_proj.weight", "k_proj.weight"):
            values = _to_interleaved(values, heads[key[-13]])
        writer.add_tensor(_gguf_name(key), np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, pre: str, template: str | None) -> None:
    tokens, merges = vocabulary()
    kinds = dict.fromkeys(CONTROL, gguf.TokenType.CONTROL)
    kinds[USER_DEFINED] = gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(len(tokens) - 3)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_pad_token_id(len(tokens) - 3)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)


def _gguf_name(key: str) -> str:
    if key in OTHERS:
        return OTHERS[key]
    _, _, layer, name = key.split(".", 3)
    return f"blk.{layer}.{LAYERS[name]}"


def _to_interleaved(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows (i, i + half) of each head become neighbours, as llama.cpp's llama wants them."""
    size = len(values) // heads
    order = [
        head * size + half * size // 2 + row
        for head in range(heads)
        for row in range(size // 2)
        for half in (0, 1)
    ]
    return values[order]


def make_tiny(folder: Path, architecture: str, seed: int = 1) -> Tiny:
    """Build a tiny model in `folder`: model.gguf, and hf/ with the tokenizer of the GGUF."""
    from transformers import AutoTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    model = make_model(architecture, seed)
    write_gguf(folder / "model.gguf", model)
    model.save_pretrained(folder / "hf")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf", local_files_only=True)
    tokenizer.save_pretrained(folder / "hf")
    return Tiny(folder / "model.gguf", folder / "hf")


@contextmanager
def llama(path: Path, adapter: Path | None = None, scale: float = 1.0) -> Iterator[Any]:
    """llama.cpp through its high-level class, in full precision, keeping all logits."""
    model = llama_cpp.Llama(
        str(path),
        logits_all=True,
        n_ctx=256,
        verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        flash_attn=False,
        lora_path=str(adapter) if adapter else None,
        lora_scale=scale,
        n_threads=1,
        n_threads_batch=1,
    )
    try:
        yield model
    finally:
        model.close()


def llama_logits(
    path: Path, ids: list[int], adapter: Path | None = None, scale: float = 1.0
) -> NDArray[np.float32]:
    """llama.cpp's logits after each token."""
    with llama(path, adapter, scale) as model:
        model.eval(ids)
        return np.array(model.scores[: len(ids)], np.float32)


def hf_logits(model: Any, ids: list[int]) -> NDArray[np.float32]:
    """The logits of a transformers model after each token."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    return np.asarray(logits.float().numpy(), np.float32)


def load_hf(folder: Path, **settings: Any) -> Any:
    """The folder's model in fp32."""
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, **settings
    ).eval()
