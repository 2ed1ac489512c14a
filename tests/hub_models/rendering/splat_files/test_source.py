"""What all readers share: a file's claims are checked before anything is allocated."""

import pytest

from pocket_diffusers.hub_models.rendering.splat_files.source import check_expansion, opened


def test_a_file_and_its_bytes_read_alike(tmp_path):
    (tmp_path / "scene.spz").write_bytes(b"abcdef")
    for source, name in ((b"abcdef", "the data"), (tmp_path / "scene.spz", str(tmp_path / "scene.spz"))):
        with opened(source) as file:
            assert (file.take(2), file.take(4), file.length, file.name) == (b"ab", b"cdef", 6, name)
            with pytest.raises(ValueError) as error:
                file.take(1)
            assert str(error.value) == f"{name} is truncated."


def test_counts_are_compared_with_what_is_left():
    with opened(b"abcdef") as file:
        file.check_count(2, 3)
        with pytest.raises(ValueError, match="truncated: 2 rows take 6 bytes, but 5 are left"):
            file.check_count(2, 3, before=1)
        with pytest.raises(ValueError, match="holds none"):
            file.check_count(0, 3)


def test_small_files_may_not_claim_to_unfold_without_end():
    check_expansion("a.spz", 1 << 24, 10)
    check_expansion("a.spz", 256 << 20, 1 << 20)
    with pytest.raises(ValueError, match="a.spz must unfold to at most 256 times its size, but 10 bytes claim to hold"):
        check_expansion("a.spz", (1 << 24) + 1, 10)
