"""Arrays of .npy files: those that numpy writes are read, and whatever else is refused before memory is taken."""

import io

import numpy as np
import pytest
from damaged_files import damaged

from pocket_diffusers.pipelines.npy_file import floats_shape, read_floats


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_that_numpy_wrote(tmp_path, kind, version):
    array = np.random.default_rng(0).normal(size=(7, 5)).astype(kind)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    assert floats_shape(tmp_path / "a.npy") == (7, 5)
    read = read_floats(tmp_path / "a.npy", (None, 5))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, array.astype(np.float32))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((7, 4), np.float32), r"a\.npy must have the shape \[any, 5\], not \[7, 4\]\."),
        (np.zeros((0, 5), np.float32), r"a\.npy must have the shape \[any, 5\], not \[0, 5\]\."),
        (np.zeros(5, np.float32), r"a\.npy must have the shape \[any, 5\], not \[5\]\."),
        (np.zeros((7, 5), np.int32), r"a\.npy must hold float32 or float64 in the order of C, not int32\."),
        (np.zeros((7, 5), ">f4"), r"a\.npy must hold float32 or float64 in the order of C, not >f4\."),
        (np.zeros((7, 5), np.float32, "F"), r"a\.npy must hold float32 or float64 in the order of C"),
        (np.full((7, 5), np.nan, np.float32), r"a\.npy must be finite in single precision"),
        (np.full((7, 5), 1e300), r"a\.npy must be finite in single precision"),
        (np.array([Trap()], object), r"a\.npy must hold float32 or float64 in the order of C, not object\."),
    ],
)
def test_arrays_that_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=message):
        read_floats(tmp_path / "a.npy", (None, 5))


def test_files_that_are_refused(tmp_path):
    file = tmp_path / "a.npy"
    with pytest.raises(FileNotFoundError, match=r"a\.npy is missing\."):
        read_floats(file, (5,))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,)}"
    for shape, message in (
        ("5", r"must be 148 bytes as its header's shape \[5\] says, not 128\."),
        ("10**12", "truncated or no"),
        ("1000000000000", r"must be 4000000000128 bytes as its header's shape"),
        ("-5", r"must be 108 bytes as its header's shape \[-5\] says, not 128\."),
        ("-0.5", "truncated or no"),
        ("-" * 400 + "1", "truncated or no"),
        ("-" * 9000 + "1", "truncated or no"),
    ):
        text = (header % shape).encode()
        text = text.ljust(117 if len(text) < 117 else len(text)) + b"\n"
        file.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
        with pytest.raises(ValueError, match=message):
            read_floats(file, (5,))
    for content in (b"", b"\x93NUMPY", b"PK\x03\x04", b"\x93NUMPY\x03\x00\x00\x00\x00\x00"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npy is truncated or no \.npy file\."):
            read_floats(file, (5,))


def test_thousand_damaged_files_are_read_whole_or_refused(tmp_path):
    buffer, file, read = io.BytesIO(), tmp_path / "a.npy", 0
    np.save(buffer, np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32))
    for seed in range(1000):
        file.write_bytes(damaged(buffer.getvalue(), np.random.default_rng(seed)))
        try:
            array = read_floats(file, (None, 5))
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            continue
        read += 1
        assert array.shape[1] == 5 and np.isfinite(array).all() and array.nbytes <= file.stat().st_size
    assert 10 < read < 900
