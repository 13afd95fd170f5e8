"""Measure a method's cost relative to the bare U-Net, alternating both in one process on the same inputs."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gtg_bench.benchmark.api.types import Query
from gtg_bench.methods.ldm.settled import BLOCK

if TYPE_CHECKING:
    from gtg_bench.methods.ldm.method import LdmMethod
    from gtg_bench.methods.ldm.tokens import Prompt


@torch.inference_mode()
def measure(method: LdmMethod, queries: Sequence[Query], repeats: int) -> dict[str, float]:
    """Measure the method's sampling mode on a batch of queries.

    Returns:
        seconds_per_sample: U-Net with capture and reduction; image and text are encoded before.
        bare_seconds_per_sample: as many whole forward passes of the same rows, without capture.
        ratio: median over the repeats of the former by the latter; each repeat measures both, in alternating order.
        image_seconds_per_sample, text_seconds_per_sample: autoencoder and text encoder, once each.
        peak_bytes_over_model: peak bytes of tensors, minus the peak of the bare forward passes; negative where the
            U-Net stops before the layers that need the most.
        all_maps_bytes: bytes that the maps of all steps, layers and tokens would take at the latent size.
        forwards_per_sample: rows that go through the U-Net, each a conditional or an unconditional branch. With
            `--steps auto` their mean over the batch; the bare passes are as many.
    """
    engine, batch, tokens = method.engine, len(queries), method.components.text_encoder.max_length
    method.prompts("warm up", "")  # a lexicon is loaded once
    text, prepared = _timed(method, lambda: method.prepare(queries))
    image, _ = _timed(method, lambda: engine.prepare_latents(method.mode, queries, prepared.frames))

    def ours() -> object:
        return method.maps(prepared)

    _, used = method.maps(prepared)  # warm up: kernels are chosen, and text biases computed, once
    forwards = _forwards(method, batch, used)
    bare = _bare(method, prepared.prompts, forwards)
    bare()
    pairs: list[tuple[float, float]] = []
    for number in range(repeats):
        first, second = (_timed(method, run)[0] for run in ((bare, ours) if number % 2 else (ours, bare)))
        pairs.append((second, first) if number % 2 else (first, second))
    return {
        "seconds_per_sample": statistics.median(first for first, _ in pairs) / batch,
        "bare_seconds_per_sample": statistics.median(second for _, second in pairs) / batch,
        "ratio": statistics.median(first / second for first, second in pairs),
        "image_seconds_per_sample": image / batch,
        "text_seconds_per_sample": text / batch,
        "peak_bytes_over_model": float(peak_bytes(method, ours) - peak_bytes(method, bare)),
        "all_maps_bytes": 4.0 * batch * len(engine.timesteps) * len(engine.layers) * tokens * engine.side**2,
        "forwards_per_sample": sum(count * rows for count, rows in forwards) / batch,
    }


def _forwards(method: LdmMethod, batch: int, used: Sequence[int | None]) -> list[tuple[int, int]]:
    """(forward passes, rows of each): in GT mode all kept steps in batches, else both branches of every step.

    `used`: the steps that each sample took, where the method decides that.
    """
    if taken := [steps for steps in used if steps is not None]:
        full, rest = divmod(sum(taken), BLOCK)
        return [(full, BLOCK), (1, rest)] if rest else [(full, BLOCK)]
    steps, guidance, most = len(method.engine.timesteps), method.settings.guidance, method.engine.rows
    if method.mode == "gt-cfg":
        full, rest = divmod(batch * (method.kept if method.bbm == "none" else steps), most)
        return [(full, most), (1, rest)] if rest else [(full, most)]
    if method.mode == "text" or guidance in (None, 1):
        return [(steps, batch)]
    together = 2 * batch <= most
    return [(steps - 1, 2 * batch), (1, batch)] if together else [(2 * steps - 1, batch)]


def _bare(method: LdmMethod, prompts: Sequence[Prompt], forwards: Sequence[tuple[int, int]]) -> Callable[[], object]:
    """The forward passes alone, each batch of rows with its own latents and states."""
    engine = method.engine
    states = torch.stack([prompt.states for prompt in prompts]).to(engine.dtype)
    noise = engine.normal(0, 1).to(engine.dtype)

    def run() -> None:
        for count, rows in forwards:
            sample = torch.arange(rows, device=states.device) % len(prompts)
            for _ in range(count):
                engine.unet(noise.repeat(rows, 1, 1, 1), torch.full_like(sample, 500), states[sample])

    return run


def _timed(method: LdmMethod, run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and its result."""

    def now() -> float:
        if method.components.device.type == "cuda":
            torch.cuda.synchronize(method.components.device)
        return time.perf_counter()

    started = now()
    result = run()
    return now() - started, result


def peak_bytes(method: LdmMethod, run: Callable[[], object]) -> int:
    """Peak bytes of the tensors that a call of `run` creates."""
    device = method.components.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with TensorBytes() as counted:
        run()
    return counted.peak


class TensorBytes(TorchDispatchMode):
    """Counts the bytes of tensors created inside the block; scratch memory inside a kernel is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its new tensors."""
        out = func(*args, **(kwargs or {}))
        storages = (leaf.untyped_storage() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        for storage in storages:
            key, size = storage._cdata, storage.nbytes()
            if key not in self._alive:
                self._alive.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._forget, key, size)
        return out

    def _forget(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size
