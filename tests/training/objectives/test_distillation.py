"""Distillation: values against a naive twin, no loss between equals, a frozen teacher, and that a student learns."""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel

from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig, prepare_training
from pocket_diffusers.training.conditions import Conditions
from pocket_diffusers.training.objectives.denoising import noised, training_scheduler
from pocket_diffusers.training.objectives.distillation import Distillation

LATENTS = torch.randn(6, 4, 4, 4, generator=torch.Generator().manual_seed(1))
TEXT = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(2))


def make_unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, cross_attention_dim=8, norm_num_groups=4,
    )  # fmt: skip


def make_student(teacher, bits=2):
    return prepare_training(copy.deepcopy(teacher), BitsFusionConfig(default_bits=bits))


def conditions(batch, generator):
    """Drops a text by chance, as the stages do: the first number that is drawn."""
    dropped = torch.rand(len(batch), generator=generator) < 0.5
    return Conditions(LATENTS[batch], (torch.where(dropped[:, None, None], 0.0, TEXT[batch]),))


def make_objective(student, teacher, feature_weight=0.01, time_alpha=3.0):
    return Distillation(
        student, teacher, training_scheduler("epsilon"), conditions, 1e-2, feature_weight, time_alpha
    )  # fmt: skip


def loss_of(objective, seed=0):
    return objective.loss("unet", torch.arange(6), torch.Generator().manual_seed(seed))


def passed(unet, x, timesteps, text):
    """Output and features of one pass, by calling hooks of its own."""
    found = {}
    blocks = {f"{kind}_blocks.{i}": b for kind in ("down", "up") for i, b in enumerate(getattr(unet, f"{kind}_blocks"))}
    handles = [
        block.register_forward_hook(
            lambda module, given, out, name=name: found.update({name: out[0] if isinstance(out, tuple) else out})
        )
        for name, block in blocks.items()
    ]
    with torch.no_grad():
        output = unet(x, timesteps, text).sample
    for handle in handles:
        handle.remove()
    return output, [found[name] for name in blocks]


@pytest.mark.parametrize("feature_weight", [0.0, 0.01, 2.0])
def test_the_loss_is_that_of_a_naive_twin(feature_weight):
    teacher = make_unet()
    student = make_student(teacher)
    loss, told = loss_of(make_objective(student, teacher, feature_weight))
    generator = torch.Generator().manual_seed(0)
    given = conditions(torch.arange(6), generator)
    noise = torch.randn(LATENTS.shape, generator=generator)
    x, timesteps, _ = noised(training_scheduler("epsilon"), LATENTS, noise, generator, 3.0)
    (wanted, held), (predicted, own) = (passed(unet, x, timesteps, *given.shown) for unet in (teacher, student))
    output = float((predicted - wanted).square().mean())
    features = sum(float((a - b).square().mean()) for a, b in zip(own, held, strict=True))
    assert told["output"] == pytest.approx(output, rel=1e-4) and output > 1e-4
    assert told["features"] == pytest.approx(features, rel=1e-4) and len(own) == 4
    assert float(loss.detach()) == pytest.approx(output + feature_weight * features, rel=1e-4)


def test_equals_have_no_loss():
    teacher = make_unet()
    loss, told = loss_of(make_objective(copy.deepcopy(teacher), teacher))
    assert float(loss.detach()) == 0 and told == {"output": 0, "features": 0}


def test_the_student_alone_gets_gradients():
    teacher = make_unet().train()
    student = make_student(teacher)
    objective = make_objective(student, teacher)
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    loss_of(objective)[0].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in student.parameters())
    assert student.conv_in.scales.grad.abs().sum() > 0 and set(objective.parts) == {"unet"}
    learned = {id(parameter) for group in objective.optimizer("unet").param_groups for parameter in group["params"]}
    assert learned == {id(parameter) for parameter in student.parameters()}


def test_features_pull_blocks_whose_output_is_right():
    """Without features a block's error that the rest makes good is none; with them it is."""
    teacher = make_unet()
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.conv_norm_out.weight.zero_()  # what the blocks make no longer matters to the output
        teacher.conv_norm_out.weight.zero_()
        student.up_blocks[-1].resnets[-1].conv2.bias.add_(1)
    blind, seeing = (loss_of(make_objective(student, teacher, weight))[0] for weight in (0.0, 1.0))
    assert float(blind.detach()) == 0 < float(seeing.detach())


def test_learning_lowers_the_loss_and_leaves_no_hooks():
    teacher = make_unet()
    student = make_student(teacher)
    before = [parameter.clone() for parameter in teacher.parameters()]
    objective = make_objective(student, teacher)
    optimizer, losses = objective.optimizer("unet"), []
    for _ in range(12):
        loss, _ = loss_of(objective)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert not any(module._forward_hooks for unet in (student, teacher) for module in unet.modules())
    assert objective.preview({}) is None
