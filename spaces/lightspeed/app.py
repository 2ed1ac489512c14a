"""The Space of LightSpeed: a light field looked at from anywhere in its range, and one fitted to a camera grid."""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple
from zipfile import ZipFile

import gradio as gr
import numpy as np
import torch
from PIL import Image

from pocket_diffusers.hub_models.losses.photometric import psnr
from pocket_diffusers.pipelines.fitting.field_lightspeed import LightSpeedFit, new_field, range_of
from pocket_diffusers.pipelines.fitting.light_field_fitting import LightFieldFit, whole_blocks
from pocket_diffusers.pipelines.fitting.loop import fit
from pocket_diffusers.pipelines.fitting.slabs_lightspeed import SceneHints
from pocket_diffusers.pipelines.inputs import PosedImages, require
from pocket_diffusers.pipelines.library_chatter import silence_libraries
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.moving_picture import write_gif
from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline
from pocket_diffusers.pipelines.scene_cameras import UP, Cameras
from pocket_diffusers.pipelines.view_ranges import GridViews, OrbitViews
from pocket_diffusers.pipelines.zip_folder import unzipped
from pocket_diffusers.spaces import look
from pocket_diffusers.training.datasets.camera_grid import read_camera_grid
from pocket_diffusers.training.datasets.photographs import posed_photographs
from pocket_diffusers.training.datasets.pocketworld.records import GRID_SIDE, clips

TAGLINE = "A scene as a light field: a picture from any place between its cameras, in one pass of a small network."
NOTE = (
    "Re-implementation; the light field that comes with the package shows a scene of PocketWorld, a small "
    "computer-drawn world. Everything runs in this app itself: no other service sees your pictures."
)
BEFORE = (
    "Upload a camera grid, or take the example, and fit: here the light field appears, to look around in and to keep."
)
HOW_TO_NAME = """Names of the pictures tell row and column, such as `03_05.png` for row 3 and column 5; those of the \
Stanford light field archive are read too. A grid has at least 2 x 3 views, of which every second one inside is held \
out."""
HOW_TO_FIT = """On your own machine, in full size, from a camera grid or a capture with poses:

```bash
pocket fit lightspeed FOLDER -o field
```"""
PLACES = ((-0.6, 0.5), (0.0, 0.0), (0.6, -0.5))
"""Shares of the range, right and up, of the pictures to click."""
WALK_FRAMES, FRAMES_PER_SECOND = 48, 16
STEPS = 600
SIDE = 128
"""Pixels of the longer side of what is fitted here."""
MOST_VIEWS = 100
LARGEST_GRID = 200_000_000
"""Bytes of an unpacked camera grid."""
LARGEST_VIEW = 4096
"""Pixels of a picture's longer side, as it is uploaded."""
LONGEST = 300.0
"""Seconds of a fit."""
PROBED = 20
"""Steps after which it is known how long a fit takes."""
EXAMPLE_SCENE = 2
MILLIMETRES = 1000
"""In the names of the example's views, to one of PocketWorld's units."""
SENSOR = 36
"""Width in millimetres of the sensor in the names of the example's views."""
DRAG = """
const view = element.closest(".pocket-view");
const hasPicture = (part) => part.querySelector("img") !== null;
view.addEventListener("pointerdown", (event) => {
  const button = event.target.closest("button");
  if (button && !hasPicture(button)) event.stopPropagation();
}, { capture: true });
const place = module.lookAround(view, props.views, () => {
  if (!hasPicture(view)) return;
  props.value = [place.right, place.up];
  trigger("input");
});
watch("value", () => place.goTo(...props.value));
"""

Looked = tuple[Image.Image, str, list[float]]
"""A picture, a line on it, and where its camera stands."""
Fitted = tuple[LightSpeedPipeline, str, tuple[Image.Image, Image.Image], str]
"""The field, a line on it, a held-out view beside what the field shows there, and the file that keeps it."""


def build(model: str | None = None) -> gr.Blocks:
    """The page, with its light field loaded.

    Args:
        model: a light field as `load_pipeline` takes it; None takes the package's own `lightspeed-nano`.

    Raises:
        ValueError: for an unknown name of weights, or a field that does not say from where it may be seen.
        OSError: when the field cannot be read.
    """
    silence_libraries()
    pipeline = load_pipeline("lightspeed", model)
    require(pipeline.view_range is not None, "views of the model", None, "given, for this page looks around in them")
    with look.page("LightSpeed", TAGLINE, NOTE, model) as demo, gr.Tabs():
        with gr.Tab("Look around"), look.desk():
            look_desk(pipeline)
        with gr.Tab("Fit your own"), look.desk():
            fit_desk()
    return demo


def look_desk(pipeline: LightSpeedPipeline) -> None:
    """A field that is there already, from anywhere in its range."""
    axes = axes_of(pipeline.view_range)

    @look.friendly_errors()
    def show(right: float = axes[0].value(0), up: float = axes[1].value(0)) -> Looked:
        """The picture from a place, a line on it, and the place as shares of the range, from -1 to 1."""
        return seen(pipeline, axes, (axes[0].place(right), axes[1].place(up)))

    @look.friendly_errors()
    def drag(place: list[float]) -> tuple[Any, ...]:
        return *seen(pipeline, axes, place)[:2], *(axis.value(at) for axis, at in zip(axes, place, strict=True))

    def show_example(choice: gr.SelectData) -> tuple[Any, ...]:
        return [*PLACES[choice.index]], *drag(PLACES[choice.index])

    @look.friendly_errors()
    def walk() -> tuple[str, str]:
        """Pictures along a closed path through the range as a GIF, and a line on them."""
        watch = look.Stopwatch()
        pictures = pipeline(num_frames=WALK_FRAMES, output_type="np").images
        path = look.fresh_folder() / "walk.gif"
        write_gif(path, (255 * pictures).round().astype(np.uint8), FRAMES_PER_SECOND)
        return str(path), watch.line(WALK_FRAMES, "picture", f"{FRAMES_PER_SECOND} a second")

    with look.section("ask"):
        gr.Markdown(
            "Drag the picture or move the sliders: each place is one pass of a small network from rays to pixels, "
            "without geometry in between."
        )
        button = gr.Button("Take a walk", variant="primary", size="lg")
        gallery = gr.Gallery(
            [pipeline(cameras=pipeline.view_range.camera(*place)).images[0] for place in PLACES],
            label="Look from here", columns=3, allow_preview=False, interactive=False, format="png", buttons=[],
            elem_classes="pocket-examples",
        )  # fmt: skip
    with look.section("show"):
        viewer = view_of(axes, pipeline.view_range.to_config(), *seen(pipeline, axes, (0, 0))[:2])
    let_look_around(viewer, show, drag, api_name="look")
    shown = [viewer.picture, viewer.told]
    work = {"concurrency_id": "model", "show_progress_on": viewer.picture, "scroll_to_output": True}
    gallery.select(show_example, None, [viewer.drag, *shown, *viewer.sliders], **work, api_visibility="private")
    button.click(walk, None, shown, **work, api_name="walk")


def fit_desk() -> None:
    """A camera grid in, a light field out."""

    @look.friendly_errors()
    def fit_grid(
        archive: str | None,
        training_steps: int = STEPS,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> Fitted:
        """The field, a line on time and PSNR, a held-out view beside what the field shows there, and a file of all."""
        watch = look.Stopwatch()
        progress(0.0, desc="Reading the pictures")
        seen_views, held_out = read_grid(archive)
        pipeline = fitted(seen_views, int(training_steps), Countdown(int(training_steps), progress))
        decibels, pair = beside(pipeline, held_out)
        views = f"{len(seen_views)} views learned from · {decibels:.1f} dB PSNR on {len(held_out)} held out"
        return pipeline, watch.line(int(training_steps), "step", views), pair, zipped(pipeline)

    def fit_example(training_steps: int, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        archive = example_grid()
        return archive, *fit_grid(archive, training_steps, progress)

    @look.friendly_errors()
    def show(field: LightSpeedPipeline | None, right: float, up: float) -> Looked:
        return seen(field, GRID, (GRID[0].place(right), GRID[1].place(up)))

    @look.friendly_errors()
    def drag(field: LightSpeedPipeline | None, place: list[float]) -> tuple[Any, ...]:
        return *seen(field, GRID, place)[:2], *(axis.value(at) for axis, at in zip(GRID, place, strict=True))

    field = gr.State()
    with look.section("ask"):
        archive = gr.File(label="Camera grid", file_types=[".zip"], height=150)
        gr.Markdown(HOW_TO_NAME, elem_classes="pocket-hint")
        steps = look.setting("Steps", 50, 3000, STEPS, 50, "More is slower and sharper.")
        button = gr.Button("Fit", variant="primary", size="lg")
        example = gr.Button(f"Take an example: {GRID_SIDE} x {GRID_SIDE} views of a little world")
    with look.section("show"):
        told = gr.Markdown(BEFORE, elem_classes="pocket-timing")
        viewer = view_of(GRID, {"kind": "grid"})
        pair = gr.ImageSlider(label="A view held out, and the field's", format="png", interactive=False, buttons=[])
        file = gr.File(label="Light field", interactive=False, elem_classes="pocket-files")
    with look.section("settings"):
        gr.Markdown(HOW_TO_FIT)
    let_look_around(viewer, show, drag, [field], api_visibility="private")
    work = {"outputs": [field, told, pair, file], "concurrency_id": "fit", "show_progress_on": told}
    work["scroll_to_output"] = True
    made = button.click(fit_grid, [archive, steps], **work, api_name="fit")
    work["outputs"] = [archive, *work["outputs"]]
    made_of_example = example.click(fit_example, steps, **work, api_visibility="private")
    for fitting in (made, made_of_example):
        fitting.success(
            show, [field, *viewer.sliders], [viewer.picture, viewer.told, viewer.drag], concurrency_id="model",
            api_visibility="private",
        )  # fmt: skip


# Looking around


@dataclass(frozen=True)
class Axis:
    """One of the two directions in which a camera moves, in the field's own terms.

    Attributes:
        label: its name.
        info: what its numbers mean.
        low, high: ends, where the camera's place is -1 and 1.
        step: of its slider.
        unit: behind a number.
    """

    label: str
    info: str
    low: float = -1.0
    high: float = 1.0
    step: float = 0.05
    unit: str = ""

    def slider(self) -> gr.Slider:
        """From end to end, in the middle at first."""
        return look.setting(self.label, *self.ends, self.value(0.0), self.step, self.info)

    @property
    def ends(self) -> tuple[float, float]:
        """Of the slider: whole numbers, where there are some."""
        return (math.ceil(self.low), math.floor(self.high)) if self.high - self.low >= 2 else (self.low, self.high)

    def place(self, value: float) -> float:
        """Of a camera, in [-1, 1]."""
        half = (self.high - self.low) / 2
        return (value - self.low) / half - 1 if half > 0 else 0.0

    def value(self, place: float) -> float:
        """The slider's, where a camera is at a place."""
        value = (self.low + self.high + place * (self.high - self.low)) / 2
        low, high = self.ends
        return min(max(round(round(value / self.step) * self.step, 2), low), high)

    def words(self, place: float) -> str:
        return f"{self.label.lower()} {self.value(place):g}{self.unit}"


GRID = (
    Axis("Right", "-1 is the leftmost column of cameras, 1 the rightmost."),
    Axis("Up", "-1 is the lowest row of cameras, 1 the highest."),
)


def axes_of(views: GridViews | OrbitViews) -> tuple[Axis, Axis]:
    """To the right, and up."""
    if not isinstance(views, OrbitViews):
        return GRID
    return (
        Axis("Azimuth", "Degrees around the scene.", -180, 180, 1, "°"),
        Axis("Elevation", "Degrees above the horizon.", views.low, views.high, 1, "°"),
    )


class Viewer(NamedTuple):
    """Parts of the page with which one looks around."""

    picture: gr.Image
    told: gr.Markdown
    drag: gr.HTML
    sliders: list[gr.Slider]


def view_of(
    axes: tuple[Axis, Axis], views: dict[str, Any], first: Image.Image | None = None, line: str | None = None
) -> Viewer:
    """A picture that is dragged, a line on it, and sliders.

    Args:
        axes: of the sliders.
        views: from where, as `view_ranges.js` takes it.
        first, line: the picture from the middle and the line on it, where there is one at first.
    """
    with gr.Column(min_width=0, elem_classes="pocket-view"):
        picture = gr.Image(
            first, label="Picture", type="pil", format="png", interactive=False, buttons=["download", "fullscreen"]
        )
        drag = look.scripted("look_around.js", DRAG, value=[0, 0], views=views, elem_classes="pocket-drag")
    told = gr.Markdown(line, elem_classes="pocket-timing")
    with gr.Row():
        sliders = [axis.slider() for axis in axes]
    return Viewer(picture, told, drag, sliders)


def let_look_around(
    viewer: Viewer, show: Callable, drag: Callable, held: list[gr.State] | None = None, **api: str
) -> None:
    """Shows what is seen from where a slider or a drag leads, the newest place alone while they are quicker.

    Args:
        viewer: whose picture.
        show: of the sliders' values, right and up, to what `seen` gives.
        drag: of a place, to a picture, a line and the sliders' values.
        held: what both take before.
        api: by what programs ask for `show`.
    """
    work = {"concurrency_id": "model", "show_progress": "hidden", "trigger_mode": "always_last"}
    held, shown = held or [], [viewer.picture, viewer.told]
    slides = [slider.input for slider in viewer.sliders]
    gr.on(slides, show, [*held, *viewer.sliders], [*shown, viewer.drag], **work, **api)
    viewer.drag.input(drag, [*held, viewer.drag], [*shown, *viewer.sliders], **work, api_visibility="private")


def seen(pipeline: LightSpeedPipeline | None, axes: tuple[Axis, Axis], place: tuple[float, float]) -> Looked:
    """What a field shows from a place of its range, right and up in [-1, 1].

    Raises:
        ValueError: there is no field, or no such place.
    """
    if pipeline is None:
        raise ValueError("There is no light field yet: fit one first.")
    start = perf_counter()
    picture = pipeline(cameras=pipeline.view_range.camera(*place)).images[0]
    milliseconds = 1000 * (perf_counter() - start)
    words = " · ".join(axis.words(at) for axis, at in zip(axes, place, strict=True))
    return picture, f"**1 picture** in **{milliseconds:.0f} ms** · {words}", [*place]


# Fitting


def read_grid(path: str | None) -> tuple[PosedImages, PosedImages]:
    """The views of an uploaded camera grid to learn from, and those that are held out, in the size of this page.

    Raises:
        ValueError: there is none, or its pictures are no such grid, too many or too large.
    """
    if path is None:
        raise ValueError("There is no camera grid: upload a zip archive of its pictures or take the example.")
    with unzipped(path, LARGEST_GRID) as folder:
        splits = [read_camera_grid(folder, split) for split in ("train", "test")]
        views = [view for split in splits for view in split]
        name, side = Path(path).name, max(max(view.lens.width, view.lens.height) for view in views)
        require(len(views) <= MOST_VIEWS, f"the number of views in {name}", len(views), f"at most {MOST_VIEWS} here")
        require(side <= LARGEST_VIEW, f"the longer side of views in {name}", side, f"at most {LARGEST_VIEW} pixels")
        seen_views, held_out = (posed_photographs(split, SIDE) for split in splits)
    return seen_views, held_out


def example_grid() -> str:
    """A zip archive of a camera grid of PocketWorld; names tell places and lens in millimetres."""
    (clip,) = clips("lightfield", "test", SIDE, [EXAMPLE_SCENE], 0)
    x, y = -MILLIMETRES * clip.path.viewmats[:, :2, 3].T
    lens = float(clip.path.Ks[0, 0, 0]) * SENSOR / SIDE
    folder = look.fresh_folder()
    with ZipFile(folder / "example-grid.zip", "w") as archive:
        for view, pixels in enumerate(clip.rgb):
            row, column = divmod(view, GRID_SIDE)
            name = f"view_{row:02}_{column:02}_{y[view]:.3f}_{x[view]:.3f}_{lens:.6f}_{SENSOR}.png"
            with archive.open(name, "w") as file:
                Image.fromarray(pixels).save(file, "PNG")
    return str(folder / "example-grid.zip")


class Countdown:
    """Tells how long a fit still takes, and ends one that would take too long.

    Args:
        steps: of the fit.
        progress: gradio's bar.
    """

    def __init__(self, steps: int, progress: gr.Progress) -> None:
        self.steps, self.progress = steps, progress
        self.start = perf_counter()

    def __call__(self, done: int) -> None:
        """To be called after each step.

        Raises:
            ValueError: the fit takes longer than `LONGEST`, or will.
        """
        spent = perf_counter() - self.start
        all_of_it = spent / done * self.steps
        if spent > LONGEST or (done == PROBED and all_of_it > LONGEST):
            raise ValueError(
                f"{self.steps} steps take about {all_of_it:.0f} s here, longer than the {LONGEST:g} s of this page: "
                "take fewer, or use `pocket fit` as written below."
            )
        self.progress(done / self.steps, desc=f"Fitting · about {all_of_it - spent:.0f} s left")


class WatchedFit(LightFieldFit):
    """One that tells after each step how many are done."""

    tell: Callable[[int], None]

    def after_step(self, part: str, step: int, optimizer: torch.optim.Optimizer) -> None:
        self.tell(step + 1)


def fitted(posed: PosedImages, steps: int, tell: Callable[[int], None]) -> LightSpeedPipeline:
    """A nano field fitted to views of a camera grid; `tell` hears after each step how many are done."""
    how = LightSpeedFit(steps=steps)
    field, views = new_field(posed, how, SceneHints())
    objective = WatchedFit(field, views, how.learning_rate, how.grid_rate)
    objective.tell = tell
    fit(objective, views.batches(how.seed, how.batch_views), how.settings(posed), progress=False)
    pipeline = LightSpeedPipeline(field.eval(), range_of(field, posed, UP).to_config())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def beside(pipeline: LightSpeedPipeline, held_out: PosedImages) -> tuple[float, tuple[Image.Image, Image.Image]]:
    """Mean PSNR in dB of views that were not learned from, and the first of them beside what the field shows there."""
    truth = whole_blocks(held_out, pipeline.field.scale)
    cameras = Cameras(truth.viewmats, truth.Ks, truth.width, truth.height)
    shown = pipeline(cameras=cameras, output_type="pt").images
    pictures = [
        Image.fromarray((255 * pixels[0].permute(1, 2, 0)).round().byte().numpy()) for pixels in (truth.images, shown)
    ]
    return float(psnr(shown, truth.images, peak=1.0).mean()), tuple(pictures)


def zipped(pipeline: LightSpeedPipeline) -> str:
    """The field's repository as a zip archive; unpacked, `LightSpeedPipeline.from_pretrained` reads it."""
    folder = look.fresh_folder()
    pipeline.save_pretrained(folder / "light-field")
    return shutil.make_archive(str(folder / "light-field"), "zip", folder, "light-field")


if __name__ == "__main__":
    look.serve(build())
