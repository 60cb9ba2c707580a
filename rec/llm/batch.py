"""What one step of the engine decodes, in the form that llama.cpp reads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp
import numpy as np


class Batch:
    """A llama_batch over numpy arrays, filled anew for each step."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self.tokens = np.zeros(size, np.int32)
        self.positions = np.zeros(size, np.int32)
        self.sequences = np.zeros(size, np.int32)
        self.ones = np.ones(size, np.int32)
        self.wanted = np.zeros(size, np.int8)
        integer = ctypes.POINTER(ctypes.c_int32)
        base = self.sequences.ctypes.data
        rows = [ctypes.cast(base + 4 * row, integer) for row in range(size)]
        self.rows = (integer * size)(*rows)
        self.struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=self.tokens.ctypes.data_as(integer),
            embd=None,
            pos=self.positions.ctypes.data_as(integer),
            n_seq_id=self.ones.ctypes.data_as(integer),
            seq_id=self.rows,
            logits=self.wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def clear(self) -> None:
        """Begin a new step."""
        self.count = 0
        self.struct.n_tokens = 0

    def add(
        self, tokens: Sequence[int], position: int, sequence: int, *, wanted: bool = False
    ) -> None:
        """Append tokens of a sequence; the logits after the last one are kept where `wanted`."""
        start, stop = self.count, self.count + len(tokens)
        self.tokens[start:stop] = tokens
        self.positions[start:stop] = np.arange(position, position + len(tokens))
        self.sequences[start:stop] = sequence
        self.wanted[start:stop] = 0
        self.wanted[stop - 1] = wanted
        self.count = stop
        self.struct.n_tokens = stop
