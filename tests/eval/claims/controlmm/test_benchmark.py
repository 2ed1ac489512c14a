from pocket_diffusers.eval.claims.controlmm.benchmark import BENCHMARK
from pocket_diffusers.pipelines.motion.motion_optimization import OptimizationSteps


def test_what_the_committed_rows_are_measured_with():
    settings = BENCHMARK.settings
    assert (settings.model, settings.length, settings.threads) == ("paper", 196, 2)
    assert (settings.clips, settings.controlled_clips) == (500, 32)
    assert settings.ablated_optimization == OptimizationSteps(20, 200)


def test_every_measurement_says_what_it_measures():
    assert list(BENCHMARK.measurements) == [
        "speed", "scaling", "parameters", "quality", "control", "conditions", "ablation",
    ]  # fmt: skip
    assert all(measure.__doc__ for measure in BENCHMARK.measurements.values())
