"""Losses on joints: each against a twin of loops in numpy, with gradients by finite differences."""

import math

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.motion_objectives import (
    BODY_PARTS,
    AntiJitter,
    AvoidSpheres,
    BodyPartTimeline,
    ControlTargets,
    HeadHeight,
    ObjectiveSum,
    PartSpan,
    StayInside,
)

BATCH, FRAMES = 3, 9
CHANCE = np.random.default_rng(0)
JOINTS = CHANCE.normal(size=(BATCH, FRAMES, 22, 3))
TARGETS = CHANCE.normal(size=(BATCH, FRAMES, 22, 3))
MASK = CHANCE.random((BATCH, FRAMES, 22)) < 0.3
MASK[2] = False
VALID = np.arange(FRAMES) < np.array([[9], [6], [5]])
CENTRES, RADII = CHANCE.normal(size=(4, 3)).round(3), np.array([0.5, 1.0, 1.5, 2.0])
LOW, HIGH = np.array([-0.5, 0.25, -math.inf]), np.array([0.5, 1.0, 0.75])
SPANS = (PartSpan("left_arm", 0, 4), PartSpan("legs", 2, 8), PartSpan("spine", 1, 2))
STRAY = [20, 18]


def squared_error(mask):
    def loss(sample, valid):
        squares = []
        for frame, joint in np.ndindex(FRAMES, 22):
            if mask[sample, frame, joint] and valid[frame]:
                squares += [
                    (JOINTS[sample, frame, joint, axis] - TARGETS[sample, frame, joint, axis]) ** 2 for axis in range(3)
                ]
        return sum(squares) / len(squares) if squares else 0.0

    return loss


def timeline_mask():
    mask = np.zeros((BATCH, FRAMES, 22), bool)
    for part, frames in ((STRAY, range(4)), ([10, 4, 11, 5], range(2, 8)), ([0], range(1, 2))):
        for frame in frames:
            mask[:, frame, part] = True
    return mask


def depth_in_spheres(sample, valid):
    depths = [
        max(0.0, radius - math.dist(JOINTS[sample, frame, 15], centre))
        for frame in range(FRAMES)
        if valid[frame]
        for centre, radius in zip(CENTRES, RADII, strict=True)
    ]
    return 0.5 * sum(depths) / len(depths)


def distance_from_box(sample, valid):
    distances = []
    for frame in np.flatnonzero(valid):
        sides = zip(JOINTS[sample, frame, 0], LOW, HIGH, strict=True)
        distances.append(math.hypot(*(max(0.0, low - x, x - high) for x, low, high in sides)))
    return 2.0 * sum(distances) / len(distances)


def distance_from_heights(sample, valid):
    heights = JOINTS[sample, valid, 15, 1]
    return float(np.mean([max(0.0, 0.2 - y, y - 0.6) for y in heights]))


def squared_jerk(sample, valid):
    jerks = []
    for frame in range(FRAMES - 3):
        if all(valid[frame : frame + 4]):
            p = JOINTS[sample, frame : frame + 4]
            jerks += [np.sum(((p[3] - 3 * p[2] + 3 * p[1] - p[0]) / 0.05**3)[joint] ** 2) for joint in range(22)]
    return 1e-6 * float(np.mean(jerks))


def torch_of(array):
    return torch.from_numpy(array)


CASES = {
    "targets": (ControlTargets(torch_of(TARGETS), torch_of(MASK)), squared_error(MASK)),
    "timeline": (BodyPartTimeline(torch_of(TARGETS), SPANS), squared_error(timeline_mask())),
    "spheres": (AvoidSpheres(CENTRES.tolist(), RADII.tolist(), "head", weight=0.5), depth_in_spheres),
    "box": (StayInside(LOW.tolist(), torch_of(HIGH), weight=2.0), distance_from_box),
    "head": (HeadHeight(0.2, 0.6), distance_from_heights),
    "jerk": (AntiJitter(1e-6), squared_jerk),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_loss_of_each_clip_is_that_of_loops(case):
    objective, twin = case
    every = np.ones((BATCH, FRAMES), bool)
    for valid in (every, VALID):
        expected = [twin(sample, valid[sample]) for sample in range(BATCH)]
        losses = objective(torch_of(JOINTS), torch_of(valid))
        assert losses.shape == (BATCH,) and losses.dtype == torch.double
        np.testing.assert_allclose(
            losses, expected, rtol=2e-6, atol=1e-9
        )  # centres and heights are in single precision
        assert max(expected) > 0
    assert torch.equal(objective(torch_of(JOINTS)), objective(torch_of(JOINTS), torch_of(every)))


def test_gradients_by_finite_differences(case):
    objective, _ = case
    joints = torch_of(JOINTS).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(joints, torch_of(VALID)).sum(), joints)
    assert gradient.abs().max() > 0 and not gradient[~torch_of(VALID)].any()
    flat, step = torch.from_numpy(JOINTS).flatten(), 1e-6
    for place in np.random.default_rng(1).choice(np.flatnonzero(gradient.flatten() != 0), 12):
        moved = [flat.clone() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        high, low = (objective(each.view(JOINTS.shape), torch_of(VALID)).sum() for each in moved)
        assert float((high - low) / (2 * step)) == pytest.approx(float(gradient.flatten()[place]), rel=1e-4, abs=1e-8)


def test_padding_has_neither_value_nor_gradient(case):
    objective, _ = case
    joints = torch_of(JOINTS).clone()
    expected = objective(joints, torch_of(VALID))
    joints[~torch_of(VALID)] = torch.nan
    joints.requires_grad_()
    losses = objective(joints, torch_of(VALID))
    assert torch.equal(losses, expected)
    (gradient,) = torch.autograd.grad(losses.sum(), joints)
    assert torch.isfinite(gradient).all() and not gradient[~torch_of(VALID)].any()
    assert not objective(joints, torch.zeros(BATCH, FRAMES, dtype=torch.bool)).any()


def test_descent_meets_objectives_together():
    objective = ObjectiveSum(
        [AvoidSpheres([[0.0, 1.0, 0.0]], [0.4]), StayInside((-0.5, 0, -0.5), (0.5, 2, 0.5)), HeadHeight(high=1.2)]
    )
    joints = torch_of(JOINTS).clone().requires_grad_()
    start = objective(joints, torch_of(VALID)).detach()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(objective(joints, torch_of(VALID)).sum(), joints)
        joints = (joints - 0.1 * gradient.sign() * (gradient != 0)).detach().requires_grad_()
    assert (objective(joints, torch_of(VALID)) < 0.05 * start).all()


def test_sum_adds_the_losses_of_each_clip():
    objectives = [objective for objective, _ in CASES.values()]
    parts = torch.stack([objective(torch_of(JOINTS), torch_of(VALID)) for objective in objectives])
    total = ObjectiveSum(objectives)(torch_of(JOINTS), torch_of(VALID))
    torch.testing.assert_close(total, parts.sum(0))

    def scalar(joints, valid):
        return joints.sum()

    with pytest.raises(ValueError, match=r"what scalar returns must be a loss a clip, \[3\], not \[\]\."):
        ObjectiveSum([scalar])(torch_of(JOINTS))
    with pytest.raises(ValueError, match=r"^objectives must be at least one objective, not \[\]\."):
        ObjectiveSum([])


def test_a_smooth_motion_has_no_jerk_and_a_centre_no_direction():
    time = torch.arange(20.0)[None, :, None, None].expand(1, 20, 22, 3) / 20
    assert AntiJitter(1.0)(1 + time + time**2) < 1e-3  # m/s^3 squared, of rounding
    assert AntiJitter(1.0)((time**3).double()) == pytest.approx(3 * 36, rel=1e-4)  # 6 on each axis
    joints = torch.zeros(1, 4, 22, 3, requires_grad=True)
    loss = AvoidSpheres([[0.0, 0.0, 0.0]], [1.0])(joints)
    assert loss.item() == 1 and torch.autograd.grad(loss, joints)[0].eq(0).all()


def test_targets_for_every_clip_alike():
    one = ControlTargets(torch_of(TARGETS[0]), torch_of(MASK[0]))
    each = ControlTargets(torch_of(TARGETS[:1]).expand(3, -1, -1, -1), torch_of(MASK[:1]).expand(3, -1, -1))
    assert torch.equal(one(torch_of(JOINTS)), each(torch_of(JOINTS)))


def test_timeline_masks_its_parts():
    timeline = CASES["timeline"][0]
    np.testing.assert_array_equal(timeline.mask, timeline_mask())
    assert set(sum(BODY_PARTS.values(), ())) == {0, 4, 5, 10, 11, 15, 18, 19, 20, 21}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AvoidSpheres([[0, 0, 0]], [0.0]), r"^radii must be positive and finite, not \[0\.0\]\."),
        (lambda: AvoidSpheres([[0, 0, 0]], [1.0, 2.0]), r"^radii must be \[1\], one a sphere, not \[2\]\."),
        (lambda: AvoidSpheres([], []), r"^centres must be \[spheres, 3\] with at least one sphere, not \[0\]\."),
        (lambda: AvoidSpheres([[0, 0], [0]], [1.0]), r"^centres must be numbers in a tensor or in lists"),
        (lambda: AvoidSpheres([[0, 0, math.nan]], [1.0]), r"^centres must be finite"),
        (lambda: AvoidSpheres([[0, 0, 0]], [1.0], "haed"), r"^joint 'haed' is unknown.*nearest: 'head'"),
        (lambda: AvoidSpheres([[0, 0, 0]], [1.0], weight=-1), r"^weight must be a number of at least 0, not -1\."),
        (lambda: StayInside((0, 0, 0), (1, 0, 1)), r"^low must be below high, \[1\.0, 0\.0, 1\.0\], on each axis"),
        (lambda: StayInside((0, 0), (1, 1)), r"^low must be a corner \[3\], not \[2\]\."),
        (lambda: HeadHeight(2, 1), r"^low must be below high"),
        (lambda: HeadHeight(math.nan), r"^low must be below high"),
        (lambda: AntiJitter(math.inf), r"^weight must be a number of at least 0, not inf\."),
        (lambda: AntiJitter(1)(torch.zeros(1, 3, 22, 3)), r"^frames must be at least 4, .*, not 3\."),
        (lambda: PartSpan("arm", 0, 3), r"^part must be one of left_arm, right_arm, legs, head, spine, not 'arm'\."),
        (lambda: PartSpan("head", 3, 3), r"^start and stop must be frames of the clip .*, not \(3, 3\)\."),
        (lambda: BodyPartTimeline(torch.zeros(1, 9, 22, 3), ()), r"^spans must be at least one span"),
        (
            lambda: BodyPartTimeline(torch.zeros(1, 9, 22, 3), (PartSpan("head", 3, 10),)),
            r"^stop of a span must be at most 9, the frames of the motion, not 10\.",
        ),
        (
            lambda: ControlTargets(torch.zeros(22, 3), torch.zeros(22).bool()),
            r"^targets must be \[batch, frames, 22, 3\]",
        ),
        (lambda: ControlTargets(torch.zeros(4, 22, 3), torch.zeros(5, 22).bool()), r"^mask must be \[4, 22\]"),
        (
            lambda: ControlTargets(torch.zeros(4, 22, 3), torch.ones(4, 22).bool())(torch.zeros(1, 5, 22, 3)),
            r"^targets must be \[1, 5, 22, 3\] as the joints, not \[4, 22, 3\]\.",
        ),
        (lambda: HeadHeight()(torch.zeros(5, 22, 3)), r"^joints must be \[batch, frames, 22, 3\], not \[5, 22, 3\]\."),
        (lambda: HeadHeight()(torch.zeros(1, 5, 22, 3), torch.ones(1, 5)), r"^valid must be boolean \[1, 5\]"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
