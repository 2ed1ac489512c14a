"""The record of a user's own training: shown where it is there and of these weights, without his machine's places."""

import json
from pathlib import Path

import pytest

from pocket_diffusers.model_cards.facts import weights_digest
from pocket_diffusers.model_cards.own_training import NO_RECORD, read_own_training, training_text
from pocket_diffusers.model_cards.own_weights import read_own_weights
from pocket_diffusers.training.training_chain import KEYS

RUN = {
    **dict.fromkeys(KEYS),
    "command": "pocket train snapgen --stage base --preset nano --set source=/home/me/cats",
    "method": "snapgen",
    "stage": "base",
    "preset": "nano",
    "data": "pictures of /home/me/cats",
    "seed": 3,
    "settings": {"steps": 2000, "source": "/home/me/cats"},
    "seconds": 1234,
    "hardware": "one core",
    "date": "2026-01-31T00:00:00+00:00",
}


def put_record(folder: Path, of: Path, *runs: dict) -> None:
    *earlier, last = runs or (RUN,)
    (folder / "training.json").write_text(json.dumps([*earlier, last | {"digest_out": weights_digest(of)}]))


def text_of(folder: Path) -> str:
    return training_text(read_own_training(read_own_weights(folder)))


def test_without_a_record_nothing_is_said(reader):
    assert text_of(reader) == NO_RECORD


def test_a_run_is_told_and_places_are_not(reader):
    put_record(reader, reader)
    text = text_of(reader)
    assert "| 1 | base | 2,000 steps | pictures of cats | 3 | one core | 21 min |" in text
    assert "```bash\npocket train snapgen --stage base --preset nano --set source=cats\n```" in text
    assert "/home" not in json.dumps(read_own_training(read_own_weights(reader)))


def test_a_chain_of_runs_of_which_little_is_known(reader):
    put_record(reader, reader, RUN, dict.fromkeys(KEYS) | {"stage": "refine", "seed": 5})
    text = text_of(reader)
    assert "| 2 | refine | not known | not known | 5 | not known | not known |" in text
    assert "These weights cannot be made again exactly" in text


def test_the_record_beside_the_model_of_a_training(reader):
    model = reader.rename(reader.parent / "model")
    put_record(model.parent, model)
    assert "| base |" in text_of(model)
    other = model.rename(model.parent / "mine")
    assert text_of(other) == NO_RECORD


@pytest.mark.parametrize("content", ["[]", "3", '{"epochs": 3}', '[{"command": "x", "stage": "y"}, 1]'])
def test_what_is_no_record_is_refused(reader, content):
    (reader / "training.json").write_text(content)
    with pytest.raises(ValueError, match=r"training\.json"):
        text_of(reader)


def test_a_record_of_other_weights_is_refused(reader):
    (reader / "training.json").write_text(json.dumps([RUN | {"digest_out": "0" * 64}]))
    with pytest.raises(ValueError, match="describes other weights than those in"):
        text_of(reader)


def test_a_link_is_refused(reader):
    (reader.parent / "record.json").write_text(json.dumps(RUN))
    (reader / "training.json").symlink_to(reader.parent / "record.json")
    with pytest.raises(ValueError, match=r"training\.json is a link to"):
        text_of(reader)
