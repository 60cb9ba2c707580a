"""A training step as one CUDA graph: models this small otherwise wait for their kernels' launches.

PyTorch's documentation of CUDA graphs has the rules: what is captured reads and writes the same
memory in every replay, has the same sizes, and never waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: A step: the lists [B], a response for each of them (or None), to the sum of the losses, a scalar.
Step = Callable[[Tensor, Tensor | None], Tensor]

#: Steps that run as usual before the capture: libraries set themselves up in them.
WARM_UP = 3


class CapturedStep:
    """Does `step` for batches of one size; from the fourth on it replays the fourth's kernels.

    Every step counts, the first ones too. The sum that a call gives is overwritten by the next.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._done = 0
        self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, lists: Tensor, responses: Tensor | None) -> Tensor:
        """The sum of the losses of one step; all calls have as many `lists`."""
        if self._done < WARM_UP:
            self._done += 1
            return self._warm_up(lists, responses)
        if self._graph is None:
            self._capture(lists, responses)
        self._lists.copy_(lists)
        if self._responses is not None and responses is not None:
            self._responses.copy_(responses)
        assert self._graph is not None
        self._graph.replay()
        return self._losses

    def _warm_up(self, lists: Tensor, responses: Tensor | None) -> Tensor:
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            losses = self._step(lists, responses)
        torch.cuda.current_stream().wait_stream(self._aside)
        return losses

    def _capture(self, lists: Tensor, responses: Tensor | None) -> None:
        """Record the step's kernels without running them."""
        self._lists = lists.clone()
        self._responses = None if responses is None else responses.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._losses = self._step(self._lists, self._responses)
