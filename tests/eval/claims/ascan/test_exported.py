"""The tasks that AsCAN's bundles do: what is counted, and that a bundle and its original see the same."""

from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from bundles import bundle_of, reuse_graphs

from pocket_diffusers.eval import exported
from pocket_diffusers.eval.benchmark import CHECKPOINTS, Run
from pocket_diffusers.eval.claims.ascan.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.ascan.exported import draw_named, find_objects, read_digits
from pocket_diffusers.eval.exported import ExportedTask, Score, measure_bundles
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.eval.scores.retrieval import world_records
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.digits import load_digits
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS


def test_digits_that_are_read_count():
    truth = load_digits("test").labels.tolist()

    def reads_all_but_ones(pictures, top_k):
        return SimpleNamespace(labels=[["7" if label == 1 else str(label)] for label in truth])

    score = read_digits(reads_all_but_ones)
    assert score.value == 1 - truth.count(1) / len(truth) and score.pictures == len(truth)


def test_objects_that_are_found_count():
    records = list(islice(world_records("test", 32), 6))
    exact = list(map(ground_truth, records))
    nothing = Detections((), (), (), (), ())
    assert find_objects(SimpleNamespace(detect=lambda pictures: exact), records).value == 1
    half = [*exact[:3], *[nothing] * 3]
    found, lost = (sum(map(len, part)) for part in (exact[:3], exact[3:]))
    score = find_objects(SimpleNamespace(detect=lambda pictures: half), records)
    assert score.value == pytest.approx(2 * found / (2 * found + lost)) and score.pictures == 6


def test_classes_that_the_judge_finds_count():
    """A generator that draws the class it is asked for, and a judge that takes every cone for a cube."""

    def draw(labels, generator, output_type):
        return SimpleNamespace(images=labels)

    def judge(labels):
        return [_one(*label.replace("cone", "cube").split()) for label in labels]

    score = draw_named(draw, judge, 2)
    cones = sum(shape == "cone" for _, shape in ALL_PAIRS)
    assert cones == 10 and (score.value, score.pictures) == ((50 - cones) / 50, 100)


def _one(color: str, shape: str) -> Detections:
    return Detections((shape,), (1.0,), ((2, 2, 6, 6),), None, (color,))


def test_a_bundle_is_measured_beside_the_original(tmp_path, tmp_path_factory, monkeypatch):
    reuse_graphs(bundle_of("ascan-nano-digits", "onnx", tmp_path_factory), monkeypatch)
    task = ExportedTask("digits", "ascan-nano-digits", "digits are read.", read_digits)
    fp32, int8, size = measure_bundles(Run(BENCHMARK, "exported", tmp_path), [task], CHECKPOINTS, ["onnx"])
    assert [row.id for row in (fp32, int8, size)] == [
        "exported-onnx-fp32-digits", "exported-onnx-int8-digits", "exported-onnx-int8-bytes",
    ]  # fmt: skip
    assert fp32.measured == fp32.rival_measured == int8.rival_measured and fp32.n == 360
    assert int8.measured > int8.rival_measured - 0.02 and size.measured < size.rival_measured / 2


def test_a_bundle_that_fails_has_rows_that_say_why(tmp_path, monkeypatch):
    """Of two tasks one cannot be exported in int8, the other's bundle cannot be used at all."""

    def export(slug, model, back_end, precision, output):
        if (Path(model).name, precision) == ("ascan-nano-digits", "int8"):
            raise ValueError("digits is too far from eager.")
        return precision

    def use(pipeline):
        if isinstance(pipeline, str):
            raise RuntimeError("out of memory")
        return Score.of(3, 4)

    monkeypatch.setattr(exported, "export_pipeline", export)
    monkeypatch.setattr(exported, "load_bundle", lambda bundle: bundle)
    monkeypatch.setattr(exported, "measure_storage", lambda bundle: SimpleNamespace(weight_bytes=2_000_000))
    tasks = [
        ExportedTask("digits", "ascan-nano-digits", "digits are read.", lambda pipeline: Score.of(1, 2)),
        ExportedTask("named", "ascan-nano", "classes are drawn.", use),
    ]
    run = Run(BENCHMARK, "exported", tmp_path)
    rows = {row.id.removeprefix("exported-onnx-"): row for row in measure_bundles(run, tasks, CHECKPOINTS, ["onnx"])}
    assert list(rows) == ["fp32-digits", "fp32-named", "int8-digits", "int8-named", "int8-bytes"]
    assert rows["fp32-digits"].measured == 0.5 and rows["fp32-digits"].ratio == 1
    refused, unused = rows["int8-digits"], rows["fp32-named"]
    assert refused.claim.endswith(" digits in int8 failed: ValueError: digits is too far from eager.")
    assert unused.claim.endswith(" named in fp32 failed: RuntimeError: out of memory.")
    for row in (refused, unused):
        assert row.measured is row.interval is row.n is row.ratio is None and row.rival_measured is not None
    total = rows["int8-bytes"]
    assert total.measured is total.rival_measured is None and total.claim.count("failed: ") == 3


def test_a_missing_library_is_no_failed_bundle(tmp_path, monkeypatch):
    def export(*_):
        raise ModuleNotFoundError("onnx is missing")

    monkeypatch.setattr(exported, "export_pipeline", export)
    task = ExportedTask("digits", "ascan-nano-digits", "digits are read.", lambda pipeline: Score.of(1, 2))
    with pytest.raises(ModuleNotFoundError, match="onnx is missing"):
        list(measure_bundles(Run(BENCHMARK, "exported", tmp_path), [task], CHECKPOINTS, ["onnx"]))
