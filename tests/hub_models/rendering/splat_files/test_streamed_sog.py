"""Streamed SOG: one level at a time, as its index says."""

import json

import pytest
import torch

from pocket_diffusers.hub_models.rendering.splat_files import read_splats, sog, streamed_sog


@pytest.mark.parametrize(("level", "count"), [(3, 31_000), (4, 8406), (5, 3000), (6, 1873)])
def test_levels_of_the_public_scene(public, level, count):
    path = public("playcanvas_engine/playbot")
    read = streamed_sog.read(path, level)
    whole = sog.read(path / f"{level}_0")
    assert len(read) == count and torch.equal(read.means, whole.means)
    for leaf in json.loads((path / "lod-meta.json").read_text())["tree"]["children"]:
        run = leaf["lods"][str(level)]
        means = read.means[run["offset"] : run["offset"] + run["count"]]
        low, high = (torch.tensor(leaf["bound"][end]) for end in ("min", "max"))
        assert ((means >= low) & (means <= high)).all(), "each leaf owns what lies within its bounds"


def test_a_level_that_is_not_here_names_those_that_are(public):
    with pytest.raises(
        ValueError, match=r"level 0 in 0_0/meta\.json, which is missing: complete are the levels 3, 4, 5, 6\."
    ):
        read_splats(public("playcanvas_engine/playbot"))


def index(tmp_path, **changes):
    meta = {
        "version": 1,
        "lodLevels": 3,
        "filenames": ["a/meta.json", "b/meta.json"],
        "tree": {
            "children": [
                {"lods": {"0": {"file": 0, "offset": 2, "count": 3}, "1": {"file": 1, "offset": 0, "count": 1}}},
                {"children": [{"lods": {"0": {"file": 0, "offset": 0, "count": 2}}}, {"lods": {}}]},
            ]
        },
        **changes,
    }
    (tmp_path / "lod-meta.json").write_text(json.dumps(meta))
    return tmp_path / "lod-meta.json"


@pytest.fixture
def scenes(tmp_path, splats):
    whole = {"a": splats(7, 1, seed=1), "b": splats(4, 1, seed=2), "sky": splats(3, seed=3)}
    for name, gaussians in whole.items():
        (tmp_path / name).mkdir()
        sog.write(gaussians, tmp_path / name / "meta.json")
    return {name: sog.read(tmp_path / name) for name in whole}


def test_runs_of_leaves_are_put_together(tmp_path, scenes):
    read = streamed_sog.read(index(tmp_path))
    assert torch.equal(read.means, scenes["a"].means[:5])
    assert torch.equal(streamed_sog.read(tmp_path, 1).means, scenes["b"].means[:1])


def test_the_environment_belongs_to_every_level(tmp_path, scenes):
    read = streamed_sog.read(index(tmp_path, environment="sky/meta.json"), 1)
    assert torch.equal(read.means, torch.cat([scenes["b"].means[:1], scenes["sky"].means]))
    assert read.sh_degree == 1 and not read.sh[1:, 1:].any()


RUN = {"file": 0, "offset": 0, "count": 7}


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({}, 3, "level must be from 0 to 2, the levels of .*, not 3"),
        ({}, -1, "level must be from 0 to 2"),
        ({}, 2, "must hold Gaussians of level 2, but holds none"),
        ({"version": 2}, 0, "version must be 1, not 2"),
        ({"tree": {"lods": {"0": {**RUN, "count": 8}}}}, 0, "do not overlap and end at 7 Gaussians"),
        ({"tree": {"children": [{"lods": {"0": RUN}}] * 1000}}, 0, "do not overlap"),
        ({"tree": {"lods": {"0": {**RUN, "file": 2}}}}, 0, "file must be a whole number from 0 to 1, not 2"),
        ({"tree": {"lods": {"0": {**RUN, "count": 0}}}}, 0, "count must be a whole number from 1 to"),
        ({"tree": {"lods": {"0": {**RUN, "offset": -1}}}}, 0, "offset must be a whole number from 0"),
        ({"tree": {"children": [3]}}, 0, "children must be a list of objects"),
        ({"filenames": ["a/meta.json", "a/meta.json"]}, 0, "must name each file once"),
        ({"filenames": ["../a/meta.json"]}, 0, "file names below its folder"),
        ({"filenames": ["c/meta.json", "b/meta.json"]}, 0, r"which is missing: complete are the levels 1\."),
        ({"environment": "/etc/passwd"}, 0, "environment must be the name of a file below its folder"),
    ],
)
def test_each_fault_has_its_sentence(tmp_path, scenes, changes, level, message):
    with pytest.raises(ValueError, match=message):
        streamed_sog.read(index(tmp_path, **changes), level)


def test_hostile_indices_are_refused_or_read(tmp_path, scenes, refuses):
    path = index(tmp_path)

    def read(data):
        path.write_bytes(data)
        return streamed_sog.read(path)

    assert refuses(read, [path.read_bytes()]) > 300


def test_odd_values_in_the_text_are_refused_or_read(tmp_path, scenes, check_odd_versions):
    path = index(tmp_path, environment="sky/meta.json")

    def read(text):
        path.write_bytes(text)
        return streamed_sog.read(path)

    check_odd_versions(json.loads(path.read_text()), read)
