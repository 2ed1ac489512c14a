"""Rows that come and go, with the moments of Adam; and weights of any number of rows."""

import pytest
import torch
from torch import nn

from pocket_diffusers.hub_models.layers.parameter_rows import GrowingModule, take_rows


class Points(GrowingModule):
    rows = ("places", "sizes", "seen")

    def __init__(self, count: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(count)
        self.places = nn.Parameter(torch.randn(count, 3, generator=draw))
        self.sizes = nn.Parameter(torch.randn(count, generator=draw))
        self.register_buffer("seen", torch.arange(count, dtype=torch.float32))
        self.shared = nn.Linear(3, 2)


def trained(points: Points, steps: int = 3) -> torch.optim.Adam:
    optimizer = torch.optim.Adam(points.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        ((points.places + step) ** 3).sum().backward()
        ((points.sizes - step) ** 2).sum().backward()
        optimizer.step()
    return optimizer


def test_rows_and_their_moments_follow_the_index():
    points = Points(5)
    optimizer = trained(points)
    before = {name: getattr(points, name).detach().clone() for name in points.rows}
    moments = {
        (name, key): optimizer.state[getattr(points, name)][key].clone()
        for name in ("places", "sizes")
        for key in ("exp_avg", "exp_avg_sq")
    }
    parameters = [points.places, points.sizes]
    index, fresh = torch.tensor([4, 0, 0, 2]), torch.tensor([2])
    take_rows(points, points.rows, index, optimizer, fresh)
    assert [points.places, points.sizes] == parameters, "the optimizer goes on with the same parameters"
    for name in points.rows:
        assert torch.equal(getattr(points, name), before[name][index]), name
    for (name, key), was in moments.items():
        wanted = was[index]
        wanted[2] = 0
        state = optimizer.state[getattr(points, name)]
        assert torch.equal(state[key], wanted) and float(state["step"]) == 3, (name, key)
    assert points.places.grad is None
    points.places.square().sum().backward()
    optimizer.step()


def test_a_kept_row_goes_on_as_if_nothing_had_happened():
    left, changed = Points(4), Points(4)
    first, second = trained(left), trained(changed)
    take_rows(changed, changed.rows, torch.tensor([1, 3]), second)
    for points, optimizer in ((left, first), (changed, second)):
        optimizer.zero_grad()
        (points.places**3).sum().backward()
        optimizer.step()
    assert torch.equal(changed.places, left.places[[1, 3]])


def test_rows_can_move_before_the_first_step():
    points = Points(3)
    take_rows(points, points.rows, torch.tensor([2]), torch.optim.Adam(points.parameters()), torch.tensor([0]))
    assert len(points.places) == 1 and float(points.seen) == 2


@pytest.mark.parametrize("count", [0, 2, 9])
def test_weights_of_any_number_of_rows_load_alone_and_inside_another_module(count):
    saved, own = nn.Sequential(Points(count), nn.ReLU()), nn.Sequential(Points(4), nn.ReLU())
    parameters = list(own.parameters())
    own.load_state_dict(saved.state_dict())
    assert all(a is b for a, b in zip(parameters, own.parameters(), strict=True))
    for name, value in saved.state_dict().items():
        assert torch.equal(own.state_dict()[name], value), name


@pytest.mark.parametrize(
    "changes",
    [
        {"places": torch.zeros(2, 4)},
        {"places": torch.zeros(2, 3)},
        {"sizes": torch.tensor(1.0)},
        {"shared.weight": torch.zeros(3, 3)},
    ],
    ids=["other width", "other rows than the rest", "no rows", "no row parameter"],
)
def test_weights_that_do_not_belong_are_refused(changes):
    with pytest.raises(RuntimeError, match="size mismatch"):
        Points(4).load_state_dict({**Points(4).state_dict(), **changes})


def test_missing_rows_are_told():
    state = Points(4).state_dict()
    del state["sizes"]
    with pytest.raises(RuntimeError, match="sizes"):
        Points(4).load_state_dict(state)
