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
        ("nano", {"steps": "3.5"}, "steps must be a whole number, not '3.5'"),
        ("nano", {"steps": "none"}, "steps must be a whole number, not 'none'"),
        ("nano", {"ema_decay": "much"}, "ema_decay must be a number or none, not 'much'"),
        ("nano", {"varnished": "1"}, "varnished must be true or false, not '1'"),
        ("nano", {"steps": "0"}, "steps must be at least 1, not 0"),
        ("nano", {"batch_size": "0"}, "batch_size must be at least 1, not 0"),
        ("nano", {"num_pictures": "-1"}, "num_pictures must be at least 1, not -1"),
        ("nano", {"image_size": "60"}, "image_size must be a multiple of 8, not 60"),
        ("nano", {"learning_rate": "nan"}, "learning_rate must be above 0, not nan"),
        ("nano", {"ema_decay": "1"}, "ema_decay must be between 0 and 1, not 1.0"),
        ("nano", {"mixed_precision": "fp8"}, "mixed_precision must be 'no' or 'bf16', not 'fp8'"),
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
