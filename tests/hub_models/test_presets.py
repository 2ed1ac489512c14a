import pytest
import torch
from torch import nn

from pocket_diffusers.hub_models.presets import PresetMixin


class Toy(nn.Linear, PresetMixin):
    presets = {"small": {"in_features": 2, "out_features": 3}}


def test_preset_is_the_arguments_of_init_and_overrides_replace_some():
    assert Toy.from_preset("small").weight.shape == (3, 2)
    assert Toy.from_preset("small", out_features=5).weight.shape == (5, 2)
    assert Toy.presets["small"]["out_features"] == 3


def test_preset_is_built_without_memory_on_the_meta_device():
    with torch.device("meta"):
        assert Toy.from_preset("small", in_features=10**6, out_features=10**6).weight.is_meta


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(ValueError, match="preset of Toy 'huge' is unknown: use one of small"):
        Toy.from_preset("huge")
