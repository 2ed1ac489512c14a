"""Optimum's classes, filled from a contract."""

import pytest
import torch

from pocket_diffusers.pipelines.export.contract import ComponentContract, TensorSpec
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs, exporter_config

pytest.importorskip("optimum", reason="needs the extra 'export'")

OUT = TensorSpec("out", ("batch", 2), "float32", None, None, "")
COMPONENT = ComponentContract(
    "net",
    (
        TensorSpec("ids", ("batch", 50), "int32", 0, 3, ""),
        TensorSpec("mask", ("batch", 50), "float32", 0, 1, ""),
        TensorSpec("latents", ("batch", 4, 9), "float32", None, None, ""),
    ),
    (OUT,),
    "",
)


def test_it_is_optimum_s_own_class_with_the_contract_s_axes():
    from optimum.exporters.base import ExporterConfig

    config = exporter_config(COMPONENT)
    assert isinstance(config, ExporterConfig)
    assert config.inputs == {"ids": {0: "batch"}, "mask": {0: "batch"}, "latents": {0: "batch"}}
    assert config.outputs == {"out": {0: "batch"}}


def test_dummy_inputs_keep_to_the_ranges():
    ids, mask, latents = dummy_inputs(COMPONENT, batch=7)
    assert ids.shape == (7, 50) and ids.dtype == torch.int32 and set(ids.unique().tolist()) == {0, 1, 2, 3}
    assert mask.shape == (7, 50) and 0 <= mask.min() < 0.1 and 0.9 < mask.max() <= 1
    assert latents.shape == (7, 4, 9) and abs(latents.mean()) < 0.3 and 0.7 < latents.std() < 1.3


def test_a_seed_draws_the_same_inputs_again():
    first, again, other = (dummy_inputs(COMPONENT, seed=seed)[2] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
