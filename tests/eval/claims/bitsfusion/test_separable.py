"""Where few bits break separable convolutions, with drawing faked and packing real."""

import pytest
from faked_scores_bitsfusion import drawn

from pocket_diffusers import checkpoint
from pocket_diffusers.eval.benchmark import Benchmark, Run
from pocket_diffusers.eval.claims.bitsfusion import separable
from pocket_diffusers.eval.claims.bitsfusion.settings import Settings


def test_fewer_bits_are_rated_beside_half_precision(monkeypatch, tmp_path):
    seen = []

    class Raters:
        def __init__(self, settings, images):
            assert images == 1

        def rate(self, folder):
            seen.append(sum(file.stat().st_size for file in (folder / "unet").glob("*.safetensors")))
            return drawn(0.5 - len(seen) / 10, 0.3)

    monkeypatch.setattr(separable, "Raters", Raters)
    monkeypatch.setattr(separable, "load_committed", lambda slug, folder: folder)
    settings = Settings(separable_bits=(8, 2))
    run = Run(Benchmark("bitsfusion", settings, {}), "separable", tmp_path)
    rows = {row.id: row for row in separable.measure_separable(settings, run)}
    assert [rows[f"separable-geneval-{which}"].measured for which in ("full", 8, 2)] == [0.4, 0.3, 0.2]
    assert rows["separable-geneval-2"].rival_measured == 0.4
    (file,) = (checkpoint("snapgen-nano") / "unet").glob("*.safetensors")
    told = [rows["separable-bytes-8"].rival_measured, *(rows[f"separable-bytes-{n}"].measured for n in (8, 2))]
    assert seen[0] == file.stat().st_size > seen[1] > seen[2]
    assert told == pytest.approx(seen, rel=1e-5)
    assert 0 < rows["separable-error-8"].measured < rows["separable-error-2"].measured < 2
