"""llama.cpp's context: the cache of keys and values, one stream of it per sequence.

Every sequence has cells of its own, so that a token attends to its own sequence alone. Copying a
sequence copies its cells, which is cheap beside computing them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import llama_cpp

from rec.errors import RecError
from rec.llm.batch import Batch
from rec.llm.model import Model
from rec.machine import available_memory

#: llama.cpp gives a sequence's cells in steps of this many.
_STEP = 256
#: Most tokens that are computed in one go: rows of a matrix product.
_MICRO_BATCH = 512


class CacheFull(Exception):
    """llama.cpp found no cells for the batch; nothing of it was computed."""


class Context:
    """A context of `sequences` sequences of up to `cells` tokens each, numbered from 0.

    Raises RecError where llama.cpp has no memory for it.
    """

    def __init__(
        self,
        model: Model,
        *,
        sequences: int,
        cells: int,
        threads: int,
        decode_threads: int | None = None,
        unified: bool = False,
    ) -> None:
        self.model = model
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = sequences * _padded(cells)
        options.n_batch = max(_MICRO_BATCH, sequences)
        options.n_ubatch = _MICRO_BATCH
        options.n_seq_max = sequences
        options.n_threads = decode_threads or threads  # where a sequence brings one token
        options.n_threads_batch = threads
        options.kv_unified = unified
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.handle = llama_cpp.llama_init_from_model(model.handle, options)
        if not self.handle:
            raise RecError(
                f"llama.cpp cannot make a cache of {sequences} sequences of {cells} tokens; "
                "lower machine.parallel_sequences or llm.context"
            )

        self.batch = Batch(llama_cpp.llama_n_batch(self.handle))

    @property
    def memory(self) -> llama_cpp.llama_memory_t:
        """The cache."""
        return llama_cpp.llama_get_memory(self._open_handle())

    def _open_handle(self) -> llama_cpp.llama_context_p:
        if not self.handle:
            raise RuntimeError("the engine is closed")
        return self.handle

    def close(self) -> None:
        """Free the cache."""
        if self.handle:
            llama_cpp.llama_free(self.handle)
            self.handle = None

    def use_adapter(self, path: Path, scale: float = 1.0) -> None:
        """Add a LoRA (GGUF) to the weights. Raises RecError where it is not one for this model."""
        adapter = llama_cpp.llama_adapter_lora_init(self.model.handle, str(path).encode())
        if not adapter:
            raise RecError(f"{path}: not a LoRA adapter for {self.model.path}")
        adapters = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
        scales = (ctypes.c_float * 1)(scale)
        if llama_cpp.llama_set_adapters_lora(self.handle, adapters, 1, scales) != 0:
            raise RecError(f"{path}: llama.cpp cannot apply this adapter")

    def clear(self) -> None:
        """Forget all sequences."""
        llama_cpp.llama_memory_clear(self.memory, True)

    def copy(self, source: int, target: int) -> None:
        """Make `target` the same sequence as `source`."""
        self.drop(target)
        llama_cpp.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def drop(self, sequence: int) -> None:
        """Forget a sequence."""
        llama_cpp.llama_memory_seq_rm(self.memory, sequence, -1, -1)

    def extend(self, sequence: int, tokens: Sequence[int], position: int) -> None:
        """Compute the tokens of one sequence from `position` on; no logits are kept."""
        for start in range(0, len(tokens), self.batch.size):
            part = tokens[start : start + self.batch.size]
            self.batch.clear()
            self.batch.add(part, position + start, sequence)
            self.decode()

    def decode(self) -> None:
        """Compute the batch. Raises CacheFull where there are no cells for it."""
        status = llama_cpp.llama_decode(self._open_handle(), self.batch.struct)
        if status == 1:
            raise CacheFull
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status} for {self.batch.count} tokens")

    def synchronize(self) -> None:
        """Wait until what was decoded is computed."""
        llama_cpp.llama_synchronize(self._open_handle())


def sequence_bytes(model: Model, cells: int) -> int:
    """Bytes of the cache for a sequence: keys and values of all layers, in 16 bits."""
    handle = model.handle
    heads = llama_cpp.llama_model_n_head(handle)
    width = llama_cpp.llama_model_n_embd(handle) // heads * llama_cpp.llama_model_n_head_kv(handle)
    return int(2 * 2 * llama_cpp.llama_model_n_layer(handle) * width * _padded(cells))


def _padded(cells: int) -> int:
    return -(-cells // _STEP) * _STEP


def sequences_that_fit(model: Model, cells: int, threads: int) -> int:
    """How many responses of `cells` tokens to draw together. At least 1.

    More rows make better matrix products, until attention outweighs them: with two threads the
    best was 48 (docs/performance.md). Half of the free memory, less the weights, is for the cache.
    """
    memory = available_memory() // 2 - model.path.stat().st_size
    room = memory // sequence_bytes(model, cells)
    return int(
        max(1, min(room - 2, 16 + 16 * threads, llama_cpp.llama_max_parallel_sequences() - 2))
    )
