"""The record beside a model."""

import hashlib
import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import save_file

from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.training import training_record
from pocket_diffusers.training.preset import Preset
from pocket_diffusers.training.training_chain import KEYS, gaps
from pocket_diffusers.training.training_record import Origin, command, data_of, seconds_of, write_training_record


def put_weights(folder, value):
    folder.mkdir(parents=True)
    save_file({"bias": np.full(3, value, np.float32)}, folder / "model.safetensors")
    return folder


def record_of(model, seed, origins=None, **overrides):
    """The chain that a run whose model is `model` writes beside it."""
    chosen = Preset(steps=8, seed=seed, **overrides)
    changed = {"seed": seed, "steps": "8", **overrides}
    path = write_training_record(model.parent, model, "snapgen", "base", "nano", chosen, changed, origins)
    assert path == model.parent / "training.json"
    return json.loads(path.read_text())


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
    model = put_weights(tmp_path / "model", 1)
    (tmp_path / "metrics.jsonl").write_text('{"step": 8, "steps_per_second": 2.0}\n')
    (run,) = record_of(model, 5)
    assert tuple(run) == KEYS and run["seconds"] == 4
    assert run["command"] == "pocket train snapgen --stage base --preset nano --seed 5 --set steps=8"
    assert run["settings"]["steps"] == 8 and run["settings"]["batch_size"] == Preset().batch_size
    assert run["hardware"] and run["versions"]["torch"] and run["date"]
    assert (run["seed"], run["digest_in"], run["digest_out"]) == (5, {}, weights_digest(model))
    assert gaps([run]) == []


def test_data_are_told_in_words():
    assert data_of(Preset(split="train_all+train", num_pictures=48_000)) == (
        "pocketworld, the first 48,000 pictures of split train_all+train, size 64"
    )
    assert data_of(Preset(source="me/cats", split="test", image_size=256)) == "me/cats, split test, size 256"

    @dataclass(frozen=True, kw_only=True)
    class Clips(Preset):
        num_clips: int = 10_000

    assert data_of(Clips(source="motionworld")) == "motionworld, the first 10,000 clips of split train"
    assert data_of(Clips(source="mine", split="validation")) == "mine, split validation"


def test_a_record_carries_the_runs_before_it_and_names_no_place_of_the_machine(tmp_path):
    first = put_weights(tmp_path / "first" / "model", 1)
    (one,) = record_of(first, 1)
    second = put_weights(tmp_path / "second" / "model", 2)
    chain = record_of(second, 2, {"init": Origin.of(str(first))}, init=str(first))
    assert chain[0] == one and len(chain) == 2
    assert chain[1]["digest_in"] == {"init": one["digest_out"]} and gaps(chain) == []
    assert chain[1]["command"].endswith("--seed 2 --set steps=8 --set init=EARLIER")
    assert chain[1]["settings"]["init"] == "EARLIER" and str(tmp_path) not in json.dumps(chain)
    third = put_weights(tmp_path / "third" / "model", 3)
    chain = record_of(third, 3, {"vae": Origin.of(first), "init": Origin.of(second)})
    assert [run["seed"] for run in chain] == [1, 2, 3], "a run that made both is told once"


def test_weights_that_a_record_does_not_describe_do_not_get_its_runs(tmp_path):
    model = put_weights(tmp_path / "first" / "model", 1)
    record_of(model, 1)
    assert len(Origin.of(model).runs) == 1
    shutil.rmtree(model)
    put_weights(model, 7)
    origin = Origin.of(model)
    assert origin.runs == () and origin.digest == weights_digest(model)
    chain = record_of(put_weights(tmp_path / "second" / "model", 2), 2, {"init": origin})
    assert gaps(chain) == ["the run that left what run 1 began with (init)"]


def test_a_record_that_cannot_be_read_stops_no_training(tmp_path):
    model = put_weights(tmp_path / "model", 1)
    (tmp_path / "training.json").write_text('{"command": "of an earlier version"}')
    with pytest.warns(UserWarning, match="must hold a JSON list.*will not say how .*model was made"):
        assert Origin.of(model) == Origin(str(model), weights_digest(model), ())


def test_a_part_of_a_model_has_the_record_of_the_whole(tmp_path):
    model = tmp_path / "model"
    for part in ("unet", "vae"):
        put_weights(model / part, len(part))
    (run,) = record_of(model, 1)
    origin = Origin.of(model / "vae")
    assert list(origin.runs) == [run] and origin.digest == run["parts"]["vae"] != run["digest_out"]


def test_committed_weights_have_the_record_of_their_card(tmp_path, monkeypatch):
    monkeypatch.setattr(training_record, "_CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(training_record, "COMMITTED_RECORDS", tmp_path / "records")
    model = put_weights(tmp_path / "made" / "model" / "vae", 1).parent
    (run,) = record_of(model, 1)
    (tmp_path / "records").mkdir()
    (tmp_path / "made" / "training.json").replace(tmp_path / "records" / "some-nano.json")
    committed = shutil.copytree(model, tmp_path / "checkpoints" / "some-nano")
    assert list(Origin.of(committed).runs) == list(Origin.of(committed / "vae").runs) == [run]


def test_a_name_on_the_hub_and_a_pickle_fix_no_weights(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"pickled")
    for source in ("someone/else", tmp_path):
        assert Origin.of(source) == Origin(str(source), None, ())
    assert Origin.of(tmp_path / "model.bin").digest == hashlib.sha256(b"pickled").hexdigest()
    chain = record_of(put_weights(tmp_path / "run" / "model", 1), 1, {"init": Origin.of("someone/else")})
    assert gaps(chain) == ["the digest of what the run began with"]


def test_a_run_without_steps_has_the_seconds_it_took(tmp_path):
    model, chosen = put_weights(tmp_path / "model", 1), Preset(steps=8, seed=1)
    for seconds, expected in ((12.4, 12), (99.0, 4)):
        path = write_training_record(tmp_path, model, "snapgen", "base", "nano", chosen, {}, {}, seconds)
        assert json.loads(path.read_text())[-1]["seconds"] == expected
        (tmp_path / "metrics.jsonl").write_text('{"step": 8, "steps_per_second": 2.0}\n')  # of the next, which has some
