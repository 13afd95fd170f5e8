"""The command line: `gtg-bench` and `python -m gtg_bench`."""

from __future__ import annotations

import sys
import warnings


def main() -> None:
    """Run the command line; Ctrl-C ends it without a traceback from its first moment, exit code 130."""
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # an error of our own says it better than Pillow
    try:
        from gtg_bench.benchmark.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
