"""What every benchmark promises, over the registry: measurements that run, rows that say how they were made."""

import re
from dataclasses import is_dataclass, replace
from importlib import import_module
from pathlib import Path

import pytest
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from pocket_diffusers.eval.benchmark import BENCHMARKS, MissingData, find_benchmark
from pocket_diffusers.eval.results import RESULTS, read_rows
from pocket_diffusers.eval.timing import cost_rows
from pocket_diffusers.eval.timing.contest import Measurement
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.files import write_json
from pocket_diffusers.pipelines.motion.motion_optimization import OPTIMIZATIONS, OptimizationSteps

ROOT = Path(__file__).parents[2]
CASES = {slug: import_module(f"tiny_{slug}") for slug in BENCHMARKS}
RUN_HERE = [
    (slug, name)
    for slug in BENCHMARKS
    for name in find_benchmark(slug).measurements
    if name not in CASES[slug].NOT_MEASURED
]
CONTESTS = sorted(
    {
        (slug, path.stem.partition("-")[0])
        for slug in METHODS
        for path in (RESULTS / slug).glob("*.json")
        if '"build"' in path.read_text()
    }
)
COMMAND = re.compile(r"pocket eval (\w+) --only (\w+)")


@pytest.fixture
def quick(monkeypatch):
    """Contests without processes, in which the second contender is the slower one; two steps a picture, one of
    optimisation."""

    def run(contenders, repeats, threads, output):
        write_json(output, {"date": "2025-01-31", "measurements": []})
        return [
            Measurement(
                name=one.name, build=one.build, arguments=one.arguments, seconds=(1.0 + place,) * repeats,
                peak_memory_mb=100.0 + place, facts={cost_rows.IMPORTS: 50.0},
            )
            for place, one in enumerate(contenders)
        ]  # fmt: skip

    def takes_two(kind):
        set_timesteps = kind.set_timesteps

        def set_two(self, num_inference_steps=None, *more, **options):
            set_timesteps(self, min(2, num_inference_steps), *more, **options)

        monkeypatch.setattr(kind, "set_timesteps", set_two)

    monkeypatch.setattr(cost_rows, "run_contenders", run)
    takes_two(FlowMatchEulerDiscreteScheduler)
    takes_two(DDIMScheduler)
    for name in OPTIMIZATIONS:
        monkeypatch.setitem(OPTIMIZATIONS, name, OptimizationSteps(0, 1))


def committed(slug, name):
    rows = read_rows(RESULTS / f"{slug}.json")
    return {row.id: row for row in rows if row.command == f"pocket eval {slug} --only {name}"}


def test_every_method_and_the_world_have_one():
    assert tuple(METHODS) == BENCHMARKS[:-1] and BENCHMARKS[-1] == "world"
    assert {path.stem for path in RESULTS.glob("*.json")} == set(BENCHMARKS)


@pytest.mark.parametrize("slug", BENCHMARKS)
def test_settings_say_how_much_is_measured(slug):
    benchmark = find_benchmark(slug)
    assert benchmark.slug == slug and is_dataclass(benchmark.settings)
    assert benchmark.settings.checkpoints.is_dir()
    for name, reason in CASES[slug].NOT_MEASURED.items():
        (elsewhere,) = re.findall(r"tests/[\w/]+\.py", reason)
        assert name in benchmark.measurements and (ROOT / elsewhere).is_file()


@pytest.mark.parametrize(("slug", "name"), RUN_HERE)
def test_every_measurement_runs_and_its_rows_are_those_committed(slug, name, quick, tmp_path):
    benchmark = find_benchmark(slug)
    try:
        rows = benchmark.run([name], tmp_path, replace(benchmark.settings, **CASES[slug].MEASURED))
    except MissingData as error:
        pytest.skip(str(error))
    assert rows and read_rows(tmp_path / f"{slug}.json") == rows
    known = committed(slug, name)
    assert {row.id for row in rows} == known.keys() - CASES[slug].LACKING.get(name, set())
    for row in rows:
        assert row.command == f"pocket eval {slug} --only {name}"
        for quantity in ("size", "better", "target", "published"):
            assert getattr(row, quantity) == getattr(known[row.id], quantity), f"{quantity} of {row.id}"
        assert (row.rival is None) == (known[row.id].rival is None)
        assert row.claim.endswith(".") and (row.n is None or row.n > 0)
    files = {path.name for path in tmp_path.iterdir()} - {f"{slug}.json"}
    assert all(re.fullmatch(rf"{slug}(-[a-z]+)?(\.png)?", file) for file in files), "no other file, no draft is left"


@pytest.mark.parametrize(("slug", "name"), CONTESTS)
def test_contenders_that_fail_have_rows_that_say_why(slug, name, monkeypatch, tmp_path):
    def run(contenders, repeats, threads, output):
        write_json(output, {"date": "2025-01-31", "measurements": []})
        return [
            Measurement(name=one.name, build=one.build, arguments=one.arguments, error="its process ended.")
            for one in contenders
        ]

    monkeypatch.setattr(cost_rows, "run_contenders", run)
    for variable, value in getattr(CASES[slug], "ENVIRONMENT", {}).items():
        monkeypatch.setenv(variable, value)
    benchmark, known = find_benchmark(slug), committed(slug, name)
    try:
        rows = benchmark.measure(name, tmp_path, replace(benchmark.settings, **CASES[slug].MEASURED))
    except MissingData as error:
        pytest.skip(str(error))
    assert {row.id for row in rows} == known.keys() - CASES[slug].LACKING.get(name, set())
    timed = [row for row in rows if row.hardware is not None]
    assert timed and all(row.measured is None and " failed: its process ended." in row.claim for row in timed)


@pytest.mark.parametrize("slug", BENCHMARKS)
def test_an_unknown_measurement_is_refused_before_anything_is_made(slug, tmp_path):
    benchmark = find_benchmark(slug)
    first = next(iter(benchmark.measurements))
    with pytest.raises(ValueError, match=rf"measurement '{first}s' is unknown: use one of .*\(nearest: '{first}'\)"):
        benchmark.run([f"{first}s"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("slug", BENCHMARKS)
def test_commands_of_committed_rows_measure_them_again(slug):
    measurements = find_benchmark(slug).measurements
    named = {COMMAND.fullmatch(row.command).groups() for row in read_rows(RESULTS / f"{slug}.json")}
    assert named == {(slug, name) for name in measurements}, "every measurement has a row, and every row a measurement"


@pytest.mark.parametrize("slug", METHODS)
def test_records_of_contenders_belong_to_measurements_and_name_functions(slug):
    measurements = find_benchmark(slug).measurements
    for path in (RESULTS / slug).glob("*.json"):
        assert path.stem.partition("-")[0] in measurements
        for build in re.findall(r'"build": "([\w.]+:\w+)"', path.read_text()):
            module, function = build.split(":")
            assert callable(getattr(import_module(module), function))
