import pytest

from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.eval.claims.bitsfusion import size
from pocket_diffusers.eval.claims.bitsfusion.settings import Settings


def test_published_bits_by_the_papers_formula():
    assert size.recipe_bits("sd15") == pytest.approx(1.9885, abs=5e-5)


def test_sizes_of_a_folder_that_a_process_of_its_own_made(tmp_path):
    settings = Settings(shape="nano", threads=1)
    rows = {
        row.id: row for row in Benchmark("bitsfusion", settings, {"size": size.measure_size}).measure("size", tmp_path)
    }
    bytes_ = rows["folder-bytes"]
    assert bytes_.rival_measured == pytest.approx(5.39, abs=0.02), "2,682,672 numbers of two bytes, and names"
    assert bytes_.measured == pytest.approx(0.868, abs=0.002), "2 bits, and 8 of the first and the last layer"
    assert rows["folder-ratio"].measured == pytest.approx(bytes_.ratio, rel=1e-5)
    assert rows["saved-again"].passed and rows["saved-again"].n > 100
    assert rows["quantization-seconds"].measured > 0
    assert rows["average-bits"].published == 1.99 and rows["average-bits"].target == pytest.approx((1.98845, 1.98855))
    assert (tmp_path / ".bitsfusion.partial" / "size.json").is_file()
