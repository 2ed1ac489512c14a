"""Captures of PocketWorld, written by code that shares nothing with the readers."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays
from pocket_diffusers.pipelines.inputs import PosedImages
from pocket_diffusers.training.datasets.pocketworld import load_pocketworld, posed_images

MODEL_IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "OPENCV_FISHEYE": 5,
             "FULL_OPENCV": 6, "FOV": 7, "EUCM": 16}  # fmt: skip


@pytest.fixture(scope="session")
def posed() -> PosedImages:
    """Sixteen views of 32 x 32 pixels on a ring, with depths and masks."""
    (row,) = load_pocketworld("multiview", "test", 32, 1, seed=3, streaming=True)
    return posed_images(row)


@pytest.fixture(scope="session")
def surface(posed) -> tuple[np.ndarray, np.ndarray]:
    """Places in the scene [views, 1024, 3] that the views' pixels show, row by row, and their colours of 8 bits."""
    origins, directions = pixel_rays(posed.viewmats, posed.Ks, 32, 32)
    places = origins + posed.depths[..., None] * directions
    return places.flatten(1, 2).numpy(), (posed.images * 255).round().byte().flatten(2).mT.numpy()


@pytest.fixture(scope="session")
def write_colmap() -> Callable[..., Path]:
    """Writes a COLMAP capture of some views, in the layout that its documentation gives."""
    return _write_colmap


def _write_colmap(
    folder: Path,
    posed: PosedImages,
    points: tuple[np.ndarray, np.ndarray],
    kind: str = "bin",
    model: str = "PINHOLE",
    parameters: tuple[float, ...] | None = None,
    sparse: str = "sparse/0",
    names: list[str] | None = None,
    size: tuple[int, int] | None = None,
) -> Path:
    sparse = folder / sparse
    sparse.mkdir(parents=True, exist_ok=True)
    K, (width, height) = posed.Ks[0].double(), size or (posed.width, posed.height)
    parameters = parameters or (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
    names = names or [f"view {view:02}.png" for view in range(len(posed))]
    for view, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((posed.images[view] * 255).round().byte().permute(1, 2, 0).numpy()).save(path)
    quaternions = Rotation.from_matrix(posed.viewmats[:, :3, :3].double().numpy()).as_quat(scalar_first=True)
    translations = posed.viewmats[:, :3, 3].double().numpy()
    poses = [(*q, *t) for q, t in zip(quaternions.tolist(), translations.tolist(), strict=True)]
    order = list(range(len(posed)))
    random.Random(0).shuffle(order)  # COLMAP keeps the order in which pictures were registered
    if kind == "bin":
        cameras = struct.pack("<QIiQQ", 1, 7, MODEL_IDS[model], width, height)
        cameras += struct.pack(f"<{len(parameters)}d", *parameters)
        images = struct.pack("<Q", len(posed))
        for view in order:
            images += struct.pack("<I7dI", view + 1, *poses[view], 7) + names[view].encode() + b"\0"
            images += struct.pack("<Q", view % 3) + struct.pack("<ddQ", 1.5, 2.5, 2**64 - 1) * (view % 3)
        cloud = struct.pack("<Q", len(points[0]))
        for index, (place, colour) in enumerate(zip(*points, strict=True)):
            track = struct.pack("<II", 1, 0) * (index % 4)
            cloud += struct.pack("<Q3d3BdQ", index, *map(float, place), *map(int, colour), 0.5, index % 4) + track
        contents = {"cameras": cameras, "images": images, "points3D": cloud}
    else:
        cameras = f"# Camera list\n\n7 {model} {width} {height} {' '.join(map(repr, parameters))}\n"
        images = "# Image list with two lines of data per image:\n# and so on\n"
        for view in order:
            pose = " ".join(map(repr, poses[view]))
            images += f"{view + 1} {pose} 7 {names[view]}\n{' '.join(['1.5 2.5 -1'] * (view % 3))}\n"
        cloud = "# 3D point list\n"
        for index, (place, colour) in enumerate(zip(*points, strict=True)):
            numbers = [index, *map(float, place), *map(int, colour), 0.5, *[1, 0] * (index % 4)]
            cloud += " ".join(map(repr, numbers)) + "\n"
        contents = {
            name: text.encode()
            for name, text in zip(("cameras", "images", "points3D"), (cameras, images, cloud), strict=True)
        }
    for name, content in contents.items():
        (sparse / f"{name}.{kind}").write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def damaged() -> Callable[[bytes, int], bytes]:
    """A file's bytes, damaged in a way that the seed says."""
    return _damaged


def _damaged(content: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(7)
        if kind == 0:
            del data[place:]
        elif kind == 1 and data:
            data[place % len(data)] = chance.randrange(256)
        elif kind == 2:
            data[place : place + 8] = chance.choice([b"\xff" * 8, b"\x00" * 8, struct.pack("<Q", 2**40)])
        elif kind == 3:
            data[place:place] = chance.randbytes(chance.randint(1, 30))
        elif kind == 4:
            del data[place : place + chance.randint(1, 30)]
        elif kind == 5:
            digits = [index for index, byte in enumerate(data) if chr(byte).isdigit()]
            for index in chance.choices(digits, k=3) if digits else []:
                data[index : index + 1] = b"%d" % chance.choice([0, 7, 99])
        else:
            data[place : place + 4] = chance.choice([b"nan ", b"inf ", b"1e99", b"-1 -", b"9999", b"[[[[", b'"": '])
    return bytes(data)
