"""The task metric of bundles: who draws, who names, which bytes count."""

import shutil

import pytest
from bundles import reuse_graphs

from pocket_diffusers.eval import exported, named_pairs
from pocket_diffusers.eval.claims.snapgen.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.snapgen.settings import Settings
from pocket_diffusers.training.datasets.pocketworld.scene import SEEN_PAIRS


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
    monkeypatch.setattr(named_pairs, "SEEN_PAIRS", SEEN_PAIRS[:4])
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
