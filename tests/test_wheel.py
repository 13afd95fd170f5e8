"""A wheel installed elsewhere has everything that the main job needs."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_wheel_runs_the_main_job(tmp_path: Path) -> None:
    source = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith((".typing", "tests")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(build, check=True)
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    target = next((home / "lib").glob("python*")) / "site-packages"
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel], check=True)
    (target / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    where = "import gtg_bench.benchmark as b; print(b.__file__)"
    found = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(target))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    main = ["-c", "from gtg_bench.benchmark.cli import app; app()"]
    words = ["run", "--method", "cxrbert-ldm", "--method", "phrase-prior", "--sampling", "gt-cfg", "--limit", "4"]
    subprocess.run([python, *main, *words], cwd=tmp_path, env=environment, check=True)
    train = [python, *main, "train", "--out", "zoo", "--variant", "nothing"]
    refused = subprocess.run(train, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "unknown variant 'nothing'" in " ".join(refused.stderr.split())
    assert (tmp_path / "leaderboards" / "phantom.csv").read_text().count("\n") == 3
    data = "import importlib.resources as r; print(r.files('gtg_bench.leaderboards').joinpath('published/table1.csv'))"
    found = subprocess.run([python, "-c", data], cwd=tmp_path, capture_output=True, text=True, check=True)
    published = target / "gtg_bench" / "leaderboards"
    assert Path(found.stdout.strip()) == published / "published" / "table1.csv"
    assert sorted({path.suffix for path in published.rglob("*") if path.is_file()}) == [".csv"]
    assert sorted(path.name for path in published.iterdir()) == ["published", "reference"], "a user's numbers"
    table = [python, *main, "table", "1", "--format", "csv"]
    shown = subprocess.run(table, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "table1,published,on MS-CXR,,Atelectasis,CXR-BERT-LDM,mIoU,fraction,0.58,0.01," in shown.stdout
    assert 'table1,measured,"phantom v1, test split, first 4 samples",,Mean over samples,CXR-BERT-LDM' in shown.stdout
