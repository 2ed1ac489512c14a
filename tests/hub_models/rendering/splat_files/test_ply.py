"""3DGS PLY: every layout in the wild, values to the bit, and one sentence for each fault."""

import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.rendering.splat_files import ply

NAMES = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"]
NAMES += ["rot_0", "rot_1", "rot_2", "rot_3"]


def ply_bytes(names, rows, count=None, kind="float", encoding="binary_little_endian", before=""):
    """A file packed value by value, with no code of the package."""
    properties = "".join(f"property {kind} {name}\n" for name in names)
    count = len(rows) if count is None else count
    head = f"ply\nformat {encoding} 1.0\ncomment hand-made\n{before}element vertex {count}\n{properties}end_header\n"
    letter = {"float": "f", "double": "d"}[kind]
    return head.encode() + b"".join(struct.pack(f"<{letter}", row[name]) for row in rows for name in names)


def row(seed, num_rest=0):
    draw = np.random.default_rng(seed)
    names = [*NAMES, *(f"f_rest_{index}" for index in range(num_rest))]
    return {name: float(np.float32(draw.normal())) for name in names}


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("num_rest", [0, 9, 24, 45])
def test_properties_are_read_by_name_in_any_order(num_rest, kind):
    rows = [row(seed, num_rest) for seed in range(3)]
    names = [*rows[0], "nx", "ny", "nz", "red"]
    for values in rows:
        values |= {"nx": 1, "ny": 2, "nz": 3, "red": 4}
    np.random.default_rng(num_rest).shuffle(names)
    read = ply.read(ply_bytes(names, rows, kind=kind))
    for index, values in enumerate(rows):
        wanted = lambda *keys: [values[key] for key in keys]  # noqa: B023, E731
        assert read.means[index].tolist() == wanted("x", "y", "z")
        assert read.log_scales[index].tolist() == wanted("scale_0", "scale_1", "scale_2")
        assert read.quaternions[index].tolist() == wanted("rot_0", "rot_1", "rot_2", "rot_3")
        assert read.opacity_logits[index].item() == values["opacity"]
        assert read.sh[index, 0].tolist() == wanted("f_dc_0", "f_dc_1", "f_dc_2")
        channel = num_rest // 3
        for k in range(channel):  # all of red, then all of green, then all of blue
            assert read.sh[index, 1 + k].tolist() == wanted(*(f"f_rest_{k + c * channel}" for c in range(3)))


@given(st.integers(1, 40), st.integers(0, 3), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_round_trip_is_exact(tmp_path_factory, count, degree, normals, seed):
    from pocket_diffusers.hub_models.rendering.gaussians import Gaussians

    draw = torch.Generator().manual_seed(seed)
    shapes = [(count, 3), (count, 3), (count, 4), (count,), (count, (degree + 1) ** 2, 3)]
    whole = Gaussians(*(torch.randn(shape, generator=draw) * 10 for shape in shapes))
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    ply.write(whole, path, normals=normals)
    bytes_each = {0: 68, 1: 104, 2: 164, 3: 248}[degree] - 12 * (not normals)
    data = path.read_bytes()
    assert len(data) - data.index(b"end_header\n") - 11 == count * bytes_each
    again = ply.read(data)
    assert all(torch.equal(value, again.tensors()[name]) for name, value in whole.tensors().items())


def test_many_blocks_are_read_in_order(tmp_path, splats):
    whole = splats(40_000, 1)
    ply.write(whole, tmp_path / "a.ply")
    again = ply.read(tmp_path / "a.ply")
    assert all(torch.equal(value, again.tensors()[name]) for name, value in whole.tensors().items())


def test_the_header_is_that_of_the_reference_implementation(tmp_path, splats):
    ply.write(splats(1, 1), tmp_path / "a.ply")
    head = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")[0].decode().splitlines()
    assert head[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 1"]
    names = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 " + " ".join(f"f_rest_{i}" for i in range(9))
    names += " opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert head[3:] == [f"property float {name}" for name in names.split()]


def test_other_elements_are_passed_over():
    rows = [row(0)]
    before = "element camera 2\nproperty uchar a\nproperty double b\n"
    data = ply_bytes(NAMES, rows, before=before)
    place = data.index(b"end_header\n") + 11
    read = ply.read(data[:place] + bytes(18) + data[place:])
    assert read.means[0].tolist() == [rows[0][name] for name in "xyz"]
    with pytest.raises(ValueError, match="lists"):
        ply.read(ply_bytes(NAMES, rows, before="element face 2\nproperty list uchar int i\n"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header that is truncated"),
        (b"plyx\n", "does not begin with 'ply'"),
        (ply_bytes(NAMES, [row(0)], encoding="ascii"), "binary_little_endian PLY file, but its format is ascii"),
        (ply_bytes(NAMES, [row(0)], encoding="binary_big_endian"), "but its format is binary_big_endian"),
        (ply_bytes(NAMES, []), "holds none"),
        (ply_bytes(NAMES, [row(0)], count=4_000_000_000), "truncated: 4,000,000,000 rows take 224,000,000,000 bytes"),
        (ply_bytes(NAMES, [row(0)], count="9" * 30), "element vertex 999"),
        (ply_bytes(NAMES[1:], [row(0)]), "lacks x"),
        (ply_bytes([*NAMES, "x"], [row(0)]), "names a property twice"),
        (ply_bytes([*NAMES, "f_rest_0"], [row(0, 9)]), "but holds 1 of them"),
        (ply_bytes([*NAMES, *(f"f_rest_{i}" for i in range(1, 10))], [row(0, 24)]), "holds 9 of them"),
        (ply_bytes(NAMES, [row(0), row(1) | {"y": float("nan")}]), "means must be finite, but Gaussian 1 "),
        (ply_bytes(NAMES, [row(0) | {"scale_1": float("inf")}]), "log_scales must be finite"),
        (ply_bytes(NAMES, [row(0) | {"scale_1": 1e300}], kind="double"), "log_scales must be finite"),
        (ply_bytes(NAMES, [row(0) | {f"rot_{i}": 0 for i in range(4)}]), "quaternions must not be 0"),
        (ply_bytes(NAMES, [row(0)]).replace(b"property float x", b"property float128 x"), "not understood"),
        (b"ply\nformat binary_little_endian 1.0\n" + b"comment " + b"a" * 2000 + b"\n", "too long"),
        (b"ply\nformat binary_little_endian 1.0\n" + b"comment\n" * 9000, "at most 65,536 bytes"),
    ],
)
def test_each_fault_has_its_sentence(data, message):
    with pytest.raises(ValueError, match=message):
        ply.read(data)


def test_a_refusal_names_the_file(tmp_path):
    (tmp_path / "scene.ply").write_bytes(b"ply\n")
    with pytest.raises(ValueError, match=r"scene\.ply has a PLY header that is truncated"):
        ply.read(tmp_path / "scene.ply")
    with pytest.raises(FileNotFoundError, match=r"none\.ply is missing\."):
        ply.read(tmp_path / "none.ply")
    with pytest.raises(FileNotFoundError, match="is no file"):
        ply.read(tmp_path)


def test_nothing_and_what_is_not_finite_are_not_written(tmp_path, splats):
    with pytest.raises(ValueError, match="at least one, not 0"):
        ply.write(splats(0), tmp_path / "a.ply")
    broken = splats(3)
    broken.means[1, 0] = float("nan")
    with pytest.raises(ValueError, match="means must be finite, but Gaussian 1"):
        ply.write(broken, tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


def test_a_file_cut_anywhere_is_refused():
    whole = ply_bytes(NAMES, [row(seed) for seed in range(3)])
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"\.$"):
            ply.read(whole[:length])


def test_hostile_files_are_refused_or_read(refuses):
    files = [ply_bytes(list(row(0, rest)), [row(seed, rest) for seed in range(4)]) for rest in (0, 45)]
    assert refuses(ply.read, files) > 200
