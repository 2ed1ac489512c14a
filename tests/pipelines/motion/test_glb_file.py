"""GLB files, taken apart by a reader of their own: structure, numbers, and where the skin is at each moment.

The Khronos validator (npm's gltf-validator 2.0.0-dev.3.10) finds no error, warning, information or hint in them; what
it looks at in such files is checked here as well.
"""

import json
import struct

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.capsule_figure import CAPSULES, capsule_figure
from pocket_diffusers.pipelines.motion.glb_file import write_glb
from pocket_diffusers.pipelines.motion.joint_rotations import rig_of
from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS

TYPES = {5121: "u1", 5123: "<u2", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def noisy(dance):
    return dance + 0.02 * torch.randn(dance.shape, generator=torch.Generator().manual_seed(1))


CLIPS = {
    "rigid": lambda dance: dance,
    "unsteady bones": noisy,
    "one frame": lambda dance: dance[:1],
    "no size": lambda dance: torch.zeros(2, 22, 3),
}


def parse(path):
    """The JSON of a GLB and its binary chunk."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data)) and len(data) % 4 == 0
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON" and size % 4 == 0
    scene = json.loads(data[20 : 20 + size])
    binary_size, binary_kind = struct.unpack_from("<I4s", data, 20 + size)
    assert binary_kind == b"BIN\0" and binary_size % 4 == 0 and 28 + size + binary_size == len(data)
    (buffer,) = scene["buffers"]
    assert set(buffer) == {"byteLength"} and 0 <= binary_size - buffer["byteLength"] < 4
    return scene, data[28 + size :]


def read(scene, binary, number):
    """The array of an accessor [elements, width]; its offset, length and bounds are checked."""
    accessor = scene["accessors"][number]
    view = scene["bufferViews"][accessor["bufferView"]]
    kind, width = np.dtype(TYPES[accessor["componentType"]]), WIDTHS[accessor["type"]]
    assert view["buffer"] == 0 and view["byteOffset"] % 4 == 0 and "byteStride" not in view
    assert view["byteOffset"] + view["byteLength"] <= scene["buffers"][0]["byteLength"]
    assert view["byteLength"] == accessor["count"] * width * kind.itemsize and accessor["count"] > 0
    if view.get("target") == 34962:
        assert width * kind.itemsize % 4 == 0, "elements of a vertex start at multiples of 4 bytes"
    values = np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"]).reshape(-1, width)
    assert np.isfinite(values.astype(float)).all()
    for name, bound in (("min", values.min(0)), ("max", values.max(0))):
        if name in accessor:
            assert np.array_equal(np.float32(accessor[name]), bound.astype(np.float32))
    if accessor.get("normalized"):
        assert kind == np.dtype("u1")
        return values / 255
    return values


def matrix(translation, rotation):
    """A rigid 4 x 4 matrix of a place and a quaternion x y z w."""
    x, y, z, w = rotation
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    result = np.eye(4)
    result[:3, :3] = np.eye(3) + 2 * w * cross + 2 * cross @ cross
    result[:3, 3] = translation
    return result


def posed(scene, binary, seconds):
    """World matrices of the nodes at a moment, as glTF has them: LINEAR, rotations on the arc between two of them."""
    local = {
        index: {"translation": node.get("translation", [0, 0, 0]), "rotation": node.get("rotation", [0, 0, 0, 1])}
        for index, node in enumerate(scene["nodes"])
    }
    (animation,) = scene["animations"]
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        times, values = (read(scene, binary, sampler[end]).astype(float) for end in ("input", "output"))
        after = int(np.searchsorted(times[:, 0], seconds).clip(0, len(times) - 1))
        before = max(after - 1, 0)
        span = times[after, 0] - times[before, 0]
        share = 1.0 if not span else (seconds - times[before, 0]) / span
        first, second = values[before], values[after]
        if channel["target"]["path"] == "rotation":
            second = second * (1 if first @ second >= 0 else -1)
            angle = np.arccos(np.clip(first @ second, -1, 1))
            weights = (
                (1 - share, share) if angle < 1e-6 else np.sin([(1 - share) * angle, share * angle]) / np.sin(angle)
            )
        else:
            weights = (1 - share, share)
        local[channel["target"]["node"]][channel["target"]["path"]] = weights[0] * first + weights[1] * second
    world = {}

    def visit(node, above):
        world[node] = above @ matrix(**local[node])
        for child in scene["nodes"][node].get("children", []):
            visit(child, world[node])

    for root in scene["scenes"][scene["scene"]]["nodes"]:
        visit(root, np.eye(4))
    assert len(world) == len(scene["nodes"]), "each node hangs in the scene"
    return world


def skinned(scene, binary, world):
    """Vertices of the mesh [vertices, 3] where its skin puts them."""
    primitive, skin = scene["meshes"][0]["primitives"][0], scene["skins"][0]
    attributes = {name: read(scene, binary, number) for name, number in primitive["attributes"].items()}
    binding = read(scene, binary, skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices = np.stack([world[node] @ bind for node, bind in zip(skin["joints"], binding, strict=True)])
    blended = np.einsum("vk,vkij->vij", attributes["WEIGHTS_0"], matrices[attributes["JOINTS_0"]])
    points = np.concatenate([attributes["POSITION"], np.ones((len(blended), 1))], 1)
    return np.einsum("vij,vj->vi", blended, points)[:, :3]


@pytest.mark.parametrize("name", CLIPS)
def test_structure(dance, tmp_path, name):
    rig = rig_of(CLIPS[name](dance))
    assert write_glb(tmp_path / "a.glb", rig, 'a "dance" 红') == tmp_path / "a.glb"
    scene, binary = parse(tmp_path / "a.glb")
    assert scene["asset"]["version"] == "2.0" and not {"extensionsRequired", "extensionsUsed", "images"} & set(scene)
    used = [number for accessor in scene["accessors"] for number in [accessor["bufferView"]]]
    assert sorted(used) == list(range(len(scene["bufferViews"])))
    ends = [(view["byteOffset"], view["byteOffset"] + view["byteLength"]) for view in scene["bufferViews"]]
    assert all(0 <= start - end < 4 for (_, end), (start, _) in zip(ends, ends[1:], strict=False)), "one after another"

    (mesh,), (skin,), (animation,) = scene["meshes"], scene["skins"], scene["animations"]
    (primitive,) = mesh["primitives"]
    attributes = {key: read(scene, binary, number) for key, number in primitive["attributes"].items()}
    count = len(attributes["POSITION"])
    assert all(len(values) == count for values in attributes.values())
    assert {"min", "max"} <= set(scene["accessors"][primitive["attributes"]["POSITION"]])
    indices = read(scene, binary, primitive["indices"])
    assert len(indices) % 3 == 0 and indices.max() == count - 1 < 65535
    assert np.allclose(np.linalg.norm(attributes["NORMAL"], axis=1), 1, atol=1e-4)
    assert np.allclose(attributes["WEIGHTS_0"].sum(1), 1)
    assert attributes["JOINTS_0"].max() < len(skin["joints"]) and not attributes["JOINTS_0"][:, 1:].any()
    targets = [scene["bufferViews"][scene["accessors"][number]["bufferView"]]["target"] for number in (
        primitive["indices"], *primitive["attributes"].values(),
    )]  # fmt: skip
    assert targets == [34963] + [34962] * len(attributes)

    figure = next(node for node in scene["nodes"] if "mesh" in node)
    assert figure == {"name": "figure", "mesh": 0, "skin": 0}
    assert [scene["nodes"][node]["name"] for node in skin["joints"]] == list(JOINTS)
    for joint, parent in enumerate(PARENTS):
        parents = [node for node, content in enumerate(scene["nodes"]) if joint in content.get("children", [])]
        assert parents == ([parent] if parent >= 0 else [])

    assert animation["name"] == 'a "dance" 红'
    paths = [(channel["target"]["node"], channel["target"]["path"]) for channel in animation["channels"]]
    assert len(set(paths)) == len(paths) == len(animation["samplers"])
    assert {path for path in paths if path[1] == "translation"} == {(joint, "translation") for joint in (0, *rig.loose)}
    assert {path for path in paths if path[1] == "rotation"} == {(joint, "rotation") for joint in range(22)}
    for sampler in animation["samplers"]:
        assert sampler["interpolation"] == "LINEAR"
        times, values = read(scene, binary, sampler["input"]), read(scene, binary, sampler["output"])
        assert len(times) == len(values) == len(rig) and {"min", "max"} <= set(scene["accessors"][sampler["input"]])
        assert np.allclose(times[:, 0], np.arange(len(rig)) * 0.05)
        if values.shape[1] == 4:
            assert np.allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", CLIPS)
def test_joints_of_the_animation_are_the_clips(dance, tmp_path, name):
    joints = CLIPS[name](dance)
    scene, binary = parse(write_glb(tmp_path / "a.glb", rig_of(joints)))
    for frame in range(0, len(joints), 7):
        world = posed(scene, binary, frame * 0.05)
        found = np.stack([world[node][:3, 3] for node in scene["skins"][0]["joints"]])
        assert np.abs(found - joints[frame].numpy()).max() < 1e-3


def test_between_two_frames_joints_are_between(dance, tmp_path):
    scene, binary = parse(write_glb(tmp_path / "a.glb", rig_of(dance)))
    for frame in (3, 20, 41):
        world = posed(scene, binary, (frame + 0.5) * 0.05)
        found = np.stack([world[node][:3, 3] for node in scene["skins"][0]["joints"]])
        middle, chord = (dance[frame] + dance[frame + 1]) / 2, (dance[frame + 1] - dance[frame]).norm(dim=-1)
        assert (np.linalg.norm(found - middle.numpy(), axis=1) <= 0.25 * chord.numpy() + 1e-3).all()


def test_the_skin_stays_around_the_bones(dance, tmp_path):
    scene, binary = parse(write_glb(tmp_path / "a.glb", rig_of(dance)))
    count = scene["accessors"][0]["count"] // len(CAPSULES)
    for frame in (0, 25, 59):
        vertices = skinned(scene, binary, posed(scene, binary, frame * 0.05)).reshape(len(CAPSULES), count, 3)
        for part, (joint, end, *radii, _) in zip(vertices, CAPSULES, strict=True):
            if joint != end:
                start, along = dance[frame, joint].numpy(), (dance[frame, end] - dance[frame, joint]).numpy()
                share = ((part - start) @ along / (along @ along)).clip(0, 1)
                away = np.linalg.norm(part - start - share[:, None] * along, axis=1)
                assert min(radii) - 2e-3 < away.min() and away.max() < max(radii) + 2e-3


def test_at_rest_it_stands_on_the_floor(dance, tmp_path):
    scene, binary = parse(write_glb(tmp_path / "a.glb", rig_of(dance)))
    del scene["animations"][0]["channels"][:]
    vertices = skinned(scene, binary, posed(scene, binary, 0.0))
    figure = capsule_figure(rig_of(dance)).positions.numpy()
    assert np.allclose(vertices - figure, [[0, -figure[:, 1].min(), 0]], atol=1e-5)


def test_other_programs_read_it(dance, tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="another reader comes with the extra 'train'")
    path = write_glb(tmp_path / "a.glb", rig_of(dance))
    mesh = trimesh.load(path, force="mesh", process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert len(mesh.vertices) == len(capsule_figure(rig_of(dance)).positions)
    assert path.stat().st_size < 250_000


def test_a_file_that_cannot_be_written_leaves_nothing(dance, tmp_path):
    (tmp_path / "a.glb").mkdir()
    with pytest.raises(OSError, match="cannot write .*a.glb"):
        write_glb(tmp_path / "a.glb", rig_of(dance))
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"]
