"""What ControlMM's control branch is and computes; what all models promise is in `tests/contracts`."""

import pytest
import torch
import torch.nn.functional as F

from pocket_diffusers.hub_models.control_branch_controlmm import SIX_JOINTS, ControlMMControlBranch
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMTransformer
from pocket_diffusers.pipelines.motion.skeleton import CONTROL_JOINTS

PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


def random(*shape, seed=0, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def make_base():
    torch.manual_seed(0)
    sizes = {"width": 16, "num_layers": 2, "num_heads": 4, "ff_width": 24}
    model = ControlMMTransformer(num_codes=10, code_width=6, text_width=5, **sizes)
    for index, parameter in enumerate(model.parameters()):
        parameter.data = random(*parameter.shape, seed=index, scale=0.3)
    return model.eval()


def make(base=None, joined=True, **options):
    """A branch of two joints; `joined` has numbers in place of the zeros that it begins with."""
    torch.manual_seed(1)
    branch = ControlMMControlBranch.from_transformer(
        base or make_base(), **{"control_joints": (0, 2), "conv_width": 8, "conv_depth": 2, **options}
    )
    if joined:
        for index, layer in enumerate([branch.control_in, *branch.layers_out]):
            layer.weight.data = random(16, 16, seed=50 + index, scale=0.3)
            layer.bias.data = random(16, seed=70 + index, scale=0.3)
    return branch.eval()


def inputs(batch=2):
    ids = torch.randint(10, (batch, 5), generator=torch.Generator().manual_seed(3))
    return ids, random(batch, 5, seed=4), random(batch, 20, 12, seed=5)


def controlled(base, branch, batch=2, padding=None):
    ids, text, control = inputs(batch)
    return base(ids, text, padding, branch, control)


@pytest.mark.parametrize(("preset", "parameters"), [("paper-pelvis", 21_372_160), ("paper", 21_418_240)])
def test_paper_has_the_derived_sizes(preset, parameters):
    with torch.device("meta"):
        branch = ControlMMControlBranch.from_preset(preset)
    assert sum(p.numel() for p in branch.parameters()) == parameters
    assert sum(p.numel() for p in branch.trunk.parameters()) == 11_045_888


def test_nano_copies_the_trunk_of_the_nano_transformer():
    with torch.device("meta"):
        branch, base = ControlMMControlBranch.from_preset("nano"), ControlMMTransformer.from_preset("nano")
    shapes = [{name: p.shape for name, p in model.trunk.named_parameters()} for model in (branch, base)]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in branch.parameters()) < 0.8e6


def test_it_knows_the_joints_that_control_is_measured_at():
    assert SIX_JOINTS == CONTROL_JOINTS


def test_a_new_branch_is_a_copy_that_changes_nothing():
    base = make_base()
    branch = make(base, joined=False)
    theirs = base.trunk.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in branch.trunk.state_dict().items())
    assert not {p.data_ptr() for p in branch.parameters()} & {p.data_ptr() for p in base.parameters()}
    ids, text, _ = inputs()
    assert torch.equal(controlled(base, branch), base(ids, text))
    assert torch.equal(controlled(base, branch, padding=PADDING), base(ids, text, PADDING))
    assert branch.control_encoder.conv_out.weight.any(), "only what joins begins at zero"


@pytest.mark.parametrize("into_frozen_input", [False, True])
def test_it_adds_to_every_layer_what_its_copy_makes_of_controlled_tokens(into_frozen_input):
    """Layer by layer, as the paper draws it: the copy and the frozen trunk side by side."""
    base = make_base()
    branch = make(base, control_into_frozen_input=into_frozen_input)
    ids, text, control = inputs()
    starts = []
    handle = base.trunk.layers[0].register_forward_pre_hook(lambda module, args: starts.append(args[0]))
    base(ids, text)
    handle.remove()
    x = starts[0]  # [2, 1 + 5, 16]
    c = branch.control_in(branch.control_encoder(control.transpose(1, 2)).transpose(1, 2))
    h = torch.cat([x[:, :1], x[:, 1:] + c], 1)
    frozen = h if into_frozen_input else x
    for index, layer in enumerate(branch.trunk.layers):
        h = layer(h)
        zero = branch.layers_out[index]
        frozen = base.trunk.layers[index](frozen) + h @ zero.weight.T + zero.bias
    torch.testing.assert_close(base(ids, text, None, branch, control), base.head(frozen[:, 1:]), atol=1e-5, rtol=1e-5)


def test_control_reaches_its_tokens_and_the_prompt_gets_none():
    base = make_base()
    branch = make(base, control_into_frozen_input=True)
    x, control = random(2, 6, 16, seed=8), inputs()[2]
    start, _ = branch(x, control)
    assert torch.equal(start[:, 0], x[:, 0])
    assert ((start[:, 1:] - x[:, 1:]).abs().amax(-1) > 1e-4).all()
    base_start, _ = make(base)(x, control)
    assert base_start is x


@torch.no_grad()
def test_padding_has_no_influence():
    base = make_base()
    branch = make(base)
    ids, text, control = inputs()
    alone = base(ids[1:, :3], text[1:], None, branch, control[1:, :12])
    control[1, 12:] = 100.0
    padded = base(ids, text, PADDING, branch, control)
    torch.testing.assert_close(padded[1:, :3], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded[:1], base(ids[:1], text[:1], None, branch, control[:1]), atol=1e-5, rtol=1e-5)


def test_gradients_through_a_frozen_transformer_reach_every_parameter_and_leave_it_alone():
    base = make_base().requires_grad_(False)
    branch = make(base)
    controlled(base, branch, padding=PADDING).square().mean().backward()
    assert not [name for name, p in branch.named_parameters() if not p.grad.abs().sum() > 0]
    assert all(p.grad is None for p in base.parameters())


def test_a_new_branch_learns_from_its_first_step():
    """Zero layers have gradients though what is behind them has none yet."""
    base = make_base().requires_grad_(False)
    branch = make(base, joined=False)
    F.cross_entropy(controlled(base, branch).flatten(0, 1), inputs()[0].flatten()).backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in branch.layers_out)


def test_export_leaves_the_batch_free():
    class Controlled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = make_base()
            self.branch = make(self.base)

        def forward(self, ids, text, control, padding):
            return self.base(ids, text, padding, self.branch, control)

    net, batch = Controlled().eval(), torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(net, (*inputs(), PADDING), dynamic_shapes=({0: batch},) * 4).module()
    three = (*inputs(3), PADDING[[0, 1, 1]])
    torch.testing.assert_close(exported(*three), net(*three))
