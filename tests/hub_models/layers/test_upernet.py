import pytest
import torch
import torch.nn.functional as F

from pocket_diffusers.hub_models.layers.upernet import PyramidPooling, UPerNetHead, resized


def shaken(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module.eval()


def test_pyramid_pooling_sees_means_of_parts():
    pooling = shaken(PyramidPooling(4, 3, (1, 2)))
    x = torch.randn(2, 4, 4, 6)
    seen = []
    pooling.join.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert pooling(x).shape == (2, 3, 4, 6)
    assert torch.equal(seen[0][:, :4], x)
    whole = F.gelu(F.conv2d(x.mean((2, 3), keepdim=True), pooling.parts[0].weight, pooling.parts[0].bias))
    torch.testing.assert_close(seen[0][:, 4:7], whole.expand(-1, -1, 4, 6))
    quarters = x.unflatten(3, (2, 3)).unflatten(2, (2, 2)).mean((3, 5))
    quarters = F.gelu(F.conv2d(quarters, pooling.parts[1].weight, pooling.parts[1].bias))
    corner = seen[0][:, 7:, 0, 0]
    torch.testing.assert_close(corner, quarters[:, :, 0, 0])


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_head_predicts_at_the_first_map_and_uses_every_map(separable, norm):
    head = shaken(UPerNetHead((4, 6, 8), 5, {"a": 2, "b": 3}, (1, 2), norm, separable))
    maps = [torch.randn(2, 4, 8, 12), torch.randn(2, 6, 4, 6), torch.randn(2, 8, 2, 3)]
    maps = [x.requires_grad_() for x in maps]
    dense = head(maps)
    assert {name: tuple(value.shape) for name, value in dense.items()} == {"a": (2, 2, 8, 12), "b": (2, 3, 8, 12)}
    sum(value.square().sum() for value in dense.values()).backward()
    assert all(x.grad.abs().sum() > 0 for x in maps)
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_information_flows_from_low_to_high_resolution_only():
    """The pyramid's own outputs: what the lowest level sees reaches all levels, the highest reaches itself alone."""
    head = shaken(UPerNetHead((4, 4), 4, {"a": 1}, (1,)))
    levels = []
    head.fuse.register_forward_pre_hook(lambda module, inputs: levels.append(inputs[0]))
    maps = [torch.randn(1, 4, 4, 4), torch.randn(1, 4, 2, 2)]
    head(maps)
    head([maps[0] + 1, maps[1]])
    head([maps[0], maps[1] + 1])
    high, low = slice(0, 4), slice(4, 8)
    assert torch.equal(levels[0][:, low], levels[1][:, low]) and not torch.equal(levels[0][:, high], levels[1][:, high])
    assert not torch.equal(levels[0][:, low], levels[2][:, low])
    assert not torch.equal(levels[0][:, high], levels[2][:, high])


def test_resized_leaves_what_fits():
    x = torch.randn(1, 2, 3, 4)
    assert resized(x, x.shape[2:]) is x
    assert resized(x, (6, 8)).shape == (1, 2, 6, 8)
