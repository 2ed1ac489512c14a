import json

import pytest

from pocket_diffusers.cli import main
from pocket_diffusers.eval import benchmark as module
from pocket_diffusers.eval.benchmark import Benchmark, MissingData, find_benchmark
from pocket_diffusers.eval.results import read_rows
from pocket_diffusers.pipelines import METHODS


def note(run, error=None):
    path = run.record_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    others = [{"name": "a", "error": None}, {"name": "c"}]  # what is no contender of a contest has no place for one
    path.write_text(json.dumps({"measurements": [*others, {"name": "b", "error": error}]}))


def measurement(id, seen=None, error=None, target=None):
    def measure(settings, run):
        if seen is not None:
            seen.append((settings, run.output))
        note(run, error)
        yield run.row(id, "A claim.", measured=1.23456789, unit="dB", target=target)

    return measure


def interrupted(settings, run):
    raise KeyboardInterrupt
    yield


def without_data(settings, run):
    raise MissingData("set POCKET_DATA.")
    yield


def toy(**measurements):
    return Benchmark("toy", "its own", measurements)


def test_rows_and_records_are_kept(tmp_path):
    seen = []
    benchmark = toy(first=measurement("first", seen), second=measurement("second", error="it broke"))
    rows = benchmark.run(None, tmp_path, "settings")
    assert seen == [("settings", tmp_path)]
    assert read_rows(tmp_path / "toy.json") == rows and [row.id for row in rows] == ["first", "second"]
    assert rows[0].measured == 1.23457 and rows[0].command == "pocket eval toy --only first"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first.json", "second.json", "toy", "toy.json"]
    assert benchmark.failures(tmp_path) == ["second: b failed: it broke"]
    assert benchmark.run(["first"], tmp_path)[0] == rows[0] and seen[1][0] == "its own"
    assert len(read_rows(tmp_path / "toy.json")) == 2, "what is not measured again stays"
    assert len(toy(first=measurement("first")).run(None, tmp_path)) == len(read_rows(tmp_path / "toy.json")) == 1


def test_a_row_says_what_follows_from_its_numbers():
    row = toy().row("speed", "id", "A claim.", measured=4, rival="another", rival_measured=3, unit="s", better="lower")
    assert row.ratio == 0.75 and row.size == "nano" and "threads" in row.hardware
    assert toy().row("speed", "id", "A claim.", measured=1, unit="s", interval=(1 / 3, 2)).interval == (0.333333, 2)


def test_what_an_interrupted_run_left_stays_for_the_next(tmp_path):
    draft = tmp_path / ".toy.partial" / "first.json"
    with pytest.raises(KeyboardInterrupt):
        toy(first=measurement("first"), second=interrupted).run(None, tmp_path)
    assert draft.is_file() and len(read_rows(tmp_path / "toy.json")) == 1
    toy(first=measurement("first"), other=measurement("other")).run(["other"], tmp_path)
    assert draft.is_file(), "what another measurement left is none of its business"
    toy(first=measurement("first"), second=measurement("second")).run(None, tmp_path)
    assert not draft.parent.exists()


def test_what_lacks_its_data_is_left_out_unless_it_is_asked_for(tmp_path, capsys):
    toy(data=measurement("data")).run(None, tmp_path)
    benchmark = toy(data=without_data, other=measurement("other"))
    assert [row.id for row in benchmark.run(None, tmp_path)] == ["other"]
    assert "Left out data: set POCKET_DATA." in capsys.readouterr().err
    assert [row.id for row in read_rows(tmp_path / "toy.json")] == ["data", "other"], "an earlier row is not lost"
    with pytest.raises(FileNotFoundError, match="set POCKET_DATA"):
        benchmark.run(["data"], tmp_path)


def test_an_unknown_measurement_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"measurement 'frist' is unknown: use one of first \(nearest: 'first'\)"):
        toy(first=measurement("first")).run(["frist"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_of_a_run_carry_its_names(tmp_path):
    seen = []

    def measure(settings, run):
        seen.extend([run.record_path("part"), run.picture_path(), run.picture_path("part")])
        yield from ()

    toy(speed=measure).measure("speed", tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in seen] == [
        ".toy.partial/speed-part.json", "toy.png", "toy-part.png",
    ]  # fmt: skip


def test_an_unknown_benchmark_is_named():
    with pytest.raises(ValueError, match=rf"method 'wrld' is unknown: use one of {', '.join(METHODS)}, world"):
        find_benchmark("wrld")


@pytest.fixture
def of_snapgen(monkeypatch):
    """SnapGen's benchmark with one measurement, whose target a test chooses."""

    def prepare(target=None, error=None):
        benchmark = Benchmark("snapgen", None, {"only": measurement("a", None, error, target)})
        monkeypatch.setattr(module, "import_module", lambda name, package: type("", (), {"BENCHMARK": benchmark}))

    return prepare


@pytest.mark.parametrize(("target", "status"), [(None, 0), (0.5, 0), (1.5, 1)])
def test_the_command_prints_the_rows_and_fails_when_a_target_is_missed(of_snapgen, tmp_path, capsys, target, status):
    of_snapgen(target, error="it broke")
    assert main(["eval", "snapgen", "--only", "only", "--output", str(tmp_path / "out")]) == status
    captured = capsys.readouterr()
    assert "A claim." in captured.out and str(tmp_path / "out" / "snapgen.json") in captured.out.replace("\n", "")
    assert "Error: only: b failed: it broke" in captured.err
    assert read_rows(tmp_path / "out" / "snapgen.json")[0].target == target


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["snapgem"], "method 'snapgem' is unknown"),
        (["snapgen", "--only", "onli"], "measurement 'onli' is unknown: use one of only (nearest: 'only')"),
    ],
)
def test_the_command_words_its_errors(of_snapgen, tmp_path, capsys, arguments, message):
    of_snapgen()
    assert main(["eval", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
