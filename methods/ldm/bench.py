"""What the harness costs on top of the bare U-Net: both measured in turns, in one go, on the same inputs."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gtg_bench.benchmark.api.types import Query
from gtg_bench.methods.ldm.method import LdmMethod
from gtg_bench.methods.ldm.prompts import Prompt

Forward = tuple[int, int]
"""How many forwards of how many rows."""


@torch.inference_mode()
def measure(method: LdmMethod, queries: Sequence[Query], repeats: int) -> dict[str, float]:
    """The cost of the method's sampling mode on a batch of queries.

    Returns:
        seconds_per_sample: U-Net with capture and reduction, image and text encoded before.
        bare_seconds_per_sample: the same number of forwards of the same rows, without capture.
        ratio: median over the repeats of one by the other; each repeat measures both, in changing order.
        image_seconds_per_sample, text_seconds_per_sample: autoencoder and text encoder, each once.
        peak_bytes_over_model: the most that tensors took, minus what they took in a bare forward.
        all_maps_bytes: what keeping the maps of all steps, layers and tokens at the latent size would take.
        forwards_per_sample: rows that go through the U-Net, each a conditional or an unconditional branch.
    """
    method.prompts("warm up", "")  # a lexicon is loaded once
    frames = [method.frame(query.image) for query in queries]
    text, prompts = _timed(method, lambda: [method.prompts(query.text, query.category) for query in queries])
    image, _ = _timed(method, lambda: method.engine.start(method.mode, queries, frames))

    def ours() -> object:
        return method.maps(queries, frames, prompts)

    bare = _bare(method, prompts)
    ours(), bare()  # warm up: kernels are chosen, and text biases computed, once
    pairs = [_pair(method, ours, bare, swapped=bool(number % 2)) for number in range(repeats)]
    return {
        "seconds_per_sample": statistics.median(first for first, _ in pairs) / len(queries),
        "bare_seconds_per_sample": statistics.median(second for _, second in pairs) / len(queries),
        "ratio": statistics.median(first / second for first, second in pairs),
        "image_seconds_per_sample": image / len(queries),
        "text_seconds_per_sample": text / len(queries),
        "peak_bytes_over_model": float(peak_bytes(method, ours) - peak_bytes(method, bare)),
        "all_maps_bytes": float(_all_maps(method, prompts)),
        "forwards_per_sample": sum(count * rows for count, rows in _forwards(method, len(queries))) / len(queries),
    }


def _forwards(method: LdmMethod, batch: int) -> list[Forward]:
    """The forwards of a batch: in GT mode all steps that count, else conditional and unconditional in turn."""
    steps, guidance = len(method.engine.timesteps), method.settings.guidance
    if method.mode == "gt-cfg":
        rows = batch * (method.kept if method.bbm == "none" else steps)
        full, rest = divmod(rows, method.engine.rows)
        return [(full, method.engine.rows), (1, rest)] if rest else [(full, method.engine.rows)]
    guided = method.mode != "text" and guidance not in (None, 1)
    return [(steps + (steps - 1 if guided else 0), batch)]


def _bare(method: LdmMethod, prompts: Sequence[Prompt]) -> Callable[[], object]:
    """The forwards alone, each batch of rows with its own latents and states."""
    engine = method.engine
    states = torch.stack([prompt.states for prompt in prompts]).to(engine.dtype)
    noise = engine.normal(0, 1).to(engine.dtype)

    def run() -> object:
        for count, rows in _forwards(method, len(prompts)):
            sample = torch.arange(rows, device=states.device) % len(prompts)
            for _ in range(count):
                engine.unet(noise.repeat(rows, 1, 1, 1), torch.full_like(sample, 500), states[sample])
        return None

    return run


def _pair(
    method: LdmMethod, ours: Callable[[], object], bare: Callable[[], object], swapped: bool
) -> tuple[float, float]:
    """Seconds of ours and of the bare forwards, one after the other."""
    first, second = (bare, ours) if swapped else (ours, bare)
    times = _timed(method, first)[0], _timed(method, second)[0]
    return (times[1], times[0]) if swapped else times


def _timed(method: LdmMethod, run: Callable[[], Any]) -> tuple[float, Any]:
    _wait(method)
    started = time.perf_counter()
    result = run()
    _wait(method)
    return time.perf_counter() - started, result


def _wait(method: LdmMethod) -> None:
    if method.components.device.type == "cuda":
        torch.cuda.synchronize(method.components.device)


def _all_maps(method: LdmMethod, prompts: Sequence[Prompt]) -> int:
    engine = method.engine
    return len(prompts) * len(engine.timesteps) * len(engine.layers) * len(prompts[0].chosen) * engine.side**2 * 4


def peak_bytes(method: LdmMethod, run: Callable[[], object]) -> int:
    """The most bytes that tensors made by `run` took at a time."""
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
    """Counts the bytes of the tensors that come to life inside; scratch inside of a kernel does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note its new tensors."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
