"""A drawn path in the browser, over the frames of a clip as Python's goes."""

import shutil

import numpy as np
import pytest

from pocket_diffusers.pipelines.motion.drawn_path import DrawnPath
from pocket_diffusers.spaces.build_static import SHARED

PATHS = (
    [[0, 4]],
    [[0, 2.5], [2.5, 2.5]],
    [[0.6, 1.25], [0.6, 1.25], [0, 2], [0, 2]],
    [[0, 0]],
    [[0, 0], [0, 0]],
    [[-1.3, -0.7]],
    np.random.default_rng(0).normal(size=(300, 2)).tolist(),
)


@pytest.fixture
def page(tmp_path, serve_folder, open_page):
    for name in ("drawn_path.js", "rounding.js"):
        shutil.copyfile(SHARED / name, tmp_path / name)
    (tmp_path / "index.html").write_text('<!doctype html><title>blank</title><link rel="icon" href="data:,">')
    return open_page(serve_folder(tmp_path))


def test_places_and_frames_are_python_s(page):
    code = """async (cases) => {
        const { DrawnPath } = await import("/drawn_path.js");
        return cases.map(([points, frames]) => {
            const path = new DrawnPath(points);
            return { metres: path.metres, walkingFrames: path.walkingFrames, places: path.places(frames) };
        });
    }"""
    cases = [(points, frames) for points in PATHS for frames in (2, 3, 20, 33, 61, 196)]
    for (points, frames), found in zip(cases, page.evaluate(code, cases), strict=True):
        expected = DrawnPath.of(points)
        assert found["walkingFrames"] == expected.walking_frames
        np.testing.assert_allclose(found["metres"], expected.metres, atol=1e-9)
        np.testing.assert_allclose(found["places"], expected.places(frames), atol=1e-9)
