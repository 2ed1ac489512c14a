"""The Space of LPGS: splat scenes made smaller, and a scene whose splats are predicted from few stored points."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import gradio as gr
import torch
from PIL import Image

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.quaternions import quaternions_of, rotation_matrices
from pocket_diffusers.hub_models.rendering.spherical_harmonics import MAX_DEGREE
from pocket_diffusers.hub_models.rendering.splat_files import read_splats, suffix_of
from pocket_diffusers.pipelines import splat_conversion
from pocket_diffusers.pipelines.inputs import require
from pocket_diffusers.pipelines.library_chatter import silence_libraries
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.pipeline_lpgs import LPGSPipeline
from pocket_diffusers.pipelines.scene_cameras import DIRECTIONS, UP, Circle
from pocket_diffusers.pipelines.scene_files import UnpackedScene
from pocket_diffusers.pipelines.splat_compression import compress_splats
from pocket_diffusers.pipelines.splat_conversion import save_splats
from pocket_diffusers.spaces import look

TAGLINE = "Scenes of Gaussian splats in fewer bytes."
NOTE = (
    "Re-implementation; the LPGS scene comes with the package. Everything runs in this app itself: no other service "
    "sees your scenes."
)
HOW_TO_FIT = """On this page scenes are coded as they are, without LPGS, whose fit takes more time than a free CPU \
Space has. On your own machine, with scenes of any size:

```bash
pocket fit lpgs scene.ply -o scene --budget-mb 1
pocket convert scene.ply small.splatz --budget-mb 1
```"""
WRITTEN = (".splatz", ".sog", ".spz", ".compressed.ply", ".ply")
READ = (*WRITTEN, ".splat", ".lpgs")
UNFOLDING = (".splatz", ".sog", ".spz", ".lpgs")
LARGEST_UNFOLDING = 20_000_000
"""Bytes of a file that may unfold to 256 times as many."""
LARGEST_SCENE = 250_000
"""Gaussians; a free CPU Space compresses about two thousand a second."""
LONGEST = 300.0
"""Seconds of a compression: splats that all cover the whole picture would take hours."""
SIDE = 512
VIEW_HEIGHT = 340
VIEW_DISTANCE = 2.2
"""What a scene's circle has in `gr.Model3D`, whose camera stands 5 units from the origin and sees 0.75 to each side."""
VIEWS = 24

Viewed = tuple[str, list[str]]
"""The file that `gr.Model3D` shows, and files to download."""


def build(model: str | None = None) -> gr.Blocks:
    """The page, with its scene loaded.

    Args:
        model: a scene as `load_pipeline` takes it; None takes the package's own `lpgs-nano`.

    Raises:
        ValueError: for an unknown name of weights.
        OSError: when the scene cannot be read.
    """
    silence_libraries()
    pipeline = load_pipeline("lpgs", model)
    with look.page("LPGS", TAGLINE, NOTE, model) as demo, gr.Tabs():
        with gr.Tab("Compress"), look.desk():
            compress_desk(pipeline)
        with gr.Tab("LPGS scene"), look.desk():
            scene_desk(pipeline)
    return demo


def compress_desk(pipeline: LPGSPipeline) -> None:
    """A scene in, a smaller one out."""
    example = pipeline(num_frames=1, height=SIDE // 2, width=SIDE // 2).images

    @look.friendly_errors()
    def compress(
        scene: str | None,
        megabytes: float = 0.5,
        degree: int = MAX_DEGREE,
        up: str = UP,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> tuple[tuple[Image.Image, Image.Image], str, str, list[str]]:
        """Source and result from one camera, what was done in how many bytes, the result to look at and as files."""
        watch = look.Stopwatch()
        read = read_scene(scene)
        source, circle = read.gaussians, read.circle or Circle.around(read.gaussians, up=up)
        target = look.fresh_folder() / f"{Path(scene).name[: -len(suffix_of(scene))]}-small.splatz"
        advance = in_time(look.step_progress(progress, "Compressing"))
        views = None if read.circle is None else circle.cameras(VIEWS, SIDE, SIDE)
        done = compress_splats(scene, target, megabytes, views, up=up, sh_degree=int(degree), progress=advance)
        kept = read_splats(target)
        viewed, files = save_all(kept, target, circle)
        camera = circle.cameras(1, SIDE, SIDE)
        pair = camera.picture(source, 0), camera.picture(kept, 0)
        line = watch.line(done.gaussians, "splat", f"{done.gaussians_before:,} before · {done.psnr:.1f} dB")
        sizes = {Path(scene).name: done.bytes_before, target.name: done.bytes_after}
        meant = f"dB is PSNR against the source, where it covers the picture, from {done.held_out} cameras held out."
        return pair, f"{line}\n\n{bytes_table('file', sizes)}\n\n{meant}", viewed, files

    def compress_example(megabytes: float, degree: int) -> tuple[Any, ...]:
        path = look.fresh_folder() / "example.lpgs"
        pipeline.to_container(path)
        return str(path), *compress(str(path), megabytes, degree)

    with look.section("ask"):
        scene = gr.File(label="Scene", file_types=list(READ), height=150)
        gr.Markdown(" ".join(READ), elem_classes="pocket-hint")
        megabytes = look.setting("Megabytes", 0.05, 5, 0.5, 0.05, "What the smaller scene may take as .splatz.")
        button = gr.Button("Compress", variant="primary", size="lg")
        gallery = gr.Gallery(
            example,
            label="Try this one", columns=3, allow_preview=False, interactive=False, format="png", buttons=[],
            elem_classes="pocket-examples",
        )  # fmt: skip
    with look.section("show"):
        pair = gr.ImageSlider(label="Source and result", format="png", interactive=False, buttons=["fullscreen"])
        table = gr.Markdown(elem_classes="pocket-timing")
        view = scene_view()
        files = scene_files()
    with look.section("settings"):
        with gr.Accordion("Settings", open=False):
            degree = look.setting(
                "Degree of colour", 0, MAX_DEGREE, MAX_DEGREE, info="How finely colours change with the view; 0 is not."
            )
            up = gr.Dropdown(
                list(DIRECTIONS), value=UP, label="Up", info="Which of its axes points up, where a file does not say."
            )
        gr.Markdown(HOW_TO_FIT)
    work = {"outputs": [pair, table, view, files], "concurrency_id": "model", "show_progress_on": pair}
    button.click(compress, [scene, megabytes, degree, up], **work, api_name="compress", scroll_to_output=True)
    work["outputs"] = [scene, *work["outputs"]]
    gallery.select(compress_example, [megabytes, degree], **work, api_visibility="private")


def scene_desk(pipeline: LPGSPipeline) -> None:
    """The LPGS scene, and what each part of it takes."""
    parents = pipeline.scene.config.num_parents

    @look.friendly_errors()
    def show(pictures: int = 6) -> tuple[list[Image.Image], str, str, list[str]]:
        """Pictures from cameras around the scene, bytes by part, the scene to look at and as files."""
        watch = look.Stopwatch()
        stored = look.fresh_folder() / "scene.lpgs"
        report = pipeline.to_container(stored)
        gaussians = pipeline.gaussians().to("cpu")
        images = pipeline(num_frames=int(pictures), height=SIDE, width=SIDE).images
        viewed, files = save_all(gaussians, stored, pipeline.circle(gaussians))
        line = watch.line(len(gaussians), "splat", f"{parents:,} of them stored")
        sizes = {**report, f"all of {stored.name}": stored.stat().st_size}
        return images, f"{line}\n\n{bytes_table('part', sizes)}", viewed, files

    with look.section("ask"):
        gr.Markdown(
            "LPGS stores points with their sizes, a hash grid and small networks. From these it predicts all splats: "
            "one at each stored point, and its children around it."
        )
        pictures = look.setting("Pictures", 1, 12, 6)
        button = gr.Button("Show", variant="primary", size="lg")
    with look.section("show"):
        gallery = gr.Gallery(
            label="Pictures", show_label=False, format="png", columns=3, object_fit="contain", interactive=False,
            buttons=["download", "fullscreen"], elem_classes="pocket-pictures",
        )  # fmt: skip
        table = gr.Markdown(elem_classes="pocket-timing")
        view = scene_view()
        files = scene_files()
    button.click(
        show,
        pictures,
        [gallery, table, view, files],
        concurrency_id="model",
        show_progress_on=gallery,
        scroll_to_output=True,
        api_name="show",
    )


def scene_view() -> gr.Model3D:
    """Where a scene is turned with the mouse."""
    return gr.Model3D(label="Result in 3D", interactive=False, height=VIEW_HEIGHT)


def scene_files() -> gr.File:
    """Where a scene is fetched in each format."""
    return gr.File(label="Files", file_count="multiple", interactive=False, elem_classes="pocket-files")


def read_scene(path: str | None) -> UnpackedScene:
    """An uploaded scene.

    Raises:
        ValueError: there is none, it cannot be read, or it is too large for this page.
    """
    if path is None:
        raise ValueError("There is no scene: upload one or choose the example.")
    name, suffix, size = Path(path).name, suffix_of(path), os.path.getsize(path)
    require(suffix in READ, "the scene", name, f"a file that ends in {', '.join(READ)}")
    if suffix in UNFOLDING:
        require(size <= LARGEST_UNFOLDING, f"the size of {name}", size, f"at most {LARGEST_UNFOLDING:,} bytes")
    scene = splat_conversion.read_scene(path)
    count, allowed = len(scene.gaussians), f"at most {LARGEST_SCENE:,} on this page"
    require(count <= LARGEST_SCENE, f"the number of Gaussians in {name}", count, allowed)
    return scene


def in_time(progress: Callable[[float], None]) -> Callable[[float], None]:
    """Passes progress on for `LONGEST` seconds.

    Raises:
        ValueError: when called later.
    """
    end = monotonic() + LONGEST

    def advance(share: float) -> None:
        if monotonic() > end:
            raise ValueError(f"this scene takes longer than {LONGEST:g} s here: use `pocket convert` as written below.")
        progress(share)

    return advance


def save_all(gaussians: Gaussians, made: Path, circle: Circle) -> Viewed:
    """Saves a scene for the viewer and in each format that is written.

    Args:
        gaussians: the scene.
        made: a file of it that is there already; the others are written beside it.
        circle: from where it is looked at.
    """
    view = made.with_name("view.ply")
    save_splats(placed_for_viewer(gaussians, circle), view)
    others = [made.with_suffix(suffix) for suffix in WRITTEN if suffix != made.suffix]
    for path in others:
        save_splats(gaussians, path)
    return str(view), [str(path) for path in (made, *others)]


def placed_for_viewer(gaussians: Gaussians, circle: Circle) -> Gaussians:
    """The scene as `gr.Model3D` shows it: y down, the middle in the origin, colours that do not depend on the view."""
    turn = replace(circle, elevation=0.0).cameras(1, SIDE, SIDE).viewmats[0, :3, :3]
    scale = VIEW_DISTANCE / circle.distance
    return Gaussians(
        means=(gaussians.means - torch.tensor(circle.center)) @ turn.T * scale,
        log_scales=gaussians.log_scales + math.log(scale),
        quaternions=quaternions_of(turn @ rotation_matrices(gaussians.quaternions)),
        opacity_logits=gaussians.opacity_logits,
        sh=gaussians.sh[:, :1],
    )


def bytes_table(what: str, sizes: dict[str, int]) -> str:
    """A Markdown table of bytes."""
    lines = [f"| {what} | bytes |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {name} | {size:,} |" for name, size in sizes.items())])


if __name__ == "__main__":
    look.serve(build())
