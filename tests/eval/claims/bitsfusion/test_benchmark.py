from pocket_diffusers.eval.claims.bitsfusion.benchmark import BENCHMARK
from pocket_diffusers.eval.exported import RUNTIMES


def test_what_the_committed_rows_are_measured_with():
    settings = BENCHMARK.settings
    assert (settings.shape, settings.latent_size, settings.picture_size) == ("sd15", 64, 64)
    assert settings.geneval_images is None, "every picture that the list of prompts asks for"
    assert set(settings.back_ends) == set(RUNTIMES) == {"onnx", "executorch"}


def test_every_measurement_says_what_it_measures():
    assert list(BENCHMARK.measurements) == [
        "unetcosts", "rates", "size", "rivals", "rivalcosts", "pictures", "ladder", "separable",
        "exported",
    ]  # fmt: skip
    assert all(measure.__doc__ for measure in BENCHMARK.measurements.values())
