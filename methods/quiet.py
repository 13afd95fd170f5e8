"""Keeps the libraries' loading bars and advice out of our own output."""

from __future__ import annotations

import logging
import warnings


def hush_libraries() -> None:
    """Let transformers, diffusers and accelerate report errors only, and drop a dependency's import warning."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="timm")
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    import diffusers
    import transformers

    for library in (transformers, diffusers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
