"""Presets: values read as their field's type, and every way of getting one wrong."""

from dataclasses import dataclass

import pytest

from pocket_diffusers.training.preset import Preset, configure


@dataclass(frozen=True, kw_only=True)
class Painting(Preset):
    brush: str = "flat"
    varnished: bool = True


PRESETS = {"nano": Painting(), "paper": Painting(steps=9, seed=4)}


def test_values_are_read_as_their_fields_type():
    overrides = {"steps": "7", "learning_rate": "1e-2", "varnished": "False", "brush": "3", "ema_decay": "0.5"}
    chosen = configure(PRESETS, "nano", None, overrides)
    assert chosen == Painting(steps=7, learning_rate=0.01, varnished=False, brush="3", ema_decay=0.5)
    assert configure(PRESETS, "nano", None, {"ema_decay": "none"}).ema_decay is None


def test_seed_is_the_presets_own_unless_given():
    assert configure(PRESETS, "paper").seed == 4
    assert configure(PRESETS, "paper", 8).seed == 8


@pytest.mark.parametrize(
    ("preset", "overrides", "sentence"),
    [
        ("papre", {}, "preset 'papre' is unknown: use one of nano, paper (nearest: 'paper')"),
        ("nano", {"stepz": "3"}, "setting 'stepz' is unknown: use one of source, split, "),
        ("nano", {"steps": "3.5"}, "steps is '3.5'; it must be a whole number"),
        ("nano", {"steps": "none"}, "steps is 'none'; it must be a whole number"),
        ("nano", {"ema_decay": "much"}, "ema_decay is 'much'; it must be a number or none"),
        ("nano", {"varnished": "1"}, "varnished is '1'; it must be true or false"),
        ("nano", {"steps": "0"}, "steps is 0; it must be at least 1"),
        ("nano", {"batch_size": "0"}, "batch_size is 0; it must be at least 1"),
        ("nano", {"num_pictures": "-1"}, "num_pictures is -1; it must be at least 1"),
        ("nano", {"image_size": "60"}, "image_size is 60; it must be a multiple of 8"),
        ("nano", {"learning_rate": "nan"}, "learning_rate is nan; it must be above 0"),
        ("nano", {"ema_decay": "1"}, "ema_decay is 1.0; it must be between 0 and 1"),
        ("nano", {"mixed_precision": "fp8"}, "mixed_precision is 'fp8'; it must be 'no' or 'bf16'"),
    ],
)
def test_what_does_not_fit_is_named(preset, overrides, sentence):
    with pytest.raises(ValueError) as error:
        configure(PRESETS, preset, None, overrides)
    assert str(error.value).startswith(sentence)


def test_what_decides_a_run_is_its_identity():
    settings = Preset(
        steps=50, warmup_steps=100, batch_size=3, compile=True, save_every=5, skip_bad_rows=True
    ).settings()
    assert (settings.steps, settings.warmup_steps, settings.schedule, settings.save_every) == (50, 50, "cosine", 5)
    assert settings.identity["batch_size"] == 3
    assert not {"steps", "compile", "save_every", "skip_bad_rows"} & settings.identity.keys()
