"""The task metric of bundles: who draws, who names, which bytes count."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from bundles import reuse_graphs

from pocket_diffusers.eval import exported
from pocket_diffusers.eval.claims.snapgen import exported as exported_snapgen
from pocket_diffusers.eval.claims.snapgen.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.snapgen.exported import named_right
from pocket_diffusers.eval.claims.snapgen.settings import Settings
from pocket_diffusers.eval.scores.naming import pair_prompt
from pocket_diffusers.training.datasets.pocketworld.scene import HELD_OUT_PAIRS, SEEN_PAIRS


def test_bundles_are_measured_beside_the_original(checkpoints, tmp_path, monkeypatch):
    for package in ("optimum", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra 'export'")
    megabytes, export = {}, exported.export_pipeline

    def weighed(slug, model, back_end, precision, output):
        if precision == "int8":
            reuse_graphs(tmp_path / "fp32", monkeypatch)
        bundle = export(slug, model, back_end, precision, output)
        shutil.copytree(bundle, tmp_path / precision)
        megabytes[precision] = sum(file.stat().st_size for file in bundle.glob("*.onnx")) / 1e6
        assert model == str(checkpoints / "snapgen-nano")
        return bundle

    monkeypatch.setattr(exported, "export_pipeline", weighed)
    monkeypatch.setattr(exported_snapgen, "SEEN_PAIRS", SEEN_PAIRS[:4])
    settings = Settings(checkpoints=checkpoints, back_ends=("onnx",), exported_pictures_a_pair=1)
    rows = {row.id: row for row in BENCHMARK.run(["exported"], tmp_path, settings)}
    fp32, int8, size = (
        rows.pop(f"exported-onnx-{name}") for name in ("fp32-seen-pairs", "int8-seen-pairs", "int8-bytes")
    )
    assert not rows
    assert fp32.n == int8.n == 4
    assert fp32.measured == fp32.rival_measured == int8.rival_measured, "parity means the same pictures, named alike"
    assert (size.measured, size.rival_measured) == (
        pytest.approx(megabytes["int8"], rel=1e-5), pytest.approx(megabytes["fp32"], rel=1e-5),
    )  # fmt: skip
    assert size.better == "lower" and all(row.command.endswith("--only exported") for row in (fp32, int8, size))


def test_pictures_of_pairs_seen_in_training_are_named():
    """A pipeline that draws the number of its prompt, and a judge that reads it but is wrong about cubes."""
    prompts = [pair_prompt(pair) for pair in SEEN_PAIRS]

    def pipeline(texts, generator, **_):
        numbers = torch.tensor([prompts.index(text) / 100 for text in texts])
        return SimpleNamespace(images=numbers[:, None, None, None].expand(-1, 3, 2, 2))

    def name(pictures):
        pairs = [SEEN_PAIRS[round(100 * picture.mean().item())] for picture in pictures]
        return [(color, "cone" if shape == "cube" else shape) for color, shape in pairs]

    cubes = sum(shape == "cube" for _, shape in SEEN_PAIRS)
    score = named_right(SimpleNamespace(name=name), pipeline, 3)
    assert (score.value, score.pictures) == ((40 - cubes) / 40, 120) and score.interval[0] < score.value
    assert cubes and len(SEEN_PAIRS) == 40 and not HELD_OUT_PAIRS & set(SEEN_PAIRS)
