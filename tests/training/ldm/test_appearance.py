"""Changed images: what they may change, and that each is always changed alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gtg_bench.benchmark.datasets.training import TrainingPair, open_training_set
from gtg_bench.training.ldm import appearance
from gtg_bench.training.ldm.appearance import ChangedImages, changed


class Films:
    """A hundred captions of fifty files."""

    name, split = "films", "train"
    options: dict[str, str] = {}  # noqa: RUF012
    fingerprint = "d" * 64
    dropped: dict[str, int] = {}  # noqa: RUF012
    problems: list[object] = []  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 100

    def __getitem__(self, number: int) -> TrainingPair:
        if number >= 100:
            raise IndexError
        return TrainingPair(f"film{number // 2}", "p", self.folder / "film.png", f"caption {number}")


def test_a_share_of_the_images_is_changed_and_always_alike(tmp_path: Path) -> None:
    films = Films(tmp_path)
    half = ChangedImages(films, 0.5)  # type: ignore[arg-type]
    pairs = list(half)  # nothing is read: the file does not exist yet
    assert [pair.text for pair in pairs] == [f"caption {number}" for number in range(100)]
    Image.fromarray(np.linspace(0, 255, 24 * 20).reshape(24, 20).astype(np.uint8)).save(tmp_path / "film.png")
    plain = films[0].pixels()
    pixels = [pair.pixels() for pair in pairs]
    assert 30 < sum((found != plain).any() for found in pixels) < 70
    for first, second in zip(pixels[::2], pixels[1::2], strict=True):
        assert np.array_equal(first, second)
    assert np.array_equal(pairs[0].pixels(), pixels[0])
    several = {found.tobytes() for found in pixels}
    assert len(several) > 20, "images differ in how they are changed"
    assert all((pair.pixels() != plain).any() for pair in ChangedImages(films, 1.0))  # type: ignore[arg-type]


def test_the_fingerprint_is_of_set_share_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = Films(tmp_path)
    marks = {films.fingerprint, *(ChangedImages(films, share).fingerprint for share in (0.3, 0.3, 0.6))}  # type: ignore[arg-type]
    monkeypatch.setattr(appearance, "_VERSION", -1)
    marks.add(ChangedImages(films, 0.3).fingerprint)  # type: ignore[arg-type]
    assert len(marks) == 4


@pytest.mark.parametrize("size", [(128, 128), (90, 120)])
def test_what_is_on_a_side_stays_there(size: tuple[int, int]) -> None:
    """The goals of a round are maps of the plain image, so a finding must not move."""
    image, (height, width) = np.zeros(size, np.float32), size
    region = (slice(height // 4, height // 2), slice(width // 8, 3 * width // 8))
    image[region] = 1
    for seed in range(60):
        found = changed(image, seed)
        assert (found.shape, found.dtype) == (size, np.float32)
        assert (found.min() >= 0, found.max() <= 1) == (True, True)
        inside = found[region].mean()
        for axis in (0, 1):
            assert inside > np.roll(found, size[axis] // 4, axis)[region].mean() + 0.2


def test_findings_are_still_seen() -> None:
    """On average, a changed image of the phantom is as like the plain one as a radiograph is to another exposure."""
    pairs = open_training_set("phantom", None, {"captions": "findings"}, "validate")
    like = []
    for number in range(0, 60, 3):
        plain, other = pairs[number].pixels(), ChangedImages(pairs, 1.0)[number].pixels()
        like.append(np.corrcoef(plain.ravel(), other.ravel())[0, 1])
    assert 0.6 < np.mean(like) < 0.99
