"""Points in PLY files, with trimesh as the oracle."""

import numpy as np
import pytest
import torch
import trimesh

from pocket_diffusers.training.datasets.sparse_points import SparsePoints, read_points, write_points


@pytest.fixture
def points():
    chance = np.random.default_rng(0)
    return SparsePoints.of(chance.normal(size=(50, 3)).astype(np.float32), chance.integers(0, 256, (50, 3)))


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_points_that_trimesh_wrote(tmp_path, points, encoding):
    colours = (points.rgb * 255).round().byte().numpy()
    cloud = trimesh.PointCloud(points.positions.numpy(), colours)
    encoding = {"ascii": "ascii", "binary_little_endian": "binary"}[encoding]
    (tmp_path / "a.ply").write_bytes(trimesh.exchange.ply.export_ply(cloud, encoding=encoding))
    read = read_points(tmp_path / "a.ply")
    torch.testing.assert_close(read.positions, points.positions, atol=1e-6, rtol=1e-6)
    assert torch.equal(read.rgb, points.rgb)


def test_trimesh_reads_points_that_were_written(tmp_path, points):
    write_points(tmp_path / "a.ply", points)
    cloud = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.vertices, points.positions)
    np.testing.assert_array_equal(cloud.colors[:, :3], (points.rgb * 255).round())
    read = read_points(tmp_path / "a.ply")
    assert torch.equal(read.positions, points.positions) and torch.equal(read.rgb, points.rgb)


def test_big_endian_points_without_colours_between_other_values(tmp_path):
    header = "ply\nformat binary_big_endian 1.0\ncomment made by hand\nelement vertex 2\nproperty double y\n"
    header += "property short quality\nproperty float x\nproperty float z\nelement face 0\n"
    header += "property list uchar int vertex_indices\nend_header\n"
    rows = np.array([(2, 7, 1, 3), (5, 8, 4, 6)], [("y", ">f8"), ("quality", ">i2"), ("x", ">f4"), ("z", ">f4")])
    (tmp_path / "a.ply").write_bytes(header.encode() + rows.tobytes())
    read = read_points(tmp_path / "a.ply")
    assert read.positions.tolist() == [[1, 2, 3], [4, 5, 6]] and (read.rgb == 128 / 255).all()


def test_no_points_are_points_too(tmp_path):
    write_points(tmp_path / "a.ply", SparsePoints.none())
    assert read_points(tmp_path / "a.ply").positions.shape == (0, 3)


def test_what_is_refused(tmp_path, points):
    file = tmp_path / "a.ply"
    with pytest.raises(FileNotFoundError, match=r"a\.ply is missing"):
        read_points(file)
    write_points(file, points)
    content = file.read_bytes()
    for damage in (
        b"",
        content[:-1],
        content.replace(b"vertex 50", b"vertex 5000000000000000000"),
        content.replace(b"vertex 50", b"vertex -1"),
        content.replace(b"float z", b"float w"),
        content.replace(b"float z", b"float y"),
        content.replace(b"binary_little_endian", b"ascii"),
        content.replace(b"float x", b"list uchar int x"),
    ):
        file.write_bytes(damage)
        with pytest.raises(ValueError, match=r"a\.ply is truncated, or no PLY file of points"):
            read_points(file)
    file.write_bytes(content.replace(b"uchar red", b"char red"))
    with pytest.raises(ValueError, match=r"a\.ply must have colours of the kind uchar, not int8"):
        read_points(file)
    text = trimesh.exchange.ply.export_ply(trimesh.PointCloud([[0, 1, 2]], [[250, 251, 252]]), encoding="ascii")
    assert b" 251 " in text
    for wrong in (b" 300 ", b" -1 ", b" 2.5 ", b" "):
        file.write_bytes(text.replace(b" 251 ", wrong))
        with pytest.raises(ValueError, match=r"a\.ply is truncated, or no PLY file of points"):
            read_points(file)
    write_points(file, points._replace(positions=points.positions * torch.nan))
    with pytest.raises(ValueError, match=r"a\.ply: a point's position must be finite"):
        read_points(file)


@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_damaged_files_are_read_or_refused(tmp_path, points, damaged, encoding):
    cloud = trimesh.PointCloud(points.positions.numpy()[:9], (points.rgb * 255).round().byte().numpy()[:9])
    content = trimesh.exchange.ply.export_ply(cloud, encoding=encoding)
    file, refused = tmp_path / "a.ply", 0
    for seed in range(1000):
        file.write_bytes(damaged(content, seed))
        try:
            read = read_points(file)
            assert torch.isfinite(read.positions).all() and ((read.rgb >= 0) & (read.rgb <= 1)).all()
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            refused += 1
    assert 300 < refused < 1000
