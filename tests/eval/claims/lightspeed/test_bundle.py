"""Graphs of a field of full size: what is asked of back ends, of a small field in its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pocket_diffusers.eval.claims.lightspeed import bundle
from pocket_diffusers.eval.claims.lightspeed.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.lightspeed.bundle import frontal_pipeline
from pocket_diffusers.eval.claims.lightspeed.graphs import FRONTAL, Frame
from pocket_diffusers.pipelines.export.back_ends import ExportJob

SMALL = Frame("nano", "12x", height=24, width=36)
OFF = 0.25


class Scribe:
    """A back end whose files are of a thousand bytes more each time, and show a value that is off."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, ExportJob]] = []

    def of(self, name: str, precision: str = "fp32") -> "Scribe":
        self.chosen = name, precision
        return self

    def export(self, job: ExportJob, path: Path) -> None:
        self.asked.append((*self.chosen, job))
        path.write_bytes(bytes(1000 * len(self.asked)))

    def load(self, path: Path, component):
        assert path.stat().st_size == 1000 * len(self.asked), "the file that was written last"

        def run(*arrays: np.ndarray) -> list[np.ndarray]:
            with torch.no_grad():
                shown = self.asked[-1][-1].module(*map(torch.from_numpy, arrays)).numpy()
            shown[1, 2, 5, 7] += OFF
            return [shown]

        return run


def test_bytes_and_the_largest_difference_are_those_of_the_graphs(tmp_path, monkeypatch):
    scribe = Scribe()
    monkeypatch.setattr(bundle, "back_end_module", scribe.of)
    rows = {row.id: row for row in BENCHMARK.measure("bundle", tmp_path, replace(BENCHMARK.settings, bundle=SMALL))}
    sizes = [
        "bundle-onnx-int8-bytes", "bundle-onnx-fp16-bytes", "bundle-executorch-int8-bytes",
    ]  # fmt: skip
    assert list(rows) == [*sizes, "bundle-onnx-parity"]
    assert [rows[name].measured for name in sizes] == [0.001, 0.002, 0.003]
    assert [rows[name].target for name in sizes] == [17.5, None, 17.5] and rows[sizes[2]].passed is True
    assert [asked[:2] for asked in scribe.asked] == [
        ("onnx", "int8"), ("onnx", "fp16"), ("executorch", "int8"), ("onnx", "fp32"),
    ]  # fmt: skip
    for _, precision, job in scribe.asked:
        assert job.precision == precision and job.calibration == [] and not job.module.training
        assert job.component.outputs[0].shape == ("batch", 3, 24, 36) and len(job.example[0]) == 2
    parity = rows["bundle-onnx-parity"]
    assert parity.measured == pytest.approx(OFF, abs=1e-4) and (parity.target, parity.passed) == (1e-3, False)
    assert "36x24 pixels by a field of the preset nano" in parity.claim and parity.n == 3


def test_pictures_that_graphs_are_compared_on_have_contrast():
    pipeline = frontal_pipeline(SMALL)
    shown = pipeline(num_frames=2, output_type="pt").images
    assert shown.shape == (2, 3, 24, 36) and shown.std() > 0.1
    assert torch.equal(shown, frontal_pipeline(SMALL)(num_frames=2, output_type="pt").images)


def test_the_picture_is_that_of_the_paper():
    assert BENCHMARK.settings.bundle == FRONTAL == Frame("paper-frontal", "12x", height=756, width=1008)
