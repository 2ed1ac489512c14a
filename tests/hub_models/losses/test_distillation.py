"""Features of blocks and their distance, against values by hand and a naive twin."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from pocket_diffusers.hub_models.losses.distillation import BlockFeatures, feature_distance


class Block(nn.Module):
    """Adds a number; a down block of diffusers gives skip connections besides."""

    def __init__(self, number, skips):
        super().__init__()
        self.number, self.skips = number, skips

    def forward(self, x):
        return (x + self.number, (x,)) if self.skips else x + self.number


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.up_blocks = nn.ModuleList([Block(100, False), Block(1000, False)])
        self.mid_block = Block(10, False)
        self.down_blocks = nn.ModuleList([Block(1, True), Block(2, True)])

    def forward(self, x):
        for block in self.down_blocks:
            x, _ = block(x)
        x = self.mid_block(x)
        for block in self.up_blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("wrapped", [False, True])
def test_features_are_of_down_and_up_blocks_in_order_without_the_middle(wrapped):
    unet = Stack()
    called = unet
    if wrapped:
        called = nn.Module()
        called.module, called.forward = unet, unet.forward
    with BlockFeatures(called) as features:
        made, found = features.of(lambda: called(torch.zeros(2)))
        again = features.of(lambda: called(torch.ones(2)))[1]
    assert [value.tolist() for value in found] == [[n, n] for n in (1, 3, 113, 1113)]
    assert [float(value[0]) for value in again] == [2, 4, 114, 1114] and made.tolist() == [1113, 1113]
    assert not any(module._forward_hooks for module in unet.modules())


def test_hooks_go_when_a_pass_fails():
    unet = Stack()
    with pytest.raises(TypeError), BlockFeatures(unet) as features:
        features.of(lambda: unet("no tensor"))
    assert not any(module._forward_hooks for module in unet.modules())


def test_features_of_a_unet_of_diffusers_are_what_its_blocks_give():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, cross_attention_dim=8, norm_num_groups=4,
    )  # fmt: skip
    with BlockFeatures(unet) as features:
        _, found = features.of(lambda: unet(torch.randn(2, 4, 4, 4), 3, torch.randn(2, 5, 8)).sample)
    shapes = [(2, 8, 2, 2), (2, 16, 2, 2), (2, 16, 4, 4), (2, 8, 4, 4)]
    assert [tuple(value.shape) for value in found] == shapes
    head = unet.conv_out(unet.conv_act(unet.conv_norm_out(found[-1])))
    assert found[-1].requires_grad and head.shape == (2, 4, 4, 4)


def test_distance_is_the_sum_of_mean_squares():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        [torch.randn(2, channels, 3, 3, generator=generator, dtype=torch.float64) for channels in (4, 8, 5)]
        for _ in range(2)
    )
    naive = 0.0
    for own, held in zip(student, teacher, strict=True):
        naive += sum(float(d) ** 2 for d in (own - held).flatten()) / own.numel()
    assert float(feature_distance(student, teacher)) == pytest.approx(naive, rel=1e-5)
    assert float(feature_distance(student, student)) == 0
    by_hand = feature_distance([torch.tensor([1.0, 3.0]), torch.tensor([2.0])], [torch.zeros(2), torch.tensor([5.0])])
    assert float(by_hand) == (1 + 9) / 2 + 9


def test_distance_of_half_precision_is_taken_in_single():
    student = torch.full((4,), 300.0, dtype=torch.float16)
    assert float(feature_distance([student], [torch.zeros(4, dtype=torch.bfloat16)])) == 90_000  # above what half holds


def test_other_blocks_are_refused():
    with pytest.raises(ValueError, match="student and teacher must have equally many blocks, not 1 and 2"):
        feature_distance([torch.zeros(1)], [torch.zeros(1)] * 2)
