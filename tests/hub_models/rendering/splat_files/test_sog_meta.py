"""Keys of JSON files, each read as what it must be."""

import pytest

from pocket_diffusers.hub_models.rendering.splat_files.sog_meta import Meta


def meta(**content):
    return Meta("meta.json", content)


def test_values_are_read_as_they_are():
    given = meta(
        count=3, mins=[1, 2.5], one=4, files=["a.webp", "b/c.webp"], part={"x": 1}, parts=[{"y": 2}], none=None
    )
    assert given.whole("count") == 3 and given.numbers("mins", 2).tolist() == [1, 2.5]
    assert given.numbers("one", 1).tolist() == [4] and given.files("files") == ["a.webp", "b/c.webp"]
    assert given.part("part").whole("x") == 1 and [part.whole("y") for part in given.parts("parts")] == [2]
    assert "count" in given and "none" not in given and "other" not in given


@pytest.mark.parametrize(
    "name",
    ["", "/a", "../a", "a/../b", "a//b", "a/", ".", "..", "a\\b", "c:a", "a\0", "a\nb", "\ud800", "a" * 256, 3, None],
)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match=r"^meta\.json: files must be a list of file names below its folder, not "):
        meta(files=[name]).files("files")


@pytest.mark.parametrize("value", [2, True, 1.0, "1", None, [1]])
def test_one_value_is_expected(value):
    meta(version=1).expect("version", 1)
    with pytest.raises(ValueError, match=r"^meta\.json: version must be 1, not "):
        meta(version=value).expect("version", 1)


@pytest.mark.parametrize("values", [[], [None], [None, None], [1, None], [1, "2"], [1, True], "ab", {}, None, [[1], 2]])
def test_other_numbers_are_refused(values):
    with pytest.raises(ValueError, match=r"^meta\.json: x must be 2 finite numbers, not "):
        meta(x=values).numbers("x", 2, null_first=True)


def test_a_long_or_deep_value_is_cut_in_the_sentence():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, ["x" * 10**6] * 10**4, 10**4000):
        with pytest.raises(ValueError) as error:
            meta(x=value).whole("x", 0, 9)
        assert len(str(error.value)) < 500


def test_what_is_missing_is_said_to_be():
    with pytest.raises(ValueError, match=r"^meta\.json: part: x must be a whole number from 0 to 9, not missing\.$"):
        meta(part={}).part("part").whole("x", 0, 9)
