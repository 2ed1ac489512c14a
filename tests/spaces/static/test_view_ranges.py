"""Where light fields are looked at from in the browser: cameras and weights are Python's."""

import shutil

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.rendering.cameras import camera_centres
from pocket_diffusers.hub_models.rendering.view_clusters import ViewClusters
from pocket_diffusers.pipelines.scene_cameras import DIRECTIONS
from pocket_diffusers.pipelines.view_ranges import GridViews, OrbitViews
from pocket_diffusers.spaces.build_static import SHARED

SCRIPTS = (
    "look_around.js",
    "orbit_controls.js",
    "quaternions.js",
    "view_clusters.js",
    "view_place.js",
    "view_ranges.js",
)
SIZE = {"focal": (90.0, 80.0), "width": 64, "height": 48}
TURNED = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
VIEWMAT = torch.eye(4, dtype=torch.float64)
VIEWMAT[:3, :3], VIEWMAT[:3, 3] = TURNED * TURNED.det(), torch.tensor([0.3, -2.0, 5.0])
GRID = {"viewmat": tuple(VIEWMAT.flatten().tolist()), "half_width": 4.0, "half_height": 0.5, **SIZE}
ORBIT = {"center": (1.0, -2.0, 0.5), "distance": 5.8, "low": -20.0, "high": 44.0, **SIZE}
RANGES = [
    GridViews(focus=20.0, **GRID),
    GridViews(focus=None, **{**GRID, "half_height": 0.0}),
    *(OrbitViews(up=up, **ORBIT) for up in DIRECTIONS),
]
PLACES = [(0, 0), (-1, -1), (1, 1), (0.3, -0.7), (-0.9, 0.1)]
PAGE = """<!doctype html><title>blank</title><link rel="icon" href="data:,">
<div style="width: 200px; height: 100px; background: teal"></div>"""


@pytest.fixture
def page(tmp_path, serve_folder, open_page):
    for name in SCRIPTS:
        shutil.copyfile(SHARED / name, tmp_path / name)
    (tmp_path / "index.html").write_text(PAGE)
    return open_page(serve_folder(tmp_path))


def test_cameras_and_paths_are_python_s(page):
    code = """async ([ranges, places, shares]) => {
        const { viewsOf } = await import("/view_ranges.js");
        return ranges.map((stored) => {
            const views = viewsOf(stored);
            const path = shares.map((share) => views.onPath(share));
            return { path, cameras: places.map(([right, up]) => views.camera(right, up)) };
        });
    }"""
    shares = [frame / 7 for frame in range(7)]
    for views, found in zip(
        RANGES, page.evaluate(code, [[v.to_config() for v in RANGES], PLACES, shares]), strict=True
    ):
        along = [views.camera(*place) for place in found["path"]]
        path = views.path(7)
        torch.testing.assert_close(torch.cat([one.viewmats for one in along]), path.viewmats, atol=1e-6, rtol=0)
        torch.testing.assert_close(torch.cat([one.Ks for one in along]), path.Ks, atol=1e-5, rtol=0)
        for place, camera in zip(PLACES, found["cameras"], strict=True):
            expected = views.camera(*place)
            np.testing.assert_allclose(np.reshape(camera["viewmat"], (4, 4)), expected.viewmats[0], atol=2e-6)
            np.testing.assert_allclose(np.reshape(camera["K"], (3, 3)), expected.Ks[0], atol=2e-5)
            np.testing.assert_allclose(camera["eye"], camera_centres(expected.viewmats)[0], atol=5e-6)


def test_weights_of_clusters_are_python_s(page):
    draw = torch.Generator().manual_seed(1)
    centres = torch.randn(5, 3, generator=draw, dtype=torch.float64)
    cameras = torch.cat(
        (torch.randn(200, 3, generator=draw, dtype=torch.float64), centres, (centres[:1] + centres[1:2]) / 2)
    )
    code = """async ([centres, border, cameras]) => {
        const { ViewClusters } = await import("/view_clusters.js");
        const clusters = new ViewClusters(centres, border);
        return cameras.map((camera) => clusters.weights(camera));
    }"""
    shared = 0
    for count, border in ((5, 0.25), (5, 0.0), (5, 1.0), (2, 0.5), (1, 0.25)):
        clusters = ViewClusters(centres[:count])
        found = np.array(page.evaluate(code, [clusters.centres.tolist(), border, cameras.tolist()]))
        np.testing.assert_allclose(found, clusters.weights(cameras, border), atol=1e-9)
        np.testing.assert_allclose(found.sum(1), 1)
        shared += ((found > 0).sum(1) > 1).sum()
    assert shared > 100, "too few cameras near a border"


def test_a_hand_and_keys_look_around_within_the_range(page):
    code = """async (stored) => {
        const { lookAround } = await import("/look_around.js");
        window.places = [];
        const place = lookAround(document.querySelector("div"), stored, () => places.push([place.right, place.up]));
        window.place = place;
    }"""
    box = page.locator("div").bounding_box()
    x, y = box["x"] + 100, box["y"] + 50

    def drag(right: float, down: float) -> list[float]:
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + right, y + down)
        page.mouse.up()
        return page.evaluate("[place.right, place.up]")

    page.evaluate(code, OrbitViews(up="y", **ORBIT).to_config())
    radians = 3 * 20 / 100
    elevations = np.radians(64) / 2
    assert drag(20, 10) == pytest.approx([-radians / np.pi, radians / 2 / elevations])
    page.evaluate("place.goTo(0.95, 0)")
    assert drag(-20, 0) == pytest.approx([0.95 + radians / np.pi - 2, 0]), "behind the last azimuth comes the first"
    assert drag(0, 90)[1] == 1 and drag(0, -2000)[1] == -1
    page.locator("div").press("Home")
    assert page.evaluate("[place.right, place.up]") == [0, 0]
    page.locator("div").press("ArrowLeft")
    assert page.evaluate("[place.right, place.up]") == pytest.approx([3 * 0.04 / np.pi, 0])
    before = page.evaluate("places.length")
    page.locator("div").press("+")
    page.mouse.wheel(0, 100)
    assert page.evaluate("places.length") == before, "a light field has one distance"

    page.reload()
    page.evaluate(code, RANGES[0].to_config())
    assert drag(10, -10) == pytest.approx([-0.2, -0.2])
    assert drag(-1000, 0) == pytest.approx([1, -0.2])
