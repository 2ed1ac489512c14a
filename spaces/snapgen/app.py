"""The Space of SnapGen: a prompt in, pictures out."""

import gradio as gr

from pocket_diffusers.pipelines.generation import ImageRequest
from pocket_diffusers.pipelines.library_chatter import silence_libraries
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.spaces import look

EXAMPLES = (
    "a red cube",
    "a photo of a blue sphere",
    "two yellow spheres",
    "a green cone",
    "a black torus and a white cube",
    "a pink sphere left of a brown cone",
)


def build(model: str | None = None) -> gr.Blocks:
    """The page, with the pipeline loaded.

    Args:
        model: weights as `load_pipeline` takes them; None takes the package's own `snapgen-nano`.

    Raises:
        ValueError: for an unknown name of weights.
        OSError: when the weights cannot be read.
    """
    silence_libraries()
    pipeline = load_pipeline("snapgen", model)

    @look.friendly_errors()
    def draw(
        prompt: str,
        negative_prompt: str = "",
        steps: int = pipeline.defaults.num_inference_steps,
        guidance: float = pipeline.defaults.guidance_scale,
        num_images: int = 2,
        seed: int = 0,
        new_seed: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> look.Drawn:
        """Pictures with their captions, a line on the time they took, the same pictures as files, the first seed."""
        seed = look.chosen_seed(seed, new_seed)
        text, negative = look.check_prompt(prompt), look.check_prompt(negative_prompt, "Negative prompt")
        request = ImageRequest((text,), negative or None, int(steps), guidance, int(num_images), seed=seed)
        return look.draw_pictures(pipeline, request, progress, {"prompt": text, "negative_prompt": negative})

    tagline = "Text to picture with a model small enough for a phone."
    with look.page("SnapGen", tagline, model=model) as demo, look.desk():
        with look.section("ask"):
            prompt, button = look.prompt_row("Prompt", "a red cube left of a blue sphere", "Draw")
            examples = look.example_prompts(EXAMPLES, prompt)
        with look.section("show"):
            gallery, timing, files = look.picture_shelf()
        with look.section("settings"), gr.Accordion("Settings", open=False):
            negative = gr.Textbox(
                "", label="Negative prompt", info="What should not be seen.", max_length=look.LONGEST_PROMPT
            )
            count = look.setting("Pictures", 1, 4, 2)
            steps, guidance = look.sampling_settings(pipeline.defaults, "the prompt")
            seed, fresh = look.seed_row()
        work = {
            "fn": draw,
            "inputs": [prompt, negative, steps, guidance, count, seed, fresh],
            "outputs": [gallery, timing, files, seed],
            "concurrency_id": "model",
            "show_progress_on": gallery,
            "scroll_to_output": True,
        }
        gr.on([button.click, prompt.submit], **work, api_name="generate")
        examples.load_input_event.then(**work, api_visibility="private")
    return demo


if __name__ == "__main__":
    look.serve(build())
