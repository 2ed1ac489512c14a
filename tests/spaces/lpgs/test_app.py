"""The Space of LPGS as programs and people use it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_lpgs
import torch
from PIL import Image

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import read_splats, write_splats
from pocket_diffusers.pipelines.pipeline_lpgs import LPGSPipeline
from pocket_diffusers.pipelines.scene_cameras import DIRECTIONS, Circle, turntable
from pocket_diffusers.pipelines.splat_compression import compress_splats

gradio = pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")

FORMATS = [".splatz", ".sog", ".spz", ".compressed.ply", ".ply"]


@pytest.fixture(scope="module")
def pipeline():
    return tiny_lpgs.make_pipeline(circle={**tiny_lpgs.CIRCLE, "up": "z"})


@pytest.fixture(scope="module")
def address(pipeline, tmp_path_factory):
    from pocket_diffusers.spaces.look import serve, space_app

    folder = tmp_path_factory.mktemp("weights") / "mine"
    pipeline.save_pretrained(folder)
    demo = space_app("lpgs").build(str(folder))
    yield serve(demo, wait=False)
    demo.close()


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def cloud(count: int = 300, degree: int = 1) -> Gaussians:
    draw = torch.Generator().manual_seed(0)
    return Gaussians(
        torch.randn(count, 3, generator=draw),
        torch.rand(count, 3, generator=draw) - 3,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw) / 2,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Scenes of all kinds, good and bad."""
    folder = tmp_path_factory.mktemp("given")
    for suffix in FORMATS:
        write_splats(cloud(), folder / f"my.cloud{suffix}")
    (folder / "cut.ply").write_bytes((folder / "my.cloud.ply").read_bytes()[:-1000])
    (folder / "words.ply").write_text("no scene")
    (folder / "empty.spz").write_text("")
    (folder / "cut.lpgs").write_bytes(tiny_lpgs.make_pipeline().container()[:-100])
    (folder / "picture.png").write_bytes(b"")
    return folder


def compress(client, path: Path | None, **settings):
    from gradio_client import handle_file

    return client.predict(None if path is None else handle_file(path), api_name="/compress", **settings)


def test_a_compression_is_that_of_the_package(client, files, tmp_path):
    pair, told, view, made = compress(client, files / "my.cloud.ply", megabytes=0.05, degree=0, up="y")
    done = compress_splats(files / "my.cloud.ply", tmp_path / "made.splatz", 0.05, up="y", sh_degree=0)
    assert [Path(path).name for path in made] == [f"my.cloud-small{suffix}" for suffix in FORMATS]
    assert Path(made[0]).read_bytes() == (tmp_path / "made.splatz").read_bytes()
    kept = read_splats(made[0])
    for path in made[1:]:
        read = read_splats(path)
        assert len(read) == len(kept) and read.sh_degree == 0
    assert told.startswith(f"**{done.gaussians} splats** in **") and f"300 before · {done.psnr:.1f} dB" in told
    assert f"| my.cloud.ply | {done.bytes_before:,} |\n| my.cloud-small.splatz | {done.bytes_after:,} |" in told
    assert Path(view).suffix == ".ply" and len(read_splats(view)) == len(kept)
    source = cloud()
    camera = turntable(source, 1, 512, 512, up="y")
    for path, shown in zip(pair, (source, kept), strict=True):
        assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), np.asarray(camera.picture(shown, 0)))


@pytest.mark.parametrize("suffix", [".compressed.ply", ".spz"])
def test_names_of_files_say_their_format(files, suffix):
    from pocket_diffusers.spaces.lpgs.app import read_scene

    assert len(read_scene(str(files / f"my.cloud{suffix}")).gaussians) == 300


def test_the_scene_is_that_of_the_pipeline(client, pipeline):
    gallery, told, view, made = client.predict(pictures=2, api_name="/show")
    assert [Path(path).name for path in made] == ["scene.lpgs", *(f"scene{suffix}" for suffix in FORMATS)]
    stored = Path(made[0]).read_bytes()
    assert stored == pipeline.container()
    opened = LPGSPipeline.from_container(made[0]).gaussians()
    expected = pipeline.gaussians()
    assert told.startswith(f"**{len(expected)} splats** in **") and "· 120 of them stored" in told
    sizes = [int(line.split("|")[2].replace(",", "")) for line in told.splitlines()[4:]]
    assert sum(sizes[:-1]) == sizes[-1] == len(stored) and len(sizes) == 6
    assert len(opened) == len(read_splats(made[-1])) == len(read_splats(view)) == len(expected)
    torch.testing.assert_close(read_splats(made[-1]).means, expected.means)
    shown = [Image.open(entry["image"]).convert("RGB") for entry in gallery]
    images = pipeline(num_frames=2).images
    assert all(np.array_equal(np.asarray(one), np.asarray(two)) for one, two in zip(shown, images, strict=True))


@pytest.mark.parametrize("up", DIRECTIONS)
def test_the_viewer_sees_what_a_camera_sees(up):
    """From (0, 0, -z) along z with y down, as from the turntable whose distance is scaled as the scene is."""
    from pocket_diffusers.spaces.lpgs.app import VIEW_DISTANCE, placed_for_viewer

    scene = cloud()
    scene = Gaussians(**{**scene.tensors(), "means": scene.means * 3 + torch.tensor([5.0, -2, 1])})
    placed = placed_for_viewer(scene, Circle.around(scene, up=up))
    assert placed.sh_degree == 0
    assert placed.means.norm(dim=1).median() < 0.75
    camera = turntable(scene, 1, 64, 64, 0, up)
    view = torch.eye(4)
    view[2, 3] = VIEW_DISTANCE
    seen = [np.asarray(camera.picture(scene.with_sh_degree(0), 0), int)]
    seen.append(np.asarray(replace(camera, viewmats=view[None]).picture(placed, 0), int))
    assert seen[0].std() > 20 and np.abs(seen[0] - seen[1]).max() <= 2
    sign, axis = (-1.0 if up.startswith("-") else 1.0), "xyz".index(up[-1])
    assert camera.viewmats[0, :3, axis].tolist() == pytest.approx([0, -sign, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (None, "There is no scene: upload one or choose the example."),
        ("picture.png", "Invalid file type"),
        ("words.ply", "words.ply has a PLY header that is truncated, or a line of it is too long."),
        ("cut.ply", "cut.ply is truncated: 300 rows take 31,200 bytes, but 30,200 are left."),
        ("empty.spz", "empty.spz is truncated."),
        ("cut.lpgs", "An LPGS file must be in the safetensors format"),
    ],
)
def test_bad_scenes_get_one_sentence(client, files, name, sentence):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        compress(client, None if name is None else files / name)
    assert sentence in str(error.value) and "/tmp" not in str(error.value)


def test_what_is_too_large_for_the_page_gets_one_sentence(client, files, monkeypatch):
    from gradio_client.exceptions import AppError

    from pocket_diffusers.spaces.lpgs import app

    monkeypatch.setattr(app, "LARGEST_SCENE", 299)
    monkeypatch.setattr(app, "LARGEST_UNFOLDING", 1000)
    for name, what in (("my.cloud.ply", "number of Gaussians"), ("my.cloud.spz", "size")):
        with pytest.raises(AppError, match=rf"The {what} (in|of) {name} must be at most (299|1,000) .*, not \d+\."):
            compress(client, files / name)
    monkeypatch.undo()
    monkeypatch.setattr(app, "LONGEST", 0.0)
    with pytest.raises(AppError, match="This scene takes longer than 0 s here: use `pocket convert`"):
        compress(client, files / "my.cloud.ply")
    with pytest.raises(AppError, match="w is not in the list of choices"):
        compress(client, files / "my.cloud.ply", up="w")


# In a browser


def test_a_person_compresses_a_scene_and_saves_it(address, open_page, files, tmp_path):
    page = open_page(address)
    page.locator("input[type=file]").first.set_input_files(files / "my.cloud.compressed.ply")
    page.get_by_text("my.cloud.compressed").first.wait_for()
    page.get_by_role("button", name="Compress", exact=True).click()
    page.get_by_text("300 before").wait_for()
    page.locator("canvas").filter(visible=True).first.wait_for()
    link = page.locator(".pocket-files a").filter(visible=True).first
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "saved.splatz")
    assert 0 < len(read_splats(tmp_path / "saved.splatz")) <= 300
    assert page.screenshot(path=tmp_path / "compress.png", full_page=True)


def test_a_person_sees_the_scene(address, open_page, tmp_path):
    page = open_page(address, width=390, dark=True)
    page.get_by_role("tab", name="LPGS scene").click()
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_text("120 of them stored").wait_for()
    assert page.locator(".pocket-pictures .thumbnail-item img").count() == 6
    page.locator("canvas").filter(visible=True).first.wait_for()
    page.wait_for_timeout(1000)
    colors = Image.open(path_of(page.locator("canvas").filter(visible=True).first, tmp_path)).convert("RGB")
    assert np.asarray(colors, int).std() > 5, "the view is blank"
    page.wait_for_function("document.documentElement.scrollWidth <= 390")


def path_of(element, folder: Path) -> Path:
    element.screenshot(path=folder / "view.png")
    return folder / "view.png"
