"""AsCAN's contracts, compared with what the pipelines themselves do."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, FlowMatchEulerDiscreteScheduler

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.pipelines.export.contract import PipelineContract
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs
from pocket_diffusers.pipelines.export.methods.export_ascan import assemble, contract, modules, rehearse
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline


def shaken(model):
    """Without the zeros of a new model, which hide what a network does."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def generator(scheduler=None, **changes) -> AsCANPipeline:
    options = {
        "sample_size": 4, "in_channels": 4, "out_channels": 4, "down_stages": ("C", "T"), "widths": (16, 32),
        "expansion": 2, "head_dim": 8, "ffn_ratio": 2, "num_classes": 3, "emb_dim": 16,
    }  # fmt: skip
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    vae = AutoencoderKL(latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4, shift_factor=0.1, **blocks)
    scheduler = scheduler or FlowMatchEulerDiscreteScheduler(shift=1.5)
    names = None if changes.get("cross_attention_dim") else {0: "a", 1: "b", 2: "c"}
    return quiet(AsCANPipeline(shaken(AsCANUNet2DModel(**{**options, **changes})), vae.eval(), scheduler, names))


def backbone(**changes) -> AsCANModel:
    options = {
        "stages": ("C", "T"), "widths": (8, 16), "stem_width": 8, "strides": (2, 1, 2), "image_size": 16,
        "head_dim": 8, "ffn_ratio": 2, "expansion": 2, "dense_width": 8, "dense_pool_scales": (1, 2),
    }  # fmt: skip
    return shaken(AsCANModel(**{**options, **changes}))


def classifier(**settings) -> AsCANImageClassificationPipeline:
    model = backbone(num_classes=3, in_channels=settings.pop("in_channels", 3))
    return quiet(AsCANImageClassificationPipeline(model, {0: "a", 1: "b", 2: "c"}, **settings))


def detector(**settings) -> AsCANDetectionPipeline:
    model = backbone(num_classes=None, dense_outputs={"offset": 2, "center": 1, "shape": 3, "color": 4})
    return quiet(AsCANDetectionPipeline(model, {0: "a", 1: "b"}, **settings))


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


EVERY_TASK = pytest.mark.parametrize(
    "make",
    [
        generator,
        classifier,
        lambda: classifier(in_channels=1, resize_mode="pad"),
        lambda: classifier(image_size=24),
        detector,
        lambda: detector(image_size=24),
    ],
    ids=["generator", "classifier", "grey classifier", "larger classifier", "detector", "larger detector"],
)


@EVERY_TASK
def test_the_original_networks_behind_the_contract_do_the_same(make):
    pipeline = make()
    promised = PipelineContract.from_record(contract(pipeline).to_record())  # as an app reads it
    parts = {name: getattr(pipeline, name) for name in promised.parts}

    def runner(network):
        def run(*tensors):
            made = network(*tensors)
            return (made,) if isinstance(made, torch.Tensor) else made

        return run

    runners = {name: runner(network) for name, network in modules(pipeline).items()}
    with torch.no_grad():
        again = quiet(assemble(promised, runners, parts))
        made = rehearse(again)
    assert type(again) is type(pipeline)
    np.testing.assert_allclose(made, rehearse(pipeline), atol=1e-5, rtol=1e-5)
    grey = isinstance(pipeline, AsCANImageClassificationPipeline) and pipeline.model.config.in_channels == 1
    assert made.std() > 1e-3 and len(made) == (36 if grey else 6), "grey classifiers also see digits"
    if isinstance(pipeline, AsCANDetectionPipeline):
        picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
        with torch.no_grad():
            assert again.detect(picture) == pipeline.detect(picture)


@EVERY_TASK
def test_networks_take_and_make_what_the_contract_says(make):
    pipeline = make()
    promised, networks = contract(pipeline), modules(pipeline)
    assert [component.name for component in promised.components] == list(networks)
    for component in promised.components:
        with torch.no_grad():
            made = networks[component.name](*dummy_inputs(component, batch=5))
        made = (made,) if isinstance(made, torch.Tensor) else made
        for spec, output in zip(component.outputs, made, strict=True):
            assert tuple(output.shape) == tuple(5 if size == "batch" else size for size in spec.shape)
            assert str(output.dtype) == f"torch.{spec.dtype}"


@EVERY_TASK
def test_networks_share_the_weights_and_leave_the_pipeline_as_it_was(make):
    pipeline = make()
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    forms = [module.form for part in parts for module in part.modules() if hasattr(module, "form")]
    own = {id(tensor) for part in parts for tensor in part.parameters()}
    for network in modules(pipeline).values():
        assert {id(tensor) for tensor in network.parameters()} <= own
    assert forms and set(forms) == {"fused"}
    assert forms == [module.form for part in parts for module in part.modules() if hasattr(module, "form")]


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_rule_for_noise_levels_is_the_schedulers(shift, steps):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    record = contract(generator(scheduler)).scheduler
    rule = record["formula"].split(" with ")[0].partition("= ")[2]
    levels = []
    for i in range(steps):
        u = 1.0 if steps == 1 else 1 + (record["lowest"] - 1) * i / (steps - 1)
        levels.append(eval(rule, {"shift": record["shift"], "u": u}))
    scheduler.set_timesteps(steps)
    np.testing.assert_allclose([*levels, 0], scheduler.sigmas, atol=1e-6)
    np.testing.assert_allclose(1000 * np.array(levels), scheduler.timesteps, rtol=1e-5)
    assert len(record["example"]["sigmas"]) == record["example"]["steps"] + 1 == 29


def test_levels_of_another_kind_get_no_rule_but_an_example():
    record = contract(generator(FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True))).scheduler
    assert record["formula"] is record["shift"] is None and len(record["example"]["sigmas"]) == 29


def test_the_loops_name_what_matters():
    assert "[3, 3, ..., class_labels]" in contract(generator()).loop
    assert "0.299 red" in contract(classifier(in_channels=1)).loop and "0.299" not in contract(classifier()).loop
    assert "longer side is 16" in contract(classifier(resize_mode="pad")).loop
    loop = contract(detector()).loop
    assert "padded to 16 x 16" in loop and "from 0.05 up" in loop and "8 * offset" in loop
    assert contract(detector()).constants["labels"] == {"0": "a", "1": "b"}


def test_pipelines_that_cannot_be_exported_say_why():
    with pytest.raises(ValueError, match="the UNet takes text, but an export knows only class labels"):
        contract(generator(num_classes=None, cross_attention_dim=8))
    with pytest.raises(ValueError, match="the scheduler is DDIMScheduler, but an export knows only"):
        contract(generator(DDIMScheduler()))
    with pytest.raises(ValueError, match="stochastic_sampling=True"):
        contract(generator(FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)))
