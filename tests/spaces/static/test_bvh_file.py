"""BVH files that the browser writes, word by word beside Python's."""

import shutil

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.motion.bvh_file import write_bvh
from pocket_diffusers.pipelines.motion.joint_rotations import rig_of
from pocket_diffusers.pipelines.motion.skeleton import JOINTS, PARENTS
from pocket_diffusers.spaces.build_static import SHARED
from pocket_diffusers.training.datasets.motionworld import clips as world_clips

SKELETON = {"names": JOINTS, "parents": PARENTS, "framesPerSecond": 20}
SCRIPTS = ("bvh_file.js", "joint_rotations.js", "quaternions.js")


def odd_clips(clip: torch.Tensor) -> list[torch.Tensor]:
    """Bones of changing length or without one, an arm turned right back, a person who lies on a side, one frame."""
    shaken = clip + 0.02 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
    folded, short, lying = clip.clone(), clip.clone(), clip[..., [1, 0, 2]].clone()
    folded[10:20, 20] = folded[10:20, 18] - (clip[10:20, 20] - clip[10:20, 18])
    folded[10:20, 18] = folded[10:20, 16] + torch.tensor([-0.26, 0.0, 0.0])
    short[5:9, 7] = short[5:9, 4]
    return [shaken, folded, short, lying, clip[:1]]


@pytest.fixture(scope="module")
def clips() -> list[torch.Tensor]:
    made = [clip.joints for clip in world_clips("test", range(2))]
    return [*made, *odd_clips(made[0])]


def test_the_skeleton_is_python_s_and_so_are_the_numbers(clips, tmp_path, serve_folder, open_page):
    for name in SCRIPTS:
        shutil.copyfile(SHARED / name, tmp_path / name)
    (tmp_path / "index.html").write_text('<!doctype html><title>blank</title><link rel="icon" href="data:,">')
    code = """async ([clips, skeleton]) => {
        const { bvhOf } = await import("/bvh_file.js");
        return clips.map((joints) => bvhOf(Float32Array.from(joints), skeleton));
    }"""
    page = open_page(serve_folder(tmp_path))
    texts = page.evaluate(code, [[clip.flatten().tolist() for clip in clips], SKELETON])
    loose = set()
    for number, (text, clip) in enumerate(zip(texts, clips, strict=True)):
        rig = rig_of(clip)
        loose |= set(rig.loose)
        theirs = write_bvh(tmp_path / f"{number}.bvh", rig).read_text()
        assert len(text.splitlines()) == len(theirs.splitlines())
        for ours, line in zip(text.splitlines(), theirs.splitlines(), strict=True):
            (ours, found), (line, expected) = numbers_of(ours), numbers_of(line)
            assert ours == line
            np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=f"clip {number}")
    assert loose, "some joints leave their place"


def numbers_of(line: str) -> tuple[list[str], list[float]]:
    """Its words, a mark in place of each number, and the numbers."""
    words, numbers = [], []
    for word in line.split(" "):
        try:
            numbers.append(float(word))
            words.append("#")
        except ValueError:
            words.append(word)
    return words, numbers
