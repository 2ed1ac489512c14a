"""Clips as GLB, the binary form of glTF 2.0: a figure with a skeleton inside it that moves."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ..files import whole_file
from .capsule_figure import capsule_figure
from .forward_kinematics import chained
from .joint_rotations import Rig
from .skeleton import FRAMES_PER_SECOND, JOINTS, PARENTS

FLOAT, SHORT, BYTE = 5126, 5123, 5121
VERTICES, INDICES = 34962, 34963
COMPONENTS = {np.dtype("<f4"): FLOAT, np.dtype("<u2"): SHORT, np.dtype("u1"): BYTE}
KINDS = {(): "SCALAR", (3,): "VEC3", (4,): "VEC4", (16,): "MAT4"}


def write_glb(path: str | Path, rig: Rig, name: str = "motion") -> Path:
    """Writes a clip as one skinned mesh of capsules, a skin of 22 joints and an animation: metres, seconds, Y up.

    At rest the figure stands in a T-pose on the floor and faces +Z. Rotations of all joints are interpolated, and
    places of the pelvis and of joints that do not stay at theirs (`Rig.loose`). Each vertex follows one joint alone.

    Args:
        path: the file, which ends in .glb.
        rig: the clip.
        name: of the animation, as programs list it.

    Raises:
        OSError: it cannot be written, with the path and the reason.
    """
    content = _document(rig, name)
    with whole_file(path) as draft:
        draft.write_bytes(content)
    return Path(path)


def _document(rig: Rig, name: str) -> bytes:
    data = _Data()
    rest = chained(rig.offsets, rig.offsets[0])
    primitive, height = _mesh(data, rig)
    binding = np.tile(np.eye(4, dtype="<f4"), (len(JOINTS), 1, 1))
    binding[:, 3, :3] = -rest.numpy()  # matrices are stored column after column
    scene = {
        "asset": {"version": "2.0", "generator": "pocket-diffusers"},
        "scene": 0,
        "scenes": [{"nodes": [0, len(JOINTS)]}],
        "nodes": [*_nodes(rig, height), {"name": "figure", "mesh": 0, "skin": 0}],
        "meshes": [{"name": "figure", "primitives": [primitive]}],
        "materials": [{"name": "figure", "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.8}}],
        "skins": [
            {
                "name": "skeleton",
                "joints": list(range(len(JOINTS))),
                "skeleton": 0,
                "inverseBindMatrices": data.accessor(binding.reshape(-1, 16)),
            }
        ],
        "animations": [{"name": name, **_animation(data, rig)}],
        "accessors": data.accessors,
        "bufferViews": data.views,
        "buffers": [{"byteLength": len(data.bytes)}],
    }
    text = json.dumps(scene, separators=(",", ":"), allow_nan=False).encode()
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4)) + _chunk(b"BIN\0", bytes(data.bytes))
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack("<I4s", len(content), kind) + content


class _Data:
    """The binary part: arrays one after the other, each with the view and the accessor that describe it."""

    def __init__(self) -> None:
        self.bytes, self.views, self.accessors = bytearray(), [], []

    def accessor(
        self, values: np.ndarray, target: int | None = None, normalized: bool = False, bounds: bool = False
    ) -> int:
        """Number of the accessor of an array [elements, ...], whose elements are a whole number of 4 bytes or scalars.

        Args:
            values: what is stored.
            target: what a bufferView is for, of vertices and indices.
            normalized: whole numbers that stand for [0, 1].
            bounds: with the least and the greatest value of each component.
        """
        content = np.ascontiguousarray(values).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.bytes), "byteLength": len(content)}
        found: dict[str, Any] = {"bufferView": len(self.views), "count": len(values)}
        found |= {"componentType": COMPONENTS[values.dtype], "type": KINDS[values.shape[1:]]}
        if normalized:
            found["normalized"] = True
        if bounds:
            found |= {"min": np.ravel(values.min(0)).tolist(), "max": np.ravel(values.max(0)).tolist()}
        self.bytes += content + bytes(-len(content) % 4)
        self.views.append(view if target is None else view | {"target": target})
        self.accessors.append(found)
        return len(self.accessors) - 1


def _mesh(data: _Data, rig: Rig) -> tuple[dict[str, Any], float]:
    """The figure as a primitive, and the height of its pelvis over its soles in metres."""
    figure = capsule_figure(rig)
    positions, count = figure.positions.numpy().astype("<f4"), len(figure.positions)
    colors = np.concatenate([_linear(figure.colors.numpy()), np.ones((count, 1))], 1)
    owners, weights = np.zeros((count, 4), "u1"), np.zeros((count, 4), "u1")
    owners[:, 0], weights[:, 0] = figure.joints.numpy(), 255
    attributes = {
        "POSITION": data.accessor(positions, VERTICES, bounds=True),
        "NORMAL": data.accessor(figure.normals.numpy().astype("<f4"), VERTICES),
        "COLOR_0": data.accessor((colors * 255).round().astype("u1"), VERTICES, normalized=True),
        "JOINTS_0": data.accessor(owners, VERTICES),
        "WEIGHTS_0": data.accessor(weights, VERTICES, normalized=True),
    }
    indices = data.accessor(figure.faces.numpy().ravel().astype("<u2"), INDICES)
    return {"attributes": attributes, "indices": indices, "material": 0}, float(-positions[:, 1].min())


def _linear(colors: np.ndarray) -> np.ndarray:
    """Light of sRGB colours (IEC 61966-2-1), both in [0, 1]: what glTF takes at vertices."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def _nodes(rig: Rig, height: float) -> list[dict[str, Any]]:
    """The joints at rest."""
    nodes = []
    for joint, name in enumerate(JOINTS):
        place = [0.0, height, 0.0] if joint == 0 else rig.offsets[joint].tolist()
        children = [child for child, parent in enumerate(PARENTS) if parent == joint]
        nodes.append({"name": name, "translation": place} | ({"children": children} if children else {}))
    return nodes


def _animation(data: _Data, rig: Rig) -> dict[str, Any]:
    times = data.accessor((np.arange(len(rig)) / FRAMES_PER_SECOND).astype("<f4"), bounds=True)
    tracks = [(joint, "rotation", rig.rotations[:, joint, [1, 2, 3, 0]]) for joint in range(len(JOINTS))]
    tracks += [(joint, "translation", rig.places[:, joint]) for joint in (0, *rig.loose)]
    samplers, channels = [], []
    for number, (joint, path, values) in enumerate(tracks):
        output = data.accessor(values.numpy().astype("<f4"))
        samplers.append({"input": times, "interpolation": "LINEAR", "output": output})
        channels.append({"sampler": number, "target": {"node": joint, "path": path}})
    return {"samplers": samplers, "channels": channels}
