"""The Space of AsCAN: objects found in pictures, digits read, pictures drawn by class."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from pocket_diffusers.pipelines.generation import ImageRequest
from pocket_diffusers.pipelines.library_chatter import silence_libraries
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.outputs import MIN_SCORE, Detections
from pocket_diffusers.pipelines.pipeline_ascan import AsCANPipeline
from pocket_diffusers.pipelines.pipeline_ascan_classification import AsCANImageClassificationPipeline
from pocket_diffusers.pipelines.pipeline_ascan_detection import AsCANDetectionPipeline
from pocket_diffusers.pipelines.recognition.detection_overlay import draw_detections, object_name
from pocket_diffusers.pipelines.recognition.drawn_digit import read_digit
from pocket_diffusers.spaces import look
from pocket_diffusers.training.datasets.pocketworld.records import pictures
from pocket_diffusers.training.datasets.pocketworld.scene import COLORS

TAGLINE = "One design of convolutions and attention that finds objects, reads digits and draws pictures."
NOTE = (
    "Re-implementation, AsCAN-style and reconstructed; weights trained on PocketWorld, a small computer-drawn world of "
    "coloured shapes, and on the handwritten digits that scikit-learn ships. The models run in this app itself: no "
    "other service sees your pictures."
)
WEIGHTS = ("ascan-nano-judge", "ascan-nano-digits", "ascan-nano")
EXAMPLES = range(6)
EXAMPLE_SIZE = 256
DIGIT_BOARD = 280


def build(model: str | None = None) -> gr.Blocks:
    """The page, with its three pipelines loaded.

    Args:
        model: weights as `load_pipeline` takes them, in place of the package's own of the same kind.

    Raises:
        ValueError: for an unknown name of weights, or a generator without classes.
        OSError: when the weights cannot be read.
    """
    silence_libraries()
    loaded = [load_pipeline("ascan", name) for name in (*WEIGHTS, *([model] if model else []))]
    of_kind = {type(pipeline): pipeline for pipeline in loaded}
    with look.page("AsCAN", TAGLINE, NOTE, model) as demo, gr.Tabs():
        with gr.Tab("Detect"), look.desk():
            detect_desk(of_kind[AsCANDetectionPipeline])
        with gr.Tab("Digits"), look.desk():
            digits_desk(of_kind[AsCANImageClassificationPipeline])
        with gr.Tab("Generate"), look.desk():
            generate_desk(of_kind[AsCANPipeline])
    return demo


def detect_desk(pipeline: AsCANDetectionPipeline) -> None:
    """A picture in, its objects out."""
    shown = [Image.fromarray(example.rgb) for example in pictures("test", EXAMPLE_SIZE, EXAMPLES)]

    @look.friendly_errors()
    def detect(image: Image.Image | None, threshold: float = 0.3) -> tuple[Image.Image, str, dict[str, Any]]:
        """The picture with boxes and masks, a table of what was found and the time it took, and all of it as JSON."""
        if image is None:
            raise ValueError("There is no picture: draw something, upload a picture or choose an example.")
        watch = look.Stopwatch()
        (found,) = pipeline(image, threshold=threshold).detections
        line = watch.line(len(found), "object", f"threshold {threshold:g} · {image.width} × {image.height} pixels")
        return draw_detections(image, found), f"{line}\n\n{found_table(found)}", found.to_dict()

    def detect_example(threshold: float, event: gr.SelectData) -> tuple[Any, ...]:
        image = shown[event.index]
        return image, *detect(image, threshold)

    with look.section("ask"):
        board = look.drawing_board(
            "Picture", shown[0],
            brush=gr.Brush(default_size=14, colors=[_css(rgb) for rgb in COLORS.values()]),
            canvas_size=(EXAMPLE_SIZE, EXAMPLE_SIZE), height=340,
        )  # fmt: skip
        button = gr.Button("Find objects", variant="primary", size="lg")
        upload = look.upload_button("Upload a picture")
        gallery = gr.Gallery(
            shown,
            label="Try one of these", columns=3, allow_preview=False, interactive=False, format="png", buttons=[],
            elem_classes="pocket-examples",
        )  # fmt: skip
    with look.section("show"):
        overlay = gr.Image(label="What was found", format="png", interactive=False, buttons=["download", "fullscreen"])
        table = gr.Markdown(elem_classes="pocket-timing")
    with look.section("settings"):
        threshold = look.setting(
            "Threshold", MIN_SCORE, 1, 0.3, 0.01, "Objects the model is less sure of are left out."
        )
        with gr.Accordion("As JSON", open=False):
            record = gr.JSON(show_label=False)
    work = {"outputs": [overlay, table, record], "concurrency_id": "model", "show_progress_on": overlay}
    upload.upload(detect, [upload, threshold], **work, api_name="detect")
    upload.upload(lambda image: image, upload, board, api_visibility="private")
    button.click(detect, [board, threshold], **work, api_visibility="private", scroll_to_output=True)
    work["outputs"] = [board, *work["outputs"]]
    gallery.select(detect_example, threshold, **work, api_visibility="private")


def digits_desk(pipeline: AsCANImageClassificationPipeline) -> None:
    """A drawn digit in, the likeliest classes out."""

    @look.friendly_errors()
    def read(image: Image.Image | None) -> tuple[dict[str, float], Image.Image, str]:
        """The three likeliest digits with their probabilities, what the model saw, and the time it took."""
        if image is None:
            raise ValueError("The board is empty: draw a digit or upload a picture of one.")
        watch = look.Stopwatch()
        digit = read_digit(image)
        output = pipeline(digit, top_k=3)
        scores = dict(zip(output.labels[0], output.scores[0], strict=True))
        seen = digit.resize((DIGIT_BOARD, DIGIT_BOARD), Image.Resampling.NEAREST)
        return scores, seen, watch.line(1, "digit", "8 × 8 cells of ink")

    with look.section("ask"):
        board = look.drawing_board(
            "Draw a digit", Image.new("RGB", (DIGIT_BOARD, DIGIT_BOARD), "white"),
            brush=gr.Brush(default_size=11, colors=["#000000"], color_mode="fixed"),
            canvas_size=(DIGIT_BOARD, DIGIT_BOARD), fixed_canvas=True, height=390,
        )  # fmt: skip
        button = gr.Button("Read", variant="primary", size="lg")
        upload = look.upload_button("Upload a picture of a digit")
    with look.section("show"):
        label = gr.Label(label="Likeliest digits", num_top_classes=3)
        timing = gr.Markdown(elem_classes="pocket-timing")
    with look.section("settings"), gr.Accordion("What the model sees", open=False):
        seen = gr.Image(show_label=False, format="png", interactive=False, buttons=[], height=DIGIT_BOARD)
    work = {"outputs": [label, seen, timing], "concurrency_id": "model", "show_progress_on": label}
    upload.upload(read, upload, **work, api_name="read_digit")
    button.click(read, board, **work, api_visibility="private", scroll_to_output=True)


def generate_desk(pipeline: AsCANPipeline) -> None:
    """A class in, pictures out; where the classes are every colour with every shape, a colour and a shape.

    Raises:
        ValueError: for a model without classes.
    """
    labels = list(pipeline.labels)
    if not labels:
        raise ValueError("this page draws classes, but the model has none.")
    pairs = color_shape_names(labels)

    @look.friendly_errors()
    def draw_class(
        name: str,
        num_images: int = 4,
        steps: int = pipeline.defaults.num_inference_steps,
        guidance: float = pipeline.defaults.guidance_scale,
        seed: int = 0,
        new_seed: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> look.Drawn:
        """Pictures with their captions, a line on the time they took, the same pictures as files, the first seed."""
        seed = look.chosen_seed(seed, new_seed)
        request = ImageRequest((name,), None, int(steps), guidance, int(num_images), seed=seed)
        return look.draw_pictures(pipeline, request, progress, {"class": name}, f"{name} · ")

    def draw(
        color: str,
        shape: str,
        num_images: int = 4,
        steps: int = pipeline.defaults.num_inference_steps,
        guidance: float = pipeline.defaults.guidance_scale,
        seed: int = 0,
        new_seed: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> look.Drawn:
        """As for the class of that colour and that shape."""
        return draw_class(f"{color} {shape}", num_images, steps, guidance, seed, new_seed, progress)

    with look.section("ask"):
        choices = dict(zip(("Colour", "Shape"), pairs, strict=True)) if pairs else {"Class": labels}
        asked = [gr.Dropdown(names, value=names[0], label=label) for label, names in choices.items()]
        count = look.setting("Pictures", 1, 8, 4)
        button = gr.Button("Draw", variant="primary", size="lg")
    with look.section("show"):
        gallery, timing, files = look.picture_shelf()
    with look.section("settings"), gr.Accordion("Settings", open=False):
        steps, guidance = look.sampling_settings(pipeline.defaults, "the class")
        seed, fresh = look.seed_row()
    button.click(
        draw if pairs else draw_class,
        [*asked, count, steps, guidance, seed, fresh],
        [gallery, timing, files, seed],
        concurrency_id="model",
        show_progress_on=gallery,
        scroll_to_output=True,
        api_name="generate",
    )


def color_shape_names(labels: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Colours and shapes of classes such as "red cube", in PocketWorld's order where it knows them.

    Returns:
        None when the classes are not every colour with every shape.
    """
    parts = [label.partition(" ")[::2] for label in labels]
    colors, shapes = (list(dict.fromkeys(column)) for column in zip(*parts, strict=True))
    if not all(shapes) or len(parts) != len(colors) * len(shapes):
        return None
    known = list(COLORS)
    return sorted(colors, key=lambda color: known.index(color) if color in known else len(known)), shapes


def found_table(found: Detections) -> str:
    """A Markdown table of objects."""
    if not len(found):
        return "Nothing was found: try a lower threshold."
    lines = ["| object | score | box: x0, y0, x1, y1 |", "|---|---|---|"]
    for index, box in enumerate(found.boxes):
        sides = ", ".join(f"{side:.0f}" for side in box)
        lines.append(f"| {object_name(found, index)} | {found.scores[index]:.2f} | {sides} |")
    return "\n".join(lines)


def _css(rgb: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)


if __name__ == "__main__":
    look.serve(build())
