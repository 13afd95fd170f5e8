"""One self-contained HTML file that shows which method is better, where and why, with every sample's maps.

`evidence` collects what the page says about runs, `pictures` images and maps, and `page` writes the file.
"""

from __future__ import annotations

from gtg_bench.benchmark.report.html.page import write_report

__all__ = ["write_report"]
