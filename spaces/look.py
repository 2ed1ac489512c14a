"""What every Space shares: its look, the frame of the page, settings, examples, words for errors, files and serving."""

import atexit
import json
import os
import re
import shutil
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from html import escape
from importlib import import_module
from pathlib import Path
from random import SystemRandom
from time import perf_counter
from typing import Any

import gradio as gr
from diffusers import DiffusionPipeline
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from pocket_diffusers import __version__, unknown_name
from pocket_diffusers.pipelines import METHODS
from pocket_diffusers.pipelines.generation import ImageRequest, generate
from pocket_diffusers.pipelines.sampling.defaults import SamplingDefaults

QUEUE = 32
"""Requests that wait at most; the next one is told that the Space is busy."""
KEPT_RESULTS = 64
"""Results whose files stay on the disk; gradio keeps its own copies of them for an hour."""
LONGEST_PROMPT = 500
"""Characters; longer than what a text encoder of a nano model reads."""
LARGEST_SEED = 2**31 - 1
LARGEST_SIDE = 1024
"""Pixels of the longer side, to which larger uploads are reduced."""
LARGEST_UPLOAD = "100mb"
"""Of a visitor's file: 400,000 splats whose colours depend on the view, as plain PLY."""

SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
THEME = gr.themes.Base(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    radius_size="lg",
    font=SYSTEM_FONTS,
    font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"),
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_background_fill="white",
    block_background_fill_dark="*neutral_900",
    block_border_color="*neutral_200",
    block_border_color_dark="*neutral_700",
    block_label_background_fill="white",
    block_label_background_fill_dark="*neutral_900",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    block_title_text_color="*neutral_700",
    block_title_text_color_dark="*neutral_200",
    block_title_text_weight="600",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_400",
    input_background_fill="*neutral_50",
    input_background_fill_dark="*neutral_800",
    input_border_width="1px",
    input_border_color="*neutral_300",
    input_border_color_dark="*neutral_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_primary_text_color="white",
    button_primary_text_color_dark="white",
)
CSS = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
.prose:has(> .pocket-header) { padding: 8px 0 0 !important; }
.pocket-header { display: flex; gap: 14px; align-items: center; }
.pocket-header svg { flex: none; width: 46px; height: 46px; margin-left: -10px; color: var(--primary-700) !important; }
.dark .pocket-header svg { color: var(--primary-300) !important; }
.pocket-header svg * { color: inherit !important; }
.pocket-header h1 { font-size: 1.7rem; line-height: 1.15; margin: 0; font-weight: 700; }
.pocket-header p { margin: 4px 0 0; color: var(--body-text-color-subdued); line-height: 1.4; }
.pocket-footer p { font-size: .85rem; color: var(--body-text-color-subdued); }
.pocket-desk { display: grid !important; gap: 16px; align-items: start;
  grid-template: "ask show" auto "settings show" 1fr / minmax(0, 5fr) minmax(0, 6fr); }
.pocket-desk > .pocket-ask { grid-area: ask; }
.pocket-desk > .pocket-show { grid-area: show; }
.pocket-desk > .pocket-settings { grid-area: settings; }
.pocket-hint p { font-size: .85rem; color: var(--body-text-color-subdued); }
.pocket-timing { min-height: 1.6em; padding: 0 2px; }
.pocket-pictures { min-height: 240px; }
.pocket-pictures .grid-wrap { min-height: 0 !important; max-height: none !important; padding-top: 8px !important; }
.pocket-board { min-height: 300px; }
.pocket-view { cursor: grab; }
.pocket-view:active { cursor: grabbing; }
.pocket-view .image-frame, .pocket-view .image-container > button { width: 100%; }
.pocket-view img { width: 100% !important; height: auto !important; object-fit: contain !important;
  pointer-events: none; }
.pocket-drag { display: none; }
.pocket-examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
.pocket-examples .grid-wrap { min-height: 0 !important; max-height: none !important; padding-top: 34px !important; }
.pocket-files:not(:has(a)), .pocket-files td:has(.label-clear-button) { display: none !important; }
.pocket-files tr { display: flex; }
.pocket-files .download { width: auto; min-width: 0; }
.pocket-files .stem { white-space: normal !important; overflow-wrap: anywhere; }
@media (max-width: 720px) {
  .gradio-container > main { padding: 12px !important; }
  .pocket-header h1 { font-size: 1.4rem; }
  .pocket-pictures { min-height: 175px; }
  .pocket-table .cell-wrap { padding: 4px !important; font-size: 12px; letter-spacing: -.02em; }
  .pocket-desk { grid-template: "ask" auto "show" auto "settings" auto / minmax(0, 1fr); }
}
"""
MARK = """<svg viewBox="0 0 48 48" fill="none" stroke="currentColor" stroke-width="3" aria-hidden="true">
<rect x="11" y="3" width="26" height="42" rx="7"/><path d="M20 9.5h8" stroke-linecap="round"/>
<circle cx="24" cy="22" r="6.5" fill="currentColor" stroke="none"/>
<path d="M16 37l5-7 4 5 3-4 4 6z" fill="currentColor" stroke="none"/></svg>"""
REIMPLEMENTATION = (
    "Re-implementation, weights trained on PocketWorld, a small computer-drawn world of coloured shapes. "
    "The model runs in this app itself: no other service sees what you type."
)
LINK = """
const addresses = {{}};
for (const [name, source] of Object.entries({sources})) {{
  const linked = source.replace(/from "\\.\\/(\\w+\\.js)";/g, (_, other) => `from "${{addresses[other]}}";`);
  addresses[name] = URL.createObjectURL(new Blob([linked], {{ type: "text/javascript" }}));
}}
import(addresses["{module}"]).then((module) => {{ {script} }});
"""
"""Modules that a page brings as text, each under an address of its own, by which the others import it."""

OWN_WEIGHTS = (
    "Runs `{model}`, weights that their owner made; nothing was measured of them. What else is on this page runs the "
    "nano weights of Pocket Diffusers. The models run in this app itself: no other service sees what you give them."
)


@contextmanager
def page(title: str, tagline: str, note: str = REIMPLEMENTATION, model: str | None = None) -> Iterator[gr.Blocks]:
    """The frame of a Space: header above, footer below, the queue's limits; between them a `desk`, or one in each tab.

    Args:
        title: the method's name.
        tagline: what it does, in one sentence.
        note: what a visitor must know of the package's own weights; Markdown.
        model: other weights that run here, of which that is not said; of a folder its name alone is shown.
    """
    if model is not None:
        note = OWN_WEIGHTS.format(model=Path(model).resolve().name if os.path.isdir(model) else model)
    _keep_uploads_private()
    words = f"<div><h1>{escape(title)}</h1><p>{escape(tagline)}</p></div>"
    with gr.Blocks(title=f"{title} · Pocket Diffusers", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        gr.HTML(f'<header class="pocket-header">{MARK}{words}</header>', padding=False)
        yield demo
        gr.Markdown(f"{note}\n\nPocket Diffusers {__version__} · Apache-2.0", elem_classes="pocket-footer")
    demo.queue(max_size=QUEUE, default_concurrency_limit=1)


def desk() -> gr.Row:
    """Where one kind of work is done; it holds `section`s."""
    return gr.Row(elem_classes="pocket-desk", equal_height=False)


def section(name: str) -> gr.Column:
    """One of the three parts of a desk: "ask", "show" and "settings". On a phone they stand in this order; where there
    is room, what is shown stands beside the others."""
    return gr.Column(min_width=0, elem_classes=f"pocket-{name}")


def prompt_row(label: str, placeholder: str, button: str) -> tuple[gr.Textbox, gr.Button]:
    """A text field and the button that starts; Enter starts too where the app listens to `submit`."""
    prompt = gr.Textbox(label=label, placeholder=placeholder, lines=2, max_lines=4, max_length=LONGEST_PROMPT)
    return prompt, gr.Button(button, variant="primary", size="lg")


def seed_row() -> tuple[gr.Number, gr.Checkbox]:
    """A seed and whether to draw a new one each time; `chosen_seed` reads them."""
    fresh = gr.Checkbox(True, label="New seed each time")
    return gr.Number(0, label="Seed", info="The same seed gives the same result.", precision=0), fresh


def setting(label: str, low: float, high: float, value: float, step: float = 1, info: str | None = None) -> gr.Slider:
    """A slider whose complaint about a value out of range names it: requests by API are not held to its ends.

    It is no class of its own, since gradio writes a file beside the module of each class of components.
    """
    slider = gr.Slider(low, high, value, step=step, label=label, info=info)
    read = slider.preprocess

    def preprocess(payload: float) -> float:
        if not low <= payload <= high:
            raise gr.Error(f"{label} must be from {low:g} to {high:g}, not {payload:g}.", print_exception=False)
        return read(payload)

    slider.preprocess = preprocess
    return slider


def sampling_settings(
    defaults: SamplingDefaults, follows: str, allowed: Sequence[int] | None = None
) -> tuple[gr.Slider | gr.Dropdown, gr.Slider]:
    """Steps and guidance of a pipeline that draws.

    Args:
        defaults: of the pipeline.
        follows: what guidance follows, such as "the prompt".
        allowed: the numbers of steps that it can take; None is any.
    """
    info = "More is slower and finer."
    if allowed is None:
        steps = setting("Steps", 1, 50, defaults.num_inference_steps, info=info)
    else:
        steps = gr.Dropdown(list(allowed), value=defaults.num_inference_steps, label="Steps", info=info)
    info = f"How strictly to follow {follows}; 1 is off."
    return steps, setting("Guidance", 1, 15, defaults.guidance_scale, 0.5, info=info)


def picture_shelf() -> tuple[gr.Gallery, gr.Markdown, gr.File]:
    """Where pictures are shown, the time they took is told, and their files are fetched."""
    gallery = gr.Gallery(
        label="Pictures", show_label=False, format="png", columns=2, object_fit="contain", interactive=False,
        buttons=["download", "fullscreen"], elem_classes="pocket-pictures",
    )  # fmt: skip
    timing = gr.Markdown(elem_classes="pocket-timing")
    return (
        gallery,
        timing,
        gr.File(label="PNG files", file_count="multiple", interactive=False, elem_classes="pocket-files"),
    )


def drawing_board(label: str, value: Image.Image, **options: Any) -> gr.ImageEditor:
    """A board to draw on; listeners get what is to be seen as PIL picture, None if nothing is.

    A file comes by an `upload_button`: gradio hands out the brush only on a board with a picture, one that takes no
    files itself.

    Args:
        label: its name.
        value: picture that lies on it at first, white paper at least.
        options: further ones of `gr.ImageEditor`, such as `brush` and `canvas_size`.
    """
    board = gr.ImageEditor(
        value, label=label, type="pil", sources=(), layers=False,
        transforms=None, buttons=[], format="png", elem_classes="pocket-board", **options,
    )  # fmt: skip
    read = board.preprocess

    def preprocess(payload: Any) -> Image.Image | None:
        with friendly_errors(), readable(label):
            drawn = (read(payload) or {}).get("composite")
            return None if drawn is None or drawn.getchannel("A").getextrema()[1] == 0 else drawn

    board.preprocess = preprocess
    return board


def scripted(module: str, script: str, **options: Any) -> gr.HTML:
    """A part of the page that a module of `static/` draws; the page asks for no file more.

    Args:
        module: its file; it may import others that lie beside it.
        script: run once with what the file exports as `module`, and with `element`, `props`, `trigger` and `watch` as
            gradio has them.
        options: further ones of `gr.HTML`, such as `value` and `label`.
    """
    sources = json.dumps(_with_imports(module))
    return gr.HTML(
        html_template="<div></div>", js_on_load=LINK.format(sources=sources, module=module, script=script),
        apply_default_css=False, **options,
    )  # fmt: skip


def _with_imports(module: str) -> dict[str, str]:
    """Files of `static/` with their sources: the module, and before each file those that it imports."""
    source = (Path(__file__).parent / "static" / module).read_text(encoding="utf-8")
    imported = re.findall(r'from "\./(\w+\.js)";', source)
    return {name: text for one in imported for name, text in _with_imports(one).items()} | {module: source}


def upload_button(label: str, name: str = "Image") -> gr.UploadButton:
    """A button to choose a picture file; programs send theirs to what listens to its `upload`.

    Listeners get a PIL picture, at most `LARGEST_SIDE` pixels wide and high, or None.

    Args:
        label: words on it.
        name: of the picture, for complaints.
    """
    button = gr.UploadButton(label, file_types=["image"], size="lg")

    def preprocess(payload: Any) -> Image.Image | None:
        with friendly_errors():
            return None if payload is None else read_upload(payload.path, name)

    button.preprocess = preprocess
    return button


def read_upload(path: str, label: str = "Image") -> Image.Image:
    """An uploaded picture, upright, at most `LARGEST_SIDE` pixels wide and high.

    Raises:
        ValueError: for a file that is no picture, is damaged or has more pixels than PIL's limit.
    """
    with readable(label), Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode not in ("RGB", "L") and not picture.mode.startswith(("I", "F")):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        return picture


@contextmanager
def readable(label: str) -> Iterator[None]:
    """Says in a sentence why a file cannot be read as a picture.

    Raises:
        ValueError: in place of what PIL raises.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{label} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: make it smaller first.") from None
    except UnidentifiedImageError:
        raise ValueError(f"{label} is no picture that can be read: use a PNG, JPEG, WebP or GIF file.") from None
    except Exception as error:  # each of PIL's readers has exceptions of its own for a damaged file
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ValueError(f"{label} is damaged: {reason}.") from error


def chosen_seed(seed: float | None, fresh: bool) -> int:
    """The seed to use: a random one of at most six digits if `fresh`, else `seed`.

    Raises:
        ValueError: for a seed that is missing or not from 0 to `LARGEST_SEED`.
    """
    if fresh:
        return SystemRandom().randrange(1_000_000)
    if seed is None or not 0 <= seed <= LARGEST_SEED:
        given = "nothing" if seed is None else f"{seed:.16g}"
        raise ValueError(f"Seed must be a whole number from 0 to {LARGEST_SEED}, not {given}.")
    return int(seed)


def check_prompt(text: str | None, name: str = "Prompt") -> str:
    """The text without blanks around it.

    Raises:
        ValueError: when it is longer than `LONGEST_PROMPT` characters, which requests by API may be.
    """
    text = (text or "").strip()
    if len(text) > LONGEST_PROMPT:
        raise ValueError(f"{name} has {len(text)} characters: at most {LONGEST_PROMPT} are allowed.")
    return text


def example_prompts(prompts: Sequence[str], prompt: gr.Textbox) -> gr.Examples:
    """Prompts to click; `.load_input_event.then(...)` of the result starts the work at once."""
    return gr.Examples([[text] for text in prompts], inputs=[prompt], label="Try one of these", examples_per_page=20)


@contextmanager
def friendly_errors() -> Iterator[None]:
    """Shows what the package complains about as a message on the page; as a decorator, of a whole function."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        sentence = _without_folders(" ".join(str(error).split()))
        if "." not in sentence.partition(" ")[0]:  # a file keeps its name
            sentence = sentence[:1].upper() + sentence[1:]
        raise gr.Error(sentence, print_exception=False) from error


def _without_folders(sentence: str) -> str:
    """Names files as visitors named them, not by where they lie here."""
    for root in {os.environ.get("GRADIO_TEMP_DIR"), str(_private_folder()), tempfile.gettempdir()} - {None}:
        sentence = re.sub(rf"{re.escape(root)}[/\\\\](?:[^\s/\\\\]+[/\\\\])*", "", sentence)
    return sentence


class Stopwatch:
    """Seconds since it was made, and the line that tells them."""

    def __init__(self) -> None:
        self._start = perf_counter()

    def line(self, count: int, noun: str, details: str) -> str:
        """Such as "**2 pictures** in **0.8 s** · 28 steps · seeds 5 to 6"."""
        plural = "" if count == 1 else "s"
        return f"**{count} {noun}{plural}** in **{perf_counter() - self._start:.1f} s** · {details}"


def keep_pictures(pictures: Sequence[tuple[Image.Image, str]], facts: Sequence[dict[str, Any]]) -> list[str]:
    """Writes pictures as PNG files for gallery and download, each with the facts that made it in its text chunks.

    Args:
        pictures: pictures with the words that their file names are made of.
        facts: for each picture, such as prompt and seed.

    Returns:
        Paths. The newest `KEPT_RESULTS` results stay; older ones are removed.
    """
    folder = fresh_folder()
    paths = []
    for (picture, words), known in zip(pictures, facts, strict=True):
        text = PngInfo()
        for key, value in known.items():
            text.add_itxt(key, str(value))
        path = folder / f"{_file_words(words)}.png"
        picture.save(path, pnginfo=text)
        paths.append(str(path))
    return paths


Drawn = tuple[list[tuple[str, str]], str, list[str], int]
"""Pictures with their captions, a line on the time they took, the same pictures as files, and the first one's seed."""


def draw_pictures(
    pipeline: DiffusionPipeline, request: ImageRequest, progress: gr.Progress, facts: dict[str, Any], said: str = ""
) -> Drawn:
    """Draws one prompt, for the parts of a `picture_shelf` and the seed.

    Args:
        pipeline: one that draws.
        request: with a single prompt, steps and guidance.
        progress: gradio's bar.
        facts: that go into the files beside steps, guidance and seed, such as the prompt.
        said: what the line says before steps and guidance.

    Raises:
        ValueError: for a request that the pipeline refuses.
    """
    watch = Stopwatch()
    made = generate(pipeline, request, step_progress(progress, "Drawing"))
    settings = {**facts, "steps": request.num_inference_steps, "guidance": request.guidance_scale}
    pictures = list(zip(made.output.images, made.seeds, strict=True))
    files = keep_pictures(
        [(image, f"{seed} {request.prompts[0]}") for image, seed in pictures],
        [{**settings, "seed": seed} for _, seed in pictures],
    )
    gallery = [(file, f"seed {seed}") for file, seed in zip(files, made.seeds, strict=True)]
    line = f"{said}{request.num_inference_steps} steps · guidance {request.guidance_scale:g}"
    return gallery, watch.line(len(files), "picture", line), files, request.seed


def serve(demo: gr.Blocks, port: int | None = None, share: bool = False, wait: bool = True) -> str:
    """Starts the Space and returns its address; with `wait`, only after Ctrl-C.

    Args:
        demo: what `build` of a Space's app made.
        port: where to listen; None is GRADIO_SERVER_PORT or the first free one from 7860.
        share: also open a public link through gradio's servers.
        wait: print the address and go on until Ctrl-C.

    Raises:
        OSError: when the port cannot be used.
    """
    options = {"server_port": port, "share": share, "quiet": True, "prevent_thread_lock": True}
    # Gradio would render pages through node where it finds it, which takes longer to start and fails offline.
    app, local, public = demo.launch(
        **options, theme=THEME, css=CSS, footer_links=["api", "gradio", "settings"], ssr_mode=False, max_threads=8,
        max_file_size=LARGEST_UPLOAD,
    )  # fmt: skip
    address = public or local
    if wait:
        print(f"Open {address} in a browser; Ctrl-C stops it.", flush=True)
        demo.block_thread()
    return address


def open_space(slug: str, model: str | None = None, port: int | None = None, share: bool = False) -> None:
    """`pocket demo`: serves the Space of a method until Ctrl-C.

    Args:
        slug: a key of `METHODS`; its app is `spaces/<slug>/app.py` with a function `build(model) -> gr.Blocks`.
        model: weights as `load_pipeline` takes them; None takes the package's own.
        port: as in `serve`.
        share: as in `serve`.

    Raises:
        ValueError: for an unknown method or name of weights.
        OSError: when the weights cannot be read or the port cannot be used.
    """
    if port is not None:
        _check_free(port)
    serve(space_app(slug).build(model), port, share)


def space_app(slug: str) -> Any:
    """Imports `spaces/<slug>/app.py`.

    Raises:
        ValueError: for a method that has none.
    """
    if slug not in METHODS or not (Path(__file__).parent / slug / "app.py").is_file():
        known = [name for name in METHODS if (Path(__file__).parent / name / "app.py").is_file()]
        raise unknown_name("Space", slug, known)
    return import_module(f"pocket_diffusers.spaces.{slug}.app")


def step_progress(progress: gr.Progress, label: str) -> Callable[[float], None]:
    """Turns parts of the work, each in (0, 1], into gradio's bar."""
    done = 0.0

    def advance(part: float) -> None:
        nonlocal done
        done = min(1.0, done + part)
        progress(done, desc=label)

    progress(0.0, desc=label)
    return advance


@cache
def _private_folder() -> Path:
    """Of this process and this user alone, under a name that nobody can foresee; it goes when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="pocket-diffusers-space-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _keep_uploads_private() -> None:
    """Gradio would keep what visitors send and see in one folder for all users of a machine, and fail for the second.

    A folder that GRADIO_TEMP_DIR names already stays.
    """
    if "GRADIO_TEMP_DIR" not in os.environ:
        os.environ["GRADIO_TEMP_DIR"] = str(_private_folder() / "gradio")
    gr.routes.DEFAULT_TEMP_DIR = os.environ["GRADIO_TEMP_DIR"]  # gradio read it when it was imported


def fresh_folder() -> Path:
    """An empty folder for the files of one result. The newest `KEPT_RESULTS` stay; older ones are removed."""
    root = _private_folder() / "results"
    root.mkdir(exist_ok=True)
    for old in sorted(root.iterdir(), key=lambda folder: folder.stat().st_mtime)[: -KEPT_RESULTS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(dir=root))


def _file_words(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:64] or "picture"


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OSError(f"port {port} cannot be used ({reason}): choose another with --port.") from error
