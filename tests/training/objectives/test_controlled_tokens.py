"""Masked consistency: where training controls, and the loss against a naive twin."""

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.control_branch_controlmm import ControlMMControlBranch
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMTransformer
from pocket_diffusers.pipelines.motion.motion_features import joints_of_features
from pocket_diffusers.training.objectives.controlled_tokens import ControlledMotion, ControlledTokens, random_control
from pocket_diffusers.training.objectives.masked_tokens import CodedMotion, corrupted, hide

SIX = (0, 10, 11, 15, 20, 21)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def valid(*lengths):
    return torch.arange(40) < torch.tensor(lengths)[:, None]


def test_one_joint_is_controlled_at_one_to_all_frames():
    frames = valid(*[40, 12] * 500)
    mask = random_control(frames, SIX, 0.0, generator())
    joints = mask.any(1)
    assert joints.sum(1).eq(1).all() and set(joints.nonzero()[:, 1].tolist()) == set(SIX)
    assert not (mask & ~frames[..., None]).any()
    counts = mask.sum((1, 2))
    assert set(counts[1::2].tolist()) == set(range(1, 13))
    assert counts[::2].float().mean().item() == pytest.approx(20, abs=1.5)
    shares = np.histogram(joints.nonzero()[:, 1], [0, 1, 11, 12, 16, 21, 22])[0] / 1000
    np.testing.assert_allclose(shares, 1 / 6, atol=0.04)
    where = mask[::2].any(2).float().mean(0)
    assert (where - where.mean()).abs().max() < 0.1


def test_cells_of_all_joints_are_controlled_across():
    frames = valid(*[40, 12] * 300)
    mask = random_control(frames, SIX, 1.0, generator())
    counts = mask.sum((1, 2))
    assert counts.min() >= 1 and counts[1::2].max() <= 72 and not (mask & ~frames[..., None]).any()
    assert counts[::2].float().mean().item() == pytest.approx(120, abs=10)
    assert mask.any(0).any(0).nonzero()[:, 0].tolist() == list(SIX)
    mixed = random_control(frames, SIX, 0.5, generator()).any(1).sum(1)
    assert (mixed > 1).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_the_pelvis_alone_may_be_controlled():
    mask = random_control(valid(40, 8), (0,), 0.0, generator())
    assert mask.any(1).nonzero()[:, 1].tolist() == [0, 0]


@pytest.mark.parametrize(("code_weight", "joint_weight"), [(0.5, 0.5), (0.1, 0.9)])
def test_loss_equals_its_naive_twin(code_weight, joint_weight):
    torch.manual_seed(0)
    autoencoder = MotionRVQVAE(width=8, depth=1, dropout=0.0, num_quantizers=2, num_codes=9, code_width=6).eval()
    autoencoder.set_statistics(torch.zeros(263), torch.full((263,), 0.3))
    sizes = {"width": 8, "num_layers": 2, "num_heads": 2, "ff_width": 12, "dropout": 0.0}
    transformer = ControlMMTransformer(num_codes=9, code_width=6, text_width=5, **sizes).eval().requires_grad_(False)
    branch = ControlMMControlBranch.from_transformer(transformer, conv_width=8, conv_depth=1)
    for parameter in branch.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    draws = generator(4)
    padding = torch.arange(5) >= torch.tensor([5, 3])[:, None]
    ids = torch.randint(9, (2, 5, 2), generator=draws).masked_fill(padding[..., None], -1)
    joints = torch.randn(2, 20, 22, 3, generator=draws)
    mask = random_control(~padding.repeat_interleave(4, 1), SIX, 0.5, draws)
    given = ControlledMotion(CodedMotion(ids, padding, torch.randn(2, 5, generator=draws)), joints, mask)
    objective = ControlledTokens(
        branch, transformer, autoencoder, lambda batch, generator: given, 1e-3, code_weight, joint_weight
    )
    loss, logged = objective.loss("branch", None, generator(6))

    draws, known, away = generator(6), [], []
    hidden = hide(padding, draws)
    shown = corrupted(ids[..., 0].clamp(min=0), hidden, 9, draws)
    book = autoencoder.quantizer.codebooks[0]
    for i, n in enumerate((5, 3)):  # each clip alone, without padding

        def places(latents):
            return joints_of_features(0.3 * autoencoder.decode(latents[None]))[0]

        now = places(torch.stack([book.mean(0) if code == 9 else book[code] for code in shown[i, :n].tolist()]))
        control = torch.zeros(4 * n, 36)
        for frame, joint in mask[i].nonzero().tolist():
            place = 3 * SIX.index(joint)
            control[frame, place : place + 3] = joints[i, frame, joint] - now[frame, joint]
            control[frame, 18 + place : 21 + place] = joints[i, frame, joint]
        text = given.coded.text[i : i + 1]
        logits = transformer(shown[i : i + 1, :n], text, None, branch, control[None]).double()[0]
        chances = (logits.exp() / logits.exp().sum(1, keepdim=True)).float()
        known += [-chances[t, ids[i, t, 0]].log().item() for t in range(n)]
        made = places(chances @ book)
        away += [(made[f, j] - joints[i, f, j]).abs().mean().item() for f, j in mask[i].nonzero().tolist()]
    assert loss.item() == pytest.approx(code_weight * np.mean(known) + joint_weight * np.mean(away), rel=1e-4)
    assert logged == pytest.approx({"codes": np.mean(known), "metres": np.mean(away)}, rel=1e-4)
    loss.backward()
    idle = [name for name, p in branch.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle and all(p.grad is None for p in autoencoder.parameters() if not p.requires_grad)
