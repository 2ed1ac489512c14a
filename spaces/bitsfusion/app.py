"""The Space of BitsFusion: a prompt in, a picture by a UNet in full precision and one by it in few bits out."""

import shlex
from pathlib import Path, PurePath
from time import perf_counter

import gradio as gr
from diffusers import DiffusionPipeline, ModelMixin

from pocket_diffusers.pipelines.generation import ImageRequest, generate
from pocket_diffusers.pipelines.library_chatter import silence_libraries
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.quantization_bitsfusion import BITS_THAT_HOLD, PUBLISHED_BITS
from pocket_diffusers.pipelines.sampling.cached_steps import cached_steps
from pocket_diffusers.pipelines.weights import weight_files
from pocket_diffusers.spaces import look

TAGLINE = "The same diffusion UNet in full precision and in under two bits a weight, side by side."
FULL_WEIGHTS = "bitsfusion-nano-full"
FULL, PACKED, OWN = "full precision", "few bits", "own weights"
EXAMPLES = (
    "a red cube",
    "a photo of a blue sphere",
    "a green cone",
    "a yellow torus",
    "a black cube and a white sphere",
    "a pink sphere left of a brown cone",
)
BITS = (f"{PUBLISHED_BITS}", *map(str, range(1, 9)))
CACHED = 50
"""Steps of which the published recipe caches the time embeddings."""
REFUSAL = (
    "Thank you, but this page takes no weights: they would be too large to send here, and a free CPU is too slow for "
    "them. The command below packs them on your own machine, layer by layer; the weights stay there, and the whole "
    "model is never in memory."
)
WARNING = (
    f"Below {BITS_THAT_HOLD} bits pictures do not hold without training, which `pocket quantize` alone does not do."
)
PUBLISHED = "1.99 bits are the published recipe, which fits the UNet of Stable Diffusion 1.5 and no other."


def build(model: str | None = None) -> gr.Blocks:
    """The page, with both pipelines loaded.

    Args:
        model: weights as `load_pipeline` takes them, which draw alone; None takes the package's own `bitsfusion-nano`
            and what it was made of.

    Raises:
        ValueError: for an unknown name of weights.
        OSError: when the weights cannot be read.
    """
    silence_libraries()
    if model is not None:
        pipelines = {OWN: load_pipeline("bitsfusion", model)}
    else:
        pipelines = {FULL: load_pipeline("bitsfusion", FULL_WEIGHTS), PACKED: load_pipeline("bitsfusion")}
    with look.page("BitsFusion", TAGLINE, model=model) as demo, gr.Tabs():
        with gr.Tab("Compare"), look.desk():
            compare_desk(pipelines)
        with gr.Tab("Your own weights"), look.desk():
            own_weights_desk()
    return demo


def compare_desk(pipelines: dict[str, DiffusionPipeline]) -> None:
    """A prompt in, a picture by each pipeline out, from the same noise; the last one says what steps there may be."""
    *_, last = pipelines.values()
    allowed = cached_steps(last.unet, last.scheduler)
    sizes = {name: stored_bytes(pipeline.unet) for name, pipeline in pipelines.items()}

    @look.friendly_errors()
    def draw(
        prompt: str,
        negative_prompt: str = "",
        steps: int = last.defaults.num_inference_steps,
        guidance: float = last.defaults.guidance_scale,
        seed: int = 0,
        new_seed: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> look.Drawn:
        """Both pictures with captions, the time they took and a table of bytes and seconds, files, the seed."""
        watch, seed = look.Stopwatch(), look.chosen_seed(seed, new_seed)
        text, negative = look.check_prompt(prompt), look.check_prompt(negative_prompt, "Negative prompt")
        request = ImageRequest((text,), negative or None, int(steps), guidance, seed=seed)
        advance = look.step_progress(progress, "Drawing")
        images, seconds = {}, {}
        for name, pipeline in pipelines.items():
            start = perf_counter()
            made = generate(pipeline, request, lambda part: advance(part / len(pipelines)))
            images[name], seconds[name] = made.output.images[0], perf_counter() - start
        known = {"prompt": text, "negative_prompt": negative, "steps": steps, "guidance": guidance, "seed": seed}
        files = look.keep_pictures(
            [(image, f"{seed} {name} {text}") for name, image in images.items()],
            [{**known, "unet": name} for name in images],
        )
        line = watch.line(len(files), "picture", f"{steps} steps · guidance {guidance:g} · seed {seed}")
        return list(zip(files, images, strict=True)), f"{line}\n\n{costs_table(sizes, seconds)}", files, seed

    with look.section("ask"):
        prompt, button = look.prompt_row("Prompt", "a red cube left of a blue sphere", "Draw")
        examples = look.example_prompts(EXAMPLES, prompt)
    with look.section("show"):
        gallery, told, files = look.picture_shelf()
    with look.section("settings"), gr.Accordion("Settings", open=False):
        negative = gr.Textbox(
            "", label="Negative prompt", info="What should not be seen.", max_length=look.LONGEST_PROMPT
        )
        steps, guidance = look.sampling_settings(last.defaults, "the prompt", allowed)
        seed, fresh = look.seed_row()
    work = {
        "fn": draw,
        "inputs": [prompt, negative, steps, guidance, seed, fresh],
        "outputs": [gallery, told, files, seed],
        "concurrency_id": "model",
        "show_progress_on": gallery,
        "scroll_to_output": True,
    }
    gr.on([button.click, prompt.submit], **work, api_name="generate")
    examples.load_input_event.then(**work, api_visibility="private")


def own_weights_desk() -> None:
    """A folder's name in, a refusal and the command that packs it out."""

    @look.friendly_errors()
    def refuse(folder: str, bits: str = "4") -> tuple[str, str]:
        """Why this page does not take the folder, and the command that packs it."""
        return refusal(look.check_prompt(folder, "Folder"), bits)

    with look.section("ask"):
        folder = gr.Textbox(
            label="Folder", placeholder="stable-diffusion-v1-5", max_length=look.LONGEST_PROMPT,
            info="Of a diffusers model or pipeline, as it is called on your machine.",
        )  # fmt: skip
        bits = gr.Dropdown(list(BITS), value="4", label="Bits a weight")
        button = gr.Button("Pack it", variant="primary", size="lg")
    with look.section("show"):
        answer = gr.Markdown(elem_classes="pocket-timing")
        command = gr.Code(label="Command", language="shell", interactive=False, wrap_lines=True)
    gr.on([button.click, folder.submit], refuse, [folder, bits], [answer, command], api_name="quantize")


def stored_bytes(unet: ModelMixin) -> int:
    """Of the weight files that a UNet was loaded from."""
    return sum(path.stat().st_size for path in weight_files(Path(unet.config["_name_or_path"])))


def costs_table(sizes: dict[str, int], seconds: dict[str, float]) -> str:
    """A Markdown table of each UNet's bytes on the disk, and of the seconds that its picture took."""
    lines = ["| UNet | bytes | seconds |", "|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {name} | {size:,} | {seconds[name]:.2f} |" for name, size in sizes.items())])


def refusal(folder: str, bits: str) -> tuple[str, str]:
    """Why no folder is taken, and the command that packs this one.

    Raises:
        ValueError: for an empty name.
    """
    if not folder:
        raise ValueError("Folder is empty: say what the folder of your model is called.")
    cache = f" --cache-steps {CACHED}" if bits == BITS[0] else ""
    target = f"{PurePath(folder).name or 'model'}-{bits}bit"
    command = f"pocket quantize {shlex.quote(folder)} --bits {bits}{cache} -o {shlex.quote(target)}"
    said = [REFUSAL]
    if float(bits) < BITS_THAT_HOLD:
        said.append(WARNING)
    if cache:
        said.append(PUBLISHED)
    return "\n\n".join(said), command


if __name__ == "__main__":
    look.serve(build())
