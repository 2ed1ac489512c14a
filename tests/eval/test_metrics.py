"""The metrics as `evaluate` loads them: from their folders, offline, outside the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pocket_diffusers import checkpoint, eval

evaluate = pytest.importorskip("evaluate", reason="the extra eval is not installed")

METRICS = Path(eval.__file__).with_name("metrics")
CODE = """
import evaluate, numpy as np, sys
from PIL import Image

folder, model = sys.argv[1:]
picture = Image.fromarray(np.full((64, 64, 3), 128, np.uint8))
clip = evaluate.load(f"{folder}/clip_score")
found = clip.compute(predictions=[picture, picture], references=["a cube", "a cone"], model=f"{model}/clip-nano")
assert found["backbone"].startswith("clip-nano: ViT") and found["scale"] == 1 and found["n"] == 2, found
assert -1 <= found["clip_score"] <= 1
clip.add(prediction=picture, reference="a red cube")
assert clip.compute()["backbone"].startswith("clip-nano-judge")
found = evaluate.load(f"{folder}/latency").compute(call=lambda: sum(range(1000)), repeats=3)
assert found["latency_ms"] > 0 and found["n"] == 3, found
found = evaluate.load(f"{folder}/storage").compute(path=f"{model}/clip-nano")
assert 16 <= found["bits_per_parameter"] < 17, found
"""


def test_every_metric_has_a_card_and_absolute_imports():
    folders = sorted(path.name for path in METRICS.iterdir() if (path / f"{path.name}.py").is_file())
    assert folders == ["clip_score", "latency", "storage"]
    for name in folders:
        card = (METRICS / name / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---\ntitle: ") and f'evaluate.load("eval/metrics/{name}")' in card
        source = (METRICS / name / f"{name}.py").read_text(encoding="utf-8")
        assert f"from pocket_diffusers.eval.{name} import" in source and "import ." not in source


def test_evaluate_loads_and_computes_them_offline(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    checkpoints = checkpoint("clip-nano").parent
    command = [sys.executable, "-c", CODE, str(METRICS), str(checkpoints)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
