"""The 263 features against a twin that goes frame by frame, against the published statistics, and there and back."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from pocket_diffusers.pipelines.motion.forward_kinematics import chained, joints_of
from pocket_diffusers.pipelines.motion.inverse_kinematics import bones_of, heading
from pocket_diffusers.pipelines.motion.motion_features import (
    CONTACTS,
    GROUPS,
    HEIGHT,
    NUM_FEATURES,
    PLACES,
    ROTATIONS,
    STEP,
    STEPS,
    TURN,
    MotionStatistics,
    canonicalised,
    check_features,
    features_of,
    joints_of_features,
    retargeted,
)
from pocket_diffusers.pipelines.motion.rotations import about_vertical, from_axis_angles, product, turned_about_vertical
from pocket_diffusers.pipelines.motion.skeleton import CHAINS, bone_lengths, rest_directions

MOTIONS = Path(os.environ.get("POCKET_DATA", Path(__file__).parents[4] / "shared" / "data"), "motion")
HOSTILE_CASES = int(os.environ.get("POCKET_HOSTILE_CASES", "1000"))
WAVES = 6


def person(
    seed: int = 0,
    frames: int = 60,
    clips: int = 2,
    bend: float = 0.4,
    spin: float = 3.0,
    dtype: torch.dtype = torch.float,
) -> torch.Tensor:
    """Joints [clips, frames, 22, 3] of people who bend, spin and wander at random but smoothly, anywhere."""
    draw = torch.Generator().manual_seed(seed)
    waves = torch.cos(math.pi * torch.linspace(0, 1, frames)[:, None] * torch.arange(WAVES))  # [frames, waves]

    def smooth(*shape: int) -> torch.Tensor:
        return torch.einsum("fw,w...->f...", waves, torch.randn(WAVES, *shape, generator=draw)).movedim(0, 1)

    rotations = from_axis_angles(bend * smooth(clips, 22, 3) / math.sqrt(WAVES))
    rotations[:, :, 0] = product(about_vertical(spin * smooth(clips)), rotations[:, :, 0])
    root = smooth(clips, 3) * torch.tensor([2, 0.1, 2]) + torch.randn(clips, 1, 3, generator=draw) * 5
    return joints_of(rotations.to(dtype), root.to(dtype))


def walker(frames: int = 60) -> torch.Tensor:
    """Joints [frames, 22, 3] of a figure at rest that slides at 1 m/s along +Z."""
    root = torch.zeros(frames, 3)
    root[:, 1], root[:, 2] = 0.97, torch.arange(frames) / 20
    return joints_of(torch.tensor([1.0, 0, 0, 0]).expand(frames, 22, 4), root)


# The twin: one frame after the other, in NumPy, with matrices.


def matrix_about_vertical(angle: float) -> np.ndarray:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def matrix_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Rodrigues' formula for the smallest rotation of one direction to another."""
    start, end = start / np.linalg.norm(start), end / np.linalg.norm(end)
    x, y, z = np.cross(start, end)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + skew + skew @ skew / (1 + start @ end)


def forward_of(pose: np.ndarray) -> np.ndarray:
    across = pose[2] - pose[1] + pose[17] - pose[16]
    return np.cross([0, 1, 0], across / np.linalg.norm(across))


def angle_of(forward: np.ndarray) -> float:
    return math.atan2(forward[0], forward[2])


def smoothed(rows: list[np.ndarray], sigma: float = 20.0) -> list[np.ndarray]:
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-80, 81)]
    last = len(rows) - 1
    return [
        sum(
            weight * rows[min(max(frame + offset, 0), last)]
            for offset, weight in zip(range(-80, 81), weights, strict=True)
        )
        / sum(weights)
        for frame in range(len(rows))
    ]


def twin(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canonical joints [frames, 22, 3] and features [frames - 1, 263] of one clip."""
    frames = len(joints)
    floor = min(pose[joint, 1] for pose in joints for joint in range(22))
    home = matrix_about_vertical(-angle_of(forward_of(joints[0])))
    joints = np.stack([(pose - [joints[0, 0, 0], floor, joints[0, 0, 2]]) @ home.T for pose in joints])
    angles = [angle_of(forward) for forward in smoothed([forward_of(pose) for pose in joints])]
    angles[0] = 0.0
    homewards = [matrix_about_vertical(-angle) for angle in angles]
    rows = []
    for frame in range(frames - 1):
        pose, after = joints[frame], joints[frame + 1]
        turn = homewards[frame + 1] @ homewards[frame].T  # of which the quaternion's y is the sine of half the angle
        half = math.asin(math.copysign(math.sqrt(max(0, (1 - turn[0, 0]) / 2)), turn[0, 2]))
        step = homewards[frame + 1] @ (after[0] - pose[0])
        row = [half, step[0], step[2], pose[0, 1]]
        for joint in range(1, 22):
            row += list(homewards[frame] @ (pose[joint] - [pose[0, 0], 0, pose[0, 2]]))
        local = {}
        for chain in CHAINS:
            before = homewards[frame]
            for parent, joint in zip(chain[:-1], chain[1:], strict=True):
                turned = matrix_between(rest_directions()[joint].numpy(), pose[joint] - pose[parent])
                local[joint] = before.T @ turned
                before = turned
        for joint in range(1, 22):
            row += [*local[joint][:, 0], *local[joint][:, 1]]
        for joint in range(22):
            row += list(homewards[frame] @ (after[joint] - pose[joint]))
        for joint in (7, 10, 8, 11):
            row.append(float(((after[joint] - pose[joint]) ** 2).sum() < 0.002))
        rows.append(row)
    return joints, np.array(rows)


SLICES = {
    "turn": TURN, "step": STEP, "height": HEIGHT, "places": PLACES, "rotations": ROTATIONS, "steps": STEPS,
    "contacts": CONTACTS,
}  # fmt: skip


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Ours and the twin's features, of short and long clips, spinning and not."""
    clips = [person(1, 50, 1, dtype=torch.double), person(2, 7, 1, spin=0.1, dtype=torch.double)]
    clips.append(person(3, 100, 1, spin=8.0, dtype=torch.double))
    return [(features_of(clip)[0].numpy(), twin(clip[0].numpy())[1]) for clip in clips]


@pytest.mark.parametrize("name", SLICES)
def test_each_slice_is_the_twin_s(pairs, name):
    for ours, theirs in pairs:
        assert np.abs(ours[:, SLICES[name]] - theirs[:, SLICES[name]]).max() < 1e-7
    if name == "contacts":
        assert {*np.unique(np.concatenate([ours[:, CONTACTS] for ours, _ in pairs]))} == {0, 1}


def test_slices_follow_one_another_to_263():
    assert [group.start for group in GROUPS] == [0, *(group.stop for group in GROUPS[:-1])]
    assert GROUPS[-1].stop == NUM_FEATURES == 263 and tuple(SLICES.values()) == GROUPS


def test_canonical_joints_are_the_twin_s():
    clip = person(1, 30, 1, dtype=torch.double)
    canonical = canonicalised(clip)[0]
    assert_close(canonical, torch.from_numpy(twin(clip[0].numpy())[0]))
    assert_close(canonical[..., 1].min(), torch.tensor(0.0).double())
    assert_close(canonical[0, 0, ::2], torch.zeros(2).double())
    assert_close(heading(canonical)[0], torch.tensor(0.0).double())
    assert_close(canonicalised(canonical), canonical)


# There and back


@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(2, 196),
    bend=st.floats(0, 1),
    spin=st.floats(0, 10),
    turned=st.floats(-math.pi, math.pi),
)
@settings(max_examples=60, deadline=None)
def test_decoded_features_are_the_canonical_joints(seed, frames, bend, spin, turned):
    joints = turned_about_vertical(person(seed, frames, 1, bend, spin), torch.tensor(turned))
    found = joints_of_features(features_of(joints))
    assert (found - canonicalised(joints)[:, :-1]).norm(dim=-1).max() < 1e-5


def test_one_who_spins_through_half_a_turn_is_found_again():
    """There the quaternion of the heading changes its sign, and a sine alone would turn the wrong way."""
    turns = torch.linspace(0, 5 * math.pi, 400)
    rotations = torch.tensor([1.0, 0, 0, 0]).expand(400, 22, 4).clone()
    rotations[:, 0] = about_vertical(turns)
    features = features_of(joints_of(rotations, torch.zeros(3)))
    assert bool((features[1:, 0] < 0).all())  # the first step is from the heading as it is to the smoothed one
    found = joints_of_features(features)
    assert (found - canonicalised(joints_of(rotations, torch.zeros(3)))[:-1]).norm(dim=-1).max() < 1e-5


def test_any_leading_dimensions():
    clips = person(4, 20, 6)
    features = features_of(clips)
    assert_close(features_of(clips.view(2, 3, 20, 22, 3)), features.view(2, 3, 19, 263))
    assert_close(features_of(clips[5]), features[5])
    assert_close(joints_of_features(features.view(2, 3, 19, 263)), joints_of_features(features).view(2, 3, 19, 22, 3))
    assert_close(joints_of_features(features[5]), joints_of_features(features)[5])


def test_features_do_not_depend_on_where_in_the_world_one_is():
    clips = person(5, 40, dtype=torch.double)
    moved = turned_about_vertical(clips, torch.tensor(2.5).double()) + torch.tensor([7.0, -3, 11])
    assert_close(features_of(moved), features_of(clips))


def test_joints_are_read_from_the_first_67_features():
    features = features_of(person(6, 30))
    changed = features.clone()
    changed[..., 67:] = torch.randn(changed[..., 67:].shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(joints_of_features(changed), joints_of_features(features))
    assert joints_of_features(features[:, :1]).shape == (2, 1, 22, 3)


def test_rotations_along_the_chains_give_the_bones_again():
    clip = person(7, 30, 1, dtype=torch.double)
    canonical = canonicalised(clip)[0, :-1]
    features = features_of(clip)[0]
    columns = features[:, ROTATIONS].reshape(-1, 21, 2, 3)
    matrices = torch.stack([*columns.unbind(2), torch.linalg.cross(*columns.unbind(2))], -1)
    angles = 2 * torch.nn.functional.pad(features[:-1, 0].cumsum(0), (1, 0))
    for chain in CHAINS:
        turned = torch.stack([torch.from_numpy(matrix_about_vertical(float(angle))) for angle in angles])
        for parent, joint in zip(chain[:-1], chain[1:], strict=True):
            turned = turned @ matrices[:, joint - 1]
            bone = turned @ rest_directions()[joint].double() * bone_lengths()[joint]
            assert_close(bone, canonical[:, joint] - canonical[:, parent])


def test_what_features_say_of_one_who_slides_ahead():
    features = features_of(walker())
    assert_close(features[:, STEP], torch.tensor([0, 0.05]).expand(59, 2), atol=1e-6, rtol=0)
    assert_close(features[:, STEPS].reshape(59, 22, 3), torch.tensor([0, 0, 0.05]).expand(59, 22, 3), atol=1e-6, rtol=0)
    assert_close(features[:, TURN], torch.zeros(59, 1), atol=1e-6, rtol=0)
    assert not features[:, CONTACTS].any()  # 0.05 m squared is 0.0025
    assert features_of(walker() * torch.tensor([1, 1, 0.8]))[:, CONTACTS].all()  # 0.04 m squared is 0.0016


def test_gradients_are_those_of_finite_differences():
    joints = person(8, 6, dtype=torch.double)
    assert torch.autograd.gradcheck(features_of, joints.requires_grad_(), fast_mode=True)
    features = features_of(joints.detach()).requires_grad_()
    assert torch.autograd.gradcheck(joints_of_features, features, fast_mode=True)
    (gradient,) = torch.autograd.grad(joints_of_features(features)[:, -1, 0, 0].sum(), features)
    assert gradient[:, :-1, STEP].any(-1).all() and not gradient[..., 67:].any()


# The uniform skeleton


def test_people_of_any_size_are_given_the_bones_of_the_uniform_skeleton():
    clips = person(9, 30, dtype=torch.double)
    lengths = bone_lengths().double() * (0.5 + torch.rand(22, generator=torch.Generator().manual_seed(0)))
    bones = torch.nn.functional.normalize(bones_of(clips), dim=-1)
    other = chained(bones * lengths[:, None], clips[..., 0, :])
    found = retargeted(other)
    assert_close(bones_of(found), bones_of(clips))
    scale = (bone_lengths()[5] + bone_lengths()[8]) / (lengths[5] + lengths[8])
    assert_close(found[..., 0, :], clips[..., 0, :] * scale)
    assert_close(retargeted(clips), clips)
    assert_close(retargeted(clips[0] * 3), clips[0])


def test_two_joints_at_one_place_are_refused():
    clip = person(9, 5, 1)
    clip[0, 3, 15] = clip[0, 3, 12]
    with pytest.raises(ValueError, match=r"joints must lie apart, but head is where its parent is\."):
        retargeted(clip)


# Statistics


def statistics(emphasised: bool = False) -> MotionStatistics:
    plain = MotionStatistics.of(features_of(person(seed, 40)) for seed in range(10))
    return plain.emphasised() if emphasised else plain


def published(family: str) -> MotionStatistics:
    names = {"humanml3d": ("Mean", "Std"), "evaluator": ("t2m_mean", "t2m_std")}[family]
    files = [MOTIONS / f"{family}_{name}.npy" for name in names]
    if not all(file.exists() for file in files):
        pytest.skip("HumanML3D's statistics are not here: set POCKET_DATA to the folder that holds motion/")
    return MotionStatistics.load(*files)


def test_statistics_are_those_of_all_frames_with_one_deviation_for_a_group():
    clips = [features_of(person(seed, 40 + seed, 1))[0] for seed in range(10)]
    found = MotionStatistics.of(iter(clips))
    rows = np.concatenate([clip.numpy() for clip in clips]).astype(np.float64)
    assert_close(found.mean, torch.from_numpy(rows.mean(0)).float())
    for start, end in ((0, 1), (1, 3), (3, 4), (4, 67), (67, 193), (193, 259), (259, 263)):
        assert_close(found.std[start:end], torch.full((end - start,), rows.std(0)[start:end].mean()).float())


@pytest.mark.parametrize("emphasised", [False, True])
def test_normalised_features_come_back(emphasised):
    known, features = statistics(emphasised), features_of(person(3, 40))
    normalised = known.normalise(features)
    assert_close(normalised, (features - known.mean) / known.std)
    assert_close(known.denormalise(normalised), features, atol=1e-5, rtol=0)
    assert_close(known.in_metres(normalised), features, atol=1e-5, rtol=0)
    rows = torch.cat([known.normalise(features_of(person(seed, 40))).flatten(0, 1) for seed in range(10)])
    assert_close(rows.mean(0), torch.zeros(263), atol=1e-3, rtol=0)


def test_emphasis_is_25_on_the_root_and_the_contacts_and_1_elsewhere():
    plain = statistics()
    ratio = plain.std / plain.emphasised().std
    expected = torch.ones(263)
    expected[:4], expected[259:] = 25, 25
    assert_close(ratio, expected)
    assert torch.equal(plain.emphasised().mean, plain.mean)


def test_emphasis_is_what_the_published_statistics_differ_by():
    """The two files were computed from motions that differ a little: by 1 % in the ratios, 3 cm in the places."""
    plain, networks = published("humanml3d"), published("evaluator")
    assert_close(plain.emphasised().std, networks.std, rtol=0.011, atol=0)
    assert not torch.allclose(plain.std, networks.std, rtol=0.5)
    assert_close(plain.mean, networks.mean, rtol=0, atol=0.03)


@pytest.mark.parametrize("family", ["humanml3d", "evaluator"])
def test_published_statistics_have_our_groups_and_their_mean_is_a_person_who_walks_on(family):
    known = published(family)
    assert all(torch.unique(known.std[group]).numel() == 1 for group in GROUPS)
    assert_close(known.mean[STEP][1], known.mean[STEPS][2], atol=1e-4, rtol=0)
    check_features(known.mean[None])
    joints = joints_of_features(known.mean.expand(20, 263))
    assert bool((joints[:, 1, 0] > joints[:, 0, 0]).all() and (joints[:, 2, 0] < joints[:, 0, 0]).all())
    assert bool((joints[:, 15, 1] > joints[:, 0, 1] + 0.4).all() and (joints[:, 10:12, 1] < 0.1).all())
    assert joints[-1, 0, 2] > joints[0, 0, 2] + 0.1


@pytest.mark.parametrize("emphasised", [False, True])
def test_features_are_not_normalised_twice_nor_denormalised_twice(emphasised):
    known = statistics(emphasised)
    for features in (features_of(person(3, 40)), features_of(person(4, 40, bend=0.05)), features_of(walker())):
        normalised = known.normalise(features)
        for wrong in (known.normalise, check_features, MotionStatistics.of):
            with pytest.raises(ValueError, match="features must be in metres and radians, not normalised"):
                wrong(normalised[None])
        with pytest.raises(ValueError, match="features must be normalised, not in metres and radians"):
            known.denormalise(features)


def test_features_of_other_statistics_are_refused_where_the_root_leaves_the_world():
    crouched = features_of(person(3, 40))
    crouched[..., HEIGHT] = 0.4
    plain = statistics()
    plain.mean[HEIGHT], plain.std[HEIGHT] = 0.92, 0.15
    with pytest.raises(
        ValueError, match=r"features must have a root between -1 and 4 m, not -12\.1 m: were they scaled"
    ):
        plain.denormalise(plain.emphasised().normalise(crouched))


def test_what_an_untrained_network_makes_is_not_refused():
    known = statistics(emphasised=True)
    for scale in (0.0, 0.02, 0.3, 1.0):
        made = scale * torch.randn(2, 30, 263, generator=torch.Generator().manual_seed(0))
        check_features(known.denormalise(made))


def test_statistics_can_be_differentiated_and_keep_the_device():
    known, features = statistics(), features_of(person(3, 40)).requires_grad_()
    known.in_metres(known.normalise(features)).sum().backward()
    assert_close(features.grad, torch.ones_like(features))
    moved = known.to(torch.device("cpu"))
    assert torch.equal(moved.mean, known.mean) and torch.equal(moved.std, known.std)


def test_saved_statistics_are_read_again_by_us_and_by_numpy(tmp_path):
    known = statistics()
    known.save(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["Mean.npy", "Std.npy"]
    again = MotionStatistics.load(tmp_path / "new" / "Mean.npy", str(tmp_path / "new" / "Std.npy"))
    assert torch.equal(again.mean, known.mean) and torch.equal(again.std, known.std)
    assert_close(torch.from_numpy(np.load(tmp_path / "new" / "Std.npy")), known.std)
    np.save(tmp_path / "double.npy", known.std.double().numpy())
    assert torch.equal(MotionStatistics.load(tmp_path / "double.npy", tmp_path / "double.npy").mean, known.std)


def test_padding_is_not_looked_at():
    known, features = statistics(), features_of(person(3, 40))
    padded = torch.nn.functional.pad(features, (0, 0, 0, 160))
    assert_close(known.normalise(padded)[:, :39], known.normalise(features))
    assert_close(known.denormalise(torch.zeros(1, 20, 263)), known.mean.expand(1, 20, 263))
    with pytest.raises(ValueError, match="features must be in metres and radians, not normalised"):
        known.normalise(torch.nn.functional.pad(known.normalise(features), (0, 0, 0, 160)))


# Bad input


@pytest.mark.parametrize(
    "function", [check_features, joints_of_features, statistics().normalise, statistics().denormalise]
)
@pytest.mark.parametrize("shape", [(10, 251), (263,), (0, 263), (0, 10, 263), (263, 10), ()])
def test_features_of_a_wrong_shape_are_refused(function, shape):
    with pytest.raises(ValueError, match=r"features must be \[\.\.\., frames, 263\] with at least one frame, not \["):
        function(torch.zeros(shape))


@pytest.mark.parametrize("function", [check_features, statistics().normalise, statistics().denormalise])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(function, value):
    features = features_of(person(3, 40))
    features[0, 3, 100] = value
    with pytest.raises(ValueError, match=r"features must be finite, but hold NaN or infinity\."):
        function(features)


@pytest.mark.parametrize("function", [features_of, canonicalised, retargeted])
@pytest.mark.parametrize("shape", [(1, 22, 3), (5, 21, 3), (5, 22, 2), (22, 3), (0, 5, 22, 3), (5, 66)])
def test_joints_of_a_wrong_shape_are_refused(function, shape):
    with pytest.raises(ValueError, match=r"joints must be \[\.\.\., frames, 22, 3\] with at least two frames, not \["):
        function(torch.ones(shape))


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match=r"joints must be floating point, not 'torch\.int64'\."):
        features_of(torch.ones(5, 22, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"features must be floating point, not 'torch\.int64'\."):
        joints_of_features(torch.ones(5, 263, dtype=torch.long))


@pytest.mark.parametrize("function", [features_of, canonicalised, retargeted])
def test_joints_that_are_not_finite_are_refused(function):
    joints = person(3, 40)
    joints[1, 7, 3, 2] = math.nan
    with pytest.raises(ValueError, match=r"joints must be finite, but hold NaN or infinity\."):
        function(joints)


@pytest.mark.parametrize(
    ("mean", "std", "sentence"),
    [
        (torch.zeros(251), torch.ones(263), r"mean must be \[263\], not \[251\]\."),
        (torch.zeros(263), torch.ones(1, 263), r"std must be \[263\], not \[1, 263\]\."),
        (torch.full((263,), math.nan), torch.ones(263), r"mean must be finite, but holds NaN or infinity\."),
        (torch.zeros(263), torch.arange(263.0), r"std of feature 0 must be positive, not 0\.0\."),
    ],
)
def test_numbers_that_are_no_statistics_are_refused(mean, std, sentence):
    with pytest.raises(ValueError, match=sentence):
        MotionStatistics(mean, std)


def test_no_clip_is_refused():
    with pytest.raises(ValueError, match=r"clips must be at least one, not 0\."):
        MotionStatistics.of([])


def as_file(path: Path, content: np.ndarray) -> None:
    np.save(path, content)


def huge(path: Path) -> None:
    np.save(path, np.zeros(263, np.float32))
    path.write_bytes(path.read_bytes().replace(b"(263,), }        ", b"(999999999,), }  "))


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: as_file(path, np.zeros(251)), r"must have the shape \[263\], not \[251\]"),
        (lambda path: as_file(path, np.zeros(10_000)), r"must have the shape \[263\], not \[10000\]"),
        (lambda path: as_file(path, np.zeros((1, 263))), r"must have the shape \[263\], not \[1, 263\]"),
        (lambda path: as_file(path, np.zeros(263, int)), "must hold float32 or float64 in the order of C, not int64"),
        (
            lambda path: np.save(path, np.array([{}] * 9), allow_pickle=True),
            "must hold float32 or float64 in the order of C, not object",
        ),
        (lambda path: path.write_bytes(b""), "is truncated or no .npy file"),
        (huge, "must be .* bytes as its header"),
    ],
)
def test_files_that_hold_no_statistics_are_refused(tmp_path, write: Callable[[Path], None], sentence):
    write(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=sentence):
        MotionStatistics.load(tmp_path / "a.npy", tmp_path / "a.npy")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Mean\.npy is missing\."):
        MotionStatistics.load(tmp_path / "Mean.npy", tmp_path / "Std.npy")


def test_damaged_files_end_in_one_sentence(tmp_path):
    statistics().save(tmp_path)
    whole, path = (tmp_path / "Std.npy").read_bytes(), tmp_path / "damaged.npy"
    draw, refused = np.random.default_rng(0), 0
    for case in range(HOSTILE_CASES):
        content = bytearray(whole)
        for place in draw.integers(0, 200 if case % 2 else len(whole), draw.integers(1, 8)):
            content[place] = draw.integers(256)
        path.write_bytes(content[: draw.integers(len(whole) + 1)] if case % 5 == 0 else content)
        try:
            MotionStatistics.load(path, tmp_path / "Std.npy")
        except ValueError as error:
            refused += 1
            assert str(error).count("\n") == 0
    assert refused > HOSTILE_CASES / 3
