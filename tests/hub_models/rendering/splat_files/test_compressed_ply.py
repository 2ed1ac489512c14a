"""Compressed PLY: each bit where it belongs, ranges of each chunk, and the SPZ file of the same scene as oracle."""

import math
import struct

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.rendering.splat_files import compressed_ply, ply, spz

SPATIAL = [f"{end}_{axis}" for end in ("min", "max") for axis in "xyz"]
SCALE = [f"{end}_scale_{axis}" for end in ("min", "max") for axis in "xyz"]
COLOR = [f"{end}_{channel}" for end in ("min", "max") for channel in "rgb"]
RANGES = [-1.0, -2.0, -4.0, 1.0, 2.0, 4.0, -8.0, -7.0, -6.0, -4.0, -3.0, -2.0, 0.2, 0.3, 0.4, 0.8, 0.9, 1.0]


def compressed(vertices, ranges=RANGES, colored=True, sh=None, count=None, chunks=None, degree_count=None):
    """A file packed number by number, with no code of the package."""
    names = SPATIAL + SCALE + (COLOR if colored else [])
    chunks = -(-len(vertices) // 256) if chunks is None else chunks
    head = f"ply\nformat binary_little_endian 1.0\nelement chunk {chunks}\n"
    head += "".join(f"property float {name}\n" for name in names)
    head += f"element vertex {len(vertices) if count is None else count}\n"
    head += "".join(f"property uint packed_{name}\n" for name in ("position", "rotation", "scale", "color"))
    if sh is not None:
        head += f"element sh {len(sh)}\n"
        head += "".join(f"property uchar f_rest_{index}\n" for index in range(len(sh[0])))
    data = (head + "end_header\n").encode()
    for _ in range(chunks):
        data += struct.pack(f"<{len(names)}f", *ranges[: len(names)])
    data += b"".join(struct.pack("<4I", *vertex) for vertex in vertices)
    return data + b"".join(map(bytes, sh or []))


def bits(*pairs):
    """Numbers with their widths, the last in the lowest bits."""
    packed = 0
    for number, width in pairs:
        packed = packed << width | number
    return packed


CORNER = (bits((0, 11), (1023, 10), (2047, 11)), bits((3, 2), (1023, 10), (0, 10), (511, 10)),
          bits((2047, 11), (0, 10), (1024, 11)), bits((0, 8), (255, 8), (51, 8), (204, 8)))  # fmt: skip


def test_each_number_is_read_from_its_bits():
    read = compressed_ply.read(compressed([CORNER]))
    torch.testing.assert_close(read.means[0], torch.tensor([-1.0, 2, 4]))
    torch.testing.assert_close(read.log_scales[0], torch.tensor([-4.0, -7, -6 + 4 * 1024 / 2047]))
    torch.testing.assert_close(read.rgb[0], torch.tensor([0.2, 0.9, 0.4 + 0.6 * 0.2]))
    torch.testing.assert_close(read.opacity_logits.sigmoid(), torch.tensor([0.8]))
    assert read.sh_degree == 0


def test_the_component_that_is_left_out_is_put_back():
    for largest in range(4):
        vertex = (CORNER[0], bits((largest, 2), (800, 10), (600, 10), (400, 10)), *CORNER[2:])
        quaternion = compressed_ply.read(compressed([vertex])).quaternions[0].tolist()
        others = [(u / 1023 - 0.5) * math.sqrt(2) for u in (800, 600, 400)]
        others.insert(largest, math.sqrt(1 - sum(value**2 for value in others)))
        assert quaternion == pytest.approx(others, abs=1e-6)


def test_older_files_have_colours_from_0_to_1():
    read = compressed_ply.read(compressed([CORNER], colored=False))
    torch.testing.assert_close(read.rgb[0], torch.tensor([0, 1, 0.2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("coefficients", [3, 8, 15])
def test_spherical_harmonics_are_bytes_channel_by_channel(coefficients):
    rows = [[0, 255, 128, *range(3, 3 * coefficients)], list(range(3 * coefficients))]
    read = compressed_ply.read(compressed([CORNER] * 2, sh=rows))
    assert read.sh.shape == (2, 1 + coefficients, 3)
    assert read.sh[0, 1:4, 0].tolist() == [-4, 4, 8 * (128.5 / 256 - 0.5)]
    assert read.sh[1, 1, 1].item() == 8 * ((coefficients + 0.5) / 256 - 0.5)


def test_each_chunk_of_256_has_its_own_ranges():
    whole = bytearray(compressed([CORNER] * 600))
    start = whole.index(b"end_header\n") + 11
    for chunk in range(3):
        struct.pack_into("<f", whole, start + 72 * chunk, 10.0 * chunk)
    read = compressed_ply.read(bytes(whole))
    assert read.means[[0, 255, 256, 511, 512, 599], 0].tolist() == [0, 0, 10, 10, 20, 20]


def test_the_spz_file_of_the_same_scene_agrees(public):
    mine = compressed_ply.read(public("playcanvas_engine/biker.compressed.ply"))
    other = spz.read(public("playcanvas_engine/biker.spz"))
    assert len(mine) == len(other) == 152_746
    distance = (mine.means - other.means).abs()
    assert distance.max() < 1.25e-4 and distance.median() < 6.2e-5  # half a step of SPZ
    assert torch.equal(mine.opacity_logits, other.opacity_logits)
    assert (mine.rgb - other.rgb).abs().max() < 0.0038
    scales = (mine.log_scales.clamp_min(-10) - other.log_scales).abs()  # SPZ holds none below -10
    assert scales.max() < 1 / 32 + 1e-5 and mine.log_scales.min() < -11
    turned = torch.nn.functional.cosine_similarity(mine.quaternions, other.quaternions).abs()
    assert turned.median() > 0.9999995 and turned.kthvalue(len(turned) // 100).values > 0.999999
    assert turned.min() > 0.99999


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (compressed([]), "holds none"),
        (compressed([CORNER], count=4_000_000_000), "truncated: 4,000,000,000 rows"),
        (compressed([CORNER], chunks=2), "must hold 1 chunks for 1 Gaussians, 256 in each, but holds 2"),
        (compressed([CORNER] * 257, chunks=1), "must hold 2 chunks"),
        (compressed([CORNER], ranges=[float("nan"), *RANGES[1:]]), "means must be finite, but Gaussian 0"),
        (compressed([CORNER], ranges=[*RANGES[:6], *[3e38] * 6, *RANGES[12:]])[:-1], "truncated"),
        (compressed([CORNER], sh=[[1] * 9] * 2), "must hold 1 rows of 'sh', one a Gaussian, not 2"),
        (compressed([CORNER], sh=[[1] * 10]), "but holds 10 of them"),
        (compressed([CORNER]).replace(b"uint packed_scale", b"float packed_scale"), "uint properties packed_position"),
        (compressed([CORNER]).replace(b"min_scale_x", b"min_scale_q"), "lower and upper ends"),
    ],
)
def test_each_fault_has_its_sentence(data, message):
    with pytest.raises(ValueError, match=message):
        compressed_ply.read(data)


def test_a_plain_file_is_sent_to_its_own_reader(tmp_path, splats):
    ply.write(splats(2), tmp_path / "plain.ply")
    with pytest.raises(ValueError, match="is a plain PLY file"):
        compressed_ply.read(tmp_path / "plain.ply")
    with pytest.raises(ValueError, match="is a compressed PLY file"):
        ply.read(compressed([CORNER]))


def test_a_file_cut_anywhere_is_refused():
    whole = compressed([CORNER] * 3, sh=[[7] * 9] * 3)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"\.$"):
            compressed_ply.read(whole[:length])


def test_hostile_files_are_refused_or_read(refuses):
    draw = np.random.default_rng(0)
    vertices = [tuple(int(number) for number in draw.integers(1 << 32, size=4)) for _ in range(5)]
    assert refuses(compressed_ply.read, [compressed(vertices), compressed(vertices, sh=[[7] * 24] * 5)]) > 200
