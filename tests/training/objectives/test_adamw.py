from torch import nn

from pocket_diffusers.hub_models.transformer_ascan import AsCANModel
from pocket_diffusers.training.objectives.adamw import adamw


def test_matrices_decay_and_norms_biases_and_position_tables_do_not():
    model = AsCANModel.from_preset("nano")
    decayed, others = adamw(model, 1e-3, 0.05).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert not [names[id(p)] for p in decayed["params"] if names[id(p)].endswith((".bias", ".table"))]
    assert any(names[id(p)].endswith(".table") for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_frozen_weights_are_left_out():
    module = nn.Linear(3, 3)
    module.bias.requires_grad_(False)
    assert [len(group["params"]) for group in adamw(module, 1e-3, 0.1).param_groups] == [1, 0]
