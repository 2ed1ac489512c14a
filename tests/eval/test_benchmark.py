import json

import pytest

from pocket_diffusers.cli import main
from pocket_diffusers.eval.benchmark import failures, new_row, record_path, run_measurements
from pocket_diffusers.eval.claims.snapgen import benchmark as benchmark_snapgen
from pocket_diffusers.eval.results import read_rows


def record(error):
    return json.dumps({"measurements": [{"name": "a", "error": None}, {"name": "b", "error": error}]})


def measurement(id, seen=None, error=None, target=None):
    def measure(settings, output):
        if seen is not None:
            seen.append((settings, output))
        path = record_path(output, "toy", id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record(error))
        yield new_row("toy", id, id, "A claim.", measured=1.23456789, unit="dB", target=target)

    return measure


def test_rows_and_records_are_kept(tmp_path):
    seen = []
    measurements = {"first": measurement("first", seen), "second": measurement("second", error="it broke")}
    rows = run_measurements("toy", measurements, None, tmp_path, "settings")
    assert seen == [("settings", tmp_path)]
    assert read_rows(tmp_path / "toy.json") == rows and [row.id for row in rows] == ["first", "second"]
    assert rows[0].measured == 1.23457 and rows[0].command == "pocket eval toy --only first"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["first.json", "second.json", "toy", "toy.json"]
    assert failures(tmp_path, "toy") == ["second: b failed: it broke"]


def test_what_an_interrupted_run_left_stays_for_the_next(tmp_path):
    def interrupt(settings, output):
        raise KeyboardInterrupt
        yield

    measurements = {"first": measurement("first"), "second": interrupt}
    with pytest.raises(KeyboardInterrupt):
        run_measurements("toy", measurements, None, tmp_path, None)
    assert record_path(tmp_path, "toy", "first").is_file() and len(read_rows(tmp_path / "toy.json")) == 1
    other = {**measurements, "other": measurement("other")}
    run_measurements("toy", other, ["other"], tmp_path, None)
    assert record_path(tmp_path, "toy", "first").is_file(), "what another measurement left is none of its business"
    run_measurements("toy", {**measurements, "second": measurement("second")}, None, tmp_path, None)
    assert not record_path(tmp_path, "toy", "first").parent.exists()


@pytest.fixture
def toy(monkeypatch):
    """SnapGen's benchmark with one measurement, whose target a test chooses."""

    def prepare(target=None, error=None):
        def measure(settings, output):
            path = record_path(output, "snapgen", "only")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(record(error))
            yield new_row("snapgen", "only", "a", "A claim.", measured=1.0, unit="dB", target=target)

        monkeypatch.setattr(benchmark_snapgen, "MEASUREMENTS", {"only": measure})

    return prepare


@pytest.mark.parametrize(("target", "status"), [(None, 0), (0.5, 0), (1.5, 1)])
def test_the_command_prints_the_rows_and_fails_when_a_target_is_missed(toy, tmp_path, capsys, target, status):
    toy(target, error="it broke")
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
def test_the_command_words_its_errors(toy, tmp_path, capsys, arguments, message):
    toy()
    assert main(["eval", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
