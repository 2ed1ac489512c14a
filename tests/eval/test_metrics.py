"""The metrics as `evaluate` loads them: from their folders, offline, outside the checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pocket_diffusers import checkpoint, eval

evaluate = pytest.importorskip("evaluate", reason="the extra eval is not installed")

METRICS = Path(eval.__file__).with_name("metrics")
CODE = """
import evaluate, json, numpy as np, sys
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

tones = [Image.fromarray(np.full((64, 64, 3), tone, np.uint8)) for tone in (0, 50, 100, 150, 200)]
rows = np.random.default_rng(0).normal(size=(40, 3)).tolist()
for name in ("fid", "kid"):
    metric = evaluate.load(f"{folder}/{name}")
    found = metric.compute(predictions=tones, targets=tones[:4], model=f"{model}/clip-nano")
    assert found["metric"] == f"{name}_clip-nano_5" and found["n_reference"] == 4, found
    found = metric.compute(predictions=rows, targets=rows[:30], extractor="draws")
    assert found["metric"] == f"{name}_draws_40" and abs(found["value"]) < 0.5, found
found = evaluate.load(f"{folder}/miou").compute(
    predictions=[[[0, 1]], [[1, 1], [0, 0]]], references=[[[0, 0]], [[1, 255], [0, 0]]], classes=["a", "b", "c"]
)
assert found["iou"] == {"a": 3 / 4, "b": 1 / 2, "c": None} and found["absent"] == ("c",), found

geneval = evaluate.load(f"{folder}/geneval")
asked = {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a cat"}
cat = {"labels": ["cat"], "scores": [0.9], "boxes": [[0, 0, 8, 8]]}
found = geneval.compute(
    predictions=[json.dumps(cat), json.dumps({**cat, "labels": ["dog"]})],
    references=[json.dumps(asked)] * 2,
    detector="hf",
    compat="official",
)
assert found["metric"] == "geneval_hf" and found["value"] == 0.5 and found["scored"] == 2, found
line = {"metadata": asked, "detector": "mmdet", "weights": None, "detections": {**cat, "masks": None, "colors": None}}
with open("seen.jsonl", "w") as file:
    file.write(json.dumps(line))
found = geneval.compute(path="seen.jsonl", compat="official")
assert found["metric"] == "geneval" and found["value"] == 1 and found["asked"] == 2212, found
try:
    geneval.compute(path="seen.jsonl")
except ValueError as error:
    assert "no complete run of geneval: no picture of tag two_object" in str(error), error
else:
    raise AssertionError("an incomplete run was scored")
"""


def test_every_metric_has_a_card_and_absolute_imports():
    folders = sorted(path.name for path in METRICS.iterdir() if (path / f"{path.name}.py").is_file())
    assert folders == ["clip_score", "fid", "geneval", "kid", "latency", "miou", "storage"]
    for name in folders:
        card = (METRICS / name / "README.md").read_text(encoding="utf-8")
        assert card.startswith("---\ntitle: ") and f'evaluate.load("eval/metrics/{name}")' in card
        source = (METRICS / name / f"{name}.py").read_text(encoding="utf-8")
        room = "geneval" if name == "geneval" else "scores"
        assert f"from pocket_diffusers.eval.{room}." in source
        assert not re.search(r"^\s*(from|import) \.", source, re.MULTILINE), "evaluate.load copies a script elsewhere"


def test_evaluate_loads_and_computes_them_offline(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    checkpoints = checkpoint("clip-nano").parent
    command = [sys.executable, "-c", CODE, str(METRICS), str(checkpoints)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
