"""The record beside a model."""

import json

import pytest

from pocket_diffusers.training.preset import Preset
from pocket_diffusers.training.training_record import command, seconds_of, write_training_record


def test_command_can_be_pasted():
    overrides = {"seed": 3, "steps": "7", "source": "my shards/*.tar"}
    assert command("snapgen", "base", "nano", overrides) == (
        "pocket train snapgen --stage base --preset nano --seed 3 --set steps=7 --set 'source=my shards/*.tar'"
    )


def test_seconds_add_up_over_lines():
    lines = [{"step": 10, "steps_per_second": 5.0}, {"step": 30, "steps_per_second": 4.0}]
    assert seconds_of(lines) == pytest.approx(10 / 5 + 20 / 4)
    assert seconds_of([]) == 0


def test_record_tells_how_to_make_the_model_again(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 8, "steps_per_second": 2.0}\n')
    chosen = Preset(steps=8, seed=5)
    path = write_training_record(tmp_path, "snapgen", "base", "nano", chosen, {"seed": 5, "steps": "8"})
    record = json.loads(path.read_text())
    assert path.parent == tmp_path and record["seconds"] == 4
    assert record["command"] == "pocket train snapgen --stage base --preset nano --seed 5 --set steps=8"
    assert record["settings"]["steps"] == 8 and record["settings"]["batch_size"] == chosen.batch_size
    assert record["hardware"] and record["versions"]["torch"] and record["date"]
