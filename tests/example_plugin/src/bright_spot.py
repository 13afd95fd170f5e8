"""A grounding method in a dozen lines: the phrase is ignored, bright is relevant."""

import numpy as np

from gtg_bench.benchmark.api import Frame, GroundingMap, MethodSettings


class BrightSpot:
    """The picture's own brightness as the map."""

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    def ground(self, image: np.ndarray, text: str) -> GroundingMap:
        """float32 [H, W] in [0, 1] -> a map over the whole image."""
        height, width = image.shape
        return GroundingMap(image, Frame.original((width, height)))
