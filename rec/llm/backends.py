"""The choice of a backend: llama.cpp here, a server, or transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rec.config import Machine, Sampling
from rec.errors import RecError
from rec.llm.form import Form
from rec.llm.model import Model
from rec.llm.request import Backend
from rec.llm.sampler import SamplerSettings
from rec.machine import cores

if TYPE_CHECKING:
    from rec.llm.engine import Watch

#: Requests in flight at a server, and rows of a batch on a GPU, where params give no number.
_AT_SERVER, _ON_GPU = 32, 256
_PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Policy:
    """An LLM to sample from: the imported model and, but for the base, a LoRA."""

    name: str  # "0" is the base
    gguf: Path
    hf: Path  # the same weights as a Hugging Face folder
    #: Folder with the LoRA as safetensors and as adapter.gguf; or the GGUF, for llama.cpp alone.
    adapter: Path | None = None

    @property
    def adapter_gguf(self) -> Path | None:
        """The LoRA that llama.cpp adds."""
        if self.adapter is None or self.adapter.suffix == ".gguf":
            return self.adapter
        return self.adapter / "adapter.gguf"

    def files(self, backend: str) -> list[Path]:
        """The files that decide what a backend draws. Raises RecError where one is missing."""
        if backend == "transformers":
            files = sorted(self.hf.glob("*.safetensors"))
            if self.adapter:
                files += [self.adapter / name for name in _PEFT_FILES]
        else:
            files = [self.gguf, *([self.adapter_gguf] if self.adapter_gguf else [])]
        for path in files:
            if not path.is_file():
                raise RecError(f"{path}: no such file; run the stage align that writes it")
        return files


@contextmanager
def open_backend(
    policy: Policy,
    model: Model,
    form: Form,
    settings: Sampling,
    machine: Machine,
    *,
    context: int,
    loaded: bool = False,
    watch: Watch | None = None,
) -> Iterator[Backend]:
    """The backend that `settings.backend` names; `model` is the policy's vocabulary.

    Where it is `loaded`, with its weights, llama.cpp reads no other; llama.cpp tells `watch` of
    tokens as they are written, the others do not. Raises RecError where the backend cannot serve
    this policy.
    """
    if settings.backend == "openai":
        opened = _server(policy, model, form, settings, machine)
    elif settings.backend == "transformers":
        opened = _transformers(policy, form, settings, machine, context)
    else:
        weights = model if loaded else None
        opened = _llama_cpp(policy, weights, form, settings, machine, context, watch)
    with opened as backend:
        yield backend


def server_model(policy: Policy, settings: Sampling) -> str:
    """The name of a policy at the server. Raises RecError where it is the base's."""
    name = settings.server_model.replace("{policy}", policy.name)
    if policy.adapter and "{policy}" not in settings.server_model:
        raise RecError(
            f"sampling.server_model {settings.server_model!r} names one model for all policies: "
            f"put {{policy}} into it and let the server know policy {policy.name} "
            f"({policy.adapter}) by that name"
        )
    return name


def sampler_settings(settings: Sampling) -> SamplerSettings:
    """The sampler's part of the parameters."""
    return SamplerSettings(
        settings.temperature,
        settings.top_k,
        settings.top_p,
        settings.min_p,
        settings.repeat_penalty,
    )


@contextmanager
def _llama_cpp(
    policy: Policy,
    loaded: Model | None,
    form: Form,
    settings: Sampling,
    machine: Machine,
    context: int,
    watch: Watch | None,
) -> Iterator[Backend]:
    from rec.llm.context import sequences_that_fit
    from rec.llm.engine import Engine

    threads = machine.threads or cores()
    with nullcontext(loaded) if loaded else Model(policy.gguf) as model:
        fit = sequences_that_fit(model, context, threads)
        with Engine(
            model,
            form,
            sampler_settings(settings),
            context=context,
            parallel=machine.parallel_sequences or fit,
            threads=threads,
            adapter=policy.adapter_gguf,
            deterministic=settings.deterministic,
            watch=watch,
        ) as engine:
            yield engine


@contextmanager
def _server(
    policy: Policy, model: Model, form: Form, settings: Sampling, machine: Machine
) -> Iterator[Backend]:
    from rec.llm.server.completions import CompletionServer

    with CompletionServer(
        model,
        form,
        sampler_settings(settings),
        address=machine.server,
        name=server_model(policy, settings),
        prompts=settings.server_prompts,
        parallel=machine.parallel_sequences or _AT_SERVER,
        timeout=machine.server_timeout,
        retries=machine.server_retries,
    ) as server:
        yield server


@contextmanager
def _transformers(
    policy: Policy, form: Form, settings: Sampling, machine: Machine, context: int
) -> Iterator[Backend]:
    from rec.llm.hf.generation import Generator
    from rec.machine import device

    threads = machine.threads or cores()
    rows = _ON_GPU if device() == "cuda" else 16 * threads
    with Generator(
        policy.hf,
        form,
        sampler_settings(settings),
        context=context,
        parallel=machine.parallel_sequences or rows,
        threads=threads,
        adapter=policy.adapter,
        deterministic=settings.deterministic,
    ) as generator:
        yield generator
