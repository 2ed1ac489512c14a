"""Every action performed: the body stays whole, the feet stay down, and the joints prove what is claimed."""

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.skeleton import FEET, PARENTS, bone_lengths
from pocket_diffusers.training.datasets.motionworld.performance import PERFORM, perform
from pocket_diffusers.training.datasets.motionworld.plans import CHOICES, Action, all_actions


def performed(*plan, seed=0):
    """The first performance of a plan that a clip has room for."""
    for number in range(30):
        performance = perform(plan, np.random.default_rng([seed, number]))
        if performance is not None:
            return performance
    raise AssertionError(f"{plan} takes too long, however it is performed")


def test_every_verb_can_be_performed():
    assert PERFORM.keys() == CHOICES.keys()


@pytest.mark.parametrize("verb", CHOICES)
def test_every_action_is_seen_in_the_joints(verb, prove):
    for action in all_actions():
        if action.verb == verb:
            prove(action, performed(action).joints)


@pytest.mark.parametrize(("number", "verb"), list(enumerate(CHOICES)))
def test_no_action_proves_another_one(number, verb, prove):
    """The proofs can fail: a motion is not taken for one of another verb, side, direction or number."""
    done = next(action for action in all_actions() if action.verb == verb)
    joints = performed(done).joints
    for other in list(all_actions())[number % 5 :: 5]:
        told_apart = (other.verb, other.direction, other.limb, other.degrees) != (
            done.verb, done.direction, done.limb, done.degrees,
        ) or (other.repetitions != done.repetitions and 0 not in (other.repetitions, done.repetitions))  # fmt: skip
        if told_apart:
            with pytest.raises(AssertionError):
                prove(other, joints)


@pytest.mark.parametrize("verb", [verb for verb, choices in CHOICES.items() if len(choices.speeds) > 1])
def test_the_speeds_differ(verb):
    first = next(action for action in all_actions() if action.verb == verb)
    manner = {"direction": first.direction, "limb": first.limb, "degrees": first.degrees}
    manner["repetitions"] = first.repetitions
    measured = []
    for speed in ("slowly", "", "quickly"):
        joints = performed(Action(verb, speed, **manner), seed=3).joints
        measured.append(joints.diff(dim=0).norm(dim=-1).amax())
    slow, plain, quick = measured
    assert 1.1 * slow < plain < quick / 1.1


@pytest.mark.parametrize("verb", CHOICES)
def test_a_body_stays_whole_and_on_the_floor(verb):
    for seed, action in enumerate([action for action in all_actions() if action.verb == verb][::7]):
        joints, contacts, ends = performed(action, seed=seed)
        assert 40 <= len(joints) <= 196 and joints.dtype == torch.float32 and joints.shape[1:] == (22, 3)
        assert contacts.shape == (len(joints), 2) and contacts.dtype == torch.bool and contacts[[0, -1]].all()
        assert 0 < ends[0] < len(joints)
        bones = (joints[:, 1:] - joints[:, PARENTS[1:]]).norm(dim=-1)
        torch.testing.assert_close(bones, bone_lengths()[1:].expand_as(bones), atol=1e-5, rtol=0)
        assert joints[0, 0, [0, 2]].abs().max() == 0 and joints[..., 1].min() == 0
        for foot, (ankle, toes) in enumerate(FEET.values()):
            planted = contacts[:, foot]
            assert joints[planted, toes, 1].max() < 1e-5
            held = planted[1:] & planted[:-1]
            assert joints[:, toes].diff(dim=0)[held].abs().max() < 1e-5
            assert joints[:, ankle, 1].min() > 0.02
        knee_and_hip_are_forward(joints)
        assert (joints[:, 15, 1] - joints[:, 0, 1]).min() > 0.3  # the head is up


def knee_and_hip_are_forward(joints):
    """Knees bend forward and elbows too, seen from the axis through both hips or both shoulders."""
    for hinge, (root, middle, end), sign in (
        ((1, 2), (1, 4, 7), -1),
        ((1, 2), (2, 5, 8), -1),
        ((16, 17), (16, 18, 20), 1),
        ((16, 17), (17, 19, 21), 1),
    ):
        axis = joints[:, hinge[0]] - joints[:, hinge[1]]
        bend = torch.linalg.cross(joints[:, middle] - joints[:, root], joints[:, end] - joints[:, middle])
        arm = root in (16, 17)
        hanging = joints[:, end, 1] < joints[:, root, 1] - 0.3 if arm else torch.ones(len(joints), dtype=torch.bool)
        assert (-sign * (bend * axis).sum(-1))[hanging].min() > 0


def test_two_actions_follow_each_other(prove):
    plan = (Action("walk", direction="forward"), Action("wave", limb="left", repetitions=3))
    joints, _, (walked, waved) = performed(*plan)
    prove(plan[0], joints[: walked + 1])
    prove(plan[1], joints[walked : waved + 1])
    with pytest.raises(AssertionError):
        prove(plan[1], joints[: walked + 1])


def test_after_a_turn_forward_is_where_the_person_faces():
    plan = (Action("turn", direction="left", degrees=90), Action("walk", direction="forward"))
    x, _, z = performed(*plan).joints[-1, 0].tolist()
    assert x > 1.0 and abs(z) < 0.2  # +X is to the left of who faces +Z


def test_people_differ():
    action = Action("walk", direction="forward")
    first, second = (performed(action, seed=seed).joints[:40] for seed in (1, 2))
    assert (first - second).abs().max() > 0.05


def test_what_takes_longer_than_a_clip_is_not_performed():
    plan = (Action("crouch", "slowly", repetitions=3), Action("wave", "slowly", limb="left", repetitions=4))
    assert perform(plan, np.random.default_rng(0)) is None
