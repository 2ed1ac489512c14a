"""The task metric of bundles of packed weights, of a pipeline that is exported within seconds."""

import shutil
from types import SimpleNamespace

import pytest
from bundles import need_back_end, reuse_graphs
from shallow_bitsfusion import save_shallow, shallow_bundle

from pocket_diffusers.eval import exported, named_pairs
from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.bitsfusion.exported import measure_exported
from pocket_diffusers.pipelines.export import export_bundle
from pocket_diffusers.training.datasets.pocketworld.scene import SEEN_PAIRS


def test_bundles_of_packed_weights_are_measured_beside_the_original(
    checkpoints, tmp_path, tmp_path_factory, monkeypatch
):
    need_back_end("onnx")
    shutil.copytree(checkpoints / "clip-nano-judge", tmp_path / "clip-nano-judge")
    whole = shallow_bundle(save_shallow(tmp_path / "bitsfusion-nano"), tmp_path_factory)
    reuse_graphs(whole, monkeypatch)
    monkeypatch.setattr(export_bundle, "measure", lambda *given: {})
    monkeypatch.setattr(named_pairs, "SEEN_PAIRS", SEEN_PAIRS[:4])
    megabytes, export = {}, exported.export_pipeline

    def weighed(slug, model, back_end, precision, output):
        bundle = export(slug, model, back_end, precision, output)
        megabytes[precision] = sum(file.stat().st_size for file in bundle.glob("*.onnx")) / 1e6
        assert (slug, model) == ("bitsfusion", str(tmp_path / "bitsfusion-nano"))
        return bundle

    monkeypatch.setattr(exported, "export_pipeline", weighed)
    settings = SimpleNamespace(checkpoints=tmp_path, back_ends=("onnx",), exported_pictures_a_pair=1)
    benchmark = Benchmark("bitsfusion", settings, {"exported": measure_exported})
    rows = {row.id: row for row in benchmark.measure("exported", tmp_path / "out")}
    fp32, int8, size = (
        rows.pop(f"exported-onnx-{name}") for name in ("fp32-seen-pairs", "int8-seen-pairs", "int8-bytes")
    )
    assert not rows and fp32.n == int8.n == 4
    assert fp32.measured == fp32.rival_measured == int8.rival_measured, "parity means the same pictures, named alike"
    assert size.measured == pytest.approx(megabytes["int8"], rel=1e-5)
    assert size.rival_measured == pytest.approx(megabytes["fp32"], rel=1e-5)
    assert megabytes["int8"] < megabytes["fp32"] and "failed" not in int8.claim
    assert all(row.command == "pocket eval bitsfusion --only exported" for row in (fp32, int8, size))
