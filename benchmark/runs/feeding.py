"""Read the images of coming samples in threads, while the method works on earlier ones.

Decoders release the GIL, so a second core decodes while the first one grounds. The order of the samples, and every
image, are the same with any number of threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import groupby
from threading import Lock

from gtg_bench.benchmark.api.geometry import FloatArray
from gtg_bench.benchmark.api.types import PhraseSample

WORKERS = 2
"""Default number of threads."""

MOST_WORKERS = 64

MOST_BYTES = 2**29
"""Limit of the images that are read ahead: 16 of 2,544 x 3,056 pixels in float32."""

Read = Callable[[PhraseSample], FloatArray]
"""Reads a sample's image, float32 [H, W]; an array of its own, which a method may change."""


class Images:
    """The images of a data set: read when they are asked for, except inside `ahead`.

    Attributes:
        prepare: called in the reading thread with each image that is read ahead, such as to resize it.
    """

    def __init__(self, read: Read) -> None:
        self.read = read
        self.prepare: Callable[[FloatArray], object] | None = None
        self._coming: deque[tuple[PhraseSample, Read]] = deque()
        self._reading: dict[str, tuple[Future[FloatArray], int]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._depth = 0

    def __call__(self, sample: PhraseSample) -> FloatArray:
        """The sample's image, float32 [H, W] in [0, 1]. Raises what the data set raises."""
        if sample.sample_id not in self._reading:
            return self.read(sample)
        passed, found = None, self._reading[sample.sample_id][0]
        while passed is not found:  # samples that were not asked for take up no room
            passed, _ = self._reading.pop(next(iter(self._reading)))
        self._submit()
        return found.result()

    @contextmanager
    def ahead(self, samples: Sequence[PhraseSample], workers: int, depth: int) -> Iterator[None]:
        """Read these samples' images ahead inside the block; the threads end with it.

        An image is decoded once for consecutive samples. Images without a file of their own are not read ahead.

        Args:
            samples: the samples, in the order in which their images will be asked for.
            workers: number of threads; 0 reads nothing ahead.
            depth: most images that are read ahead; fewer if they take more than `MOST_BYTES`, but at least one.
        """
        if not workers:
            yield
            return
        self._coming.extend(_shared([sample for sample in samples if sample.image_path is not None], self.read))
        self._depth = depth
        with ThreadPoolExecutor(workers, "reading") as self._pool:
            try:
                self._submit()
                yield
            finally:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._coming.clear()
                self._reading.clear()

    def _submit(self) -> None:
        """Start to read coming images, up to the limits."""
        assert self._pool is not None
        held = sum(size for _, size in self._reading.values())
        while self._coming and len(self._reading) < self._depth:
            sample, read = self._coming[0]
            size = 4 * sample.image_size[0] * sample.image_size[1]
            if self._reading and held + size > MOST_BYTES:
                return
            self._coming.popleft()
            self._reading[sample.sample_id] = self._pool.submit(self._read, read, sample), size
            held += size

    def _read(self, read: Read, sample: PhraseSample) -> FloatArray:
        image = read(sample)
        if self.prepare:
            with suppress(Exception):  # the method raises it again, for its sample
                self.prepare(image)
        return image


def _shared(samples: Sequence[PhraseSample], read: Read) -> Iterator[tuple[PhraseSample, Read]]:
    """Each sample with what reads its image: decoded for the first of a group of samples, copied for the others.

    A sample without a region is not in a group, because the data set may have a reason to refuse it.
    """
    for _, group in groupby(samples, _image):
        alike = list(group)
        if len(alike) == 1:
            yield alike[0], read
        else:
            once = _Once(read, len(alike))
            yield from ((sample, once) for sample in alike)


class _Once:
    """Reads the image of a group of samples once; each gets an array of its own."""

    def __init__(self, read: Read, samples: int) -> None:
        self.read, self.left = read, samples
        self._image: FloatArray | None = None
        self._lock = Lock()

    def __call__(self, sample: PhraseSample) -> FloatArray:
        """The image. Raises what the data set raises for this sample."""
        with self._lock:
            image = self.read(sample) if self._image is None else self._image
            self.left -= 1
            self._image = image if self.left else None
            return image.copy() if self.left else image


def _image(sample: PhraseSample) -> tuple[object, ...]:
    """Equal for samples with the same image."""
    own = () if sample.boxes or sample.mask else (sample.sample_id,)
    return sample.image_id, sample.image_path, sample.image_size, *own
