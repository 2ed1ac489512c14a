"""The Space of ControlMM: a prompt, a drawn path and keyframes in, a motion that follows them out."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
from diffusers import DiffusionPipeline

from pocket_diffusers.pipelines.files import write_json
from pocket_diffusers.pipelines.generation import ImageRequest, generate
from pocket_diffusers.pipelines.library_chatter import silence_libraries
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.motion.drawn_path import DrawnPath
from pocket_diffusers.pipelines.motion.motion_controls import joint_number
from pocket_diffusers.pipelines.motion.motion_optimization import OPTIMIZATIONS
from pocket_diffusers.pipelines.motion.skeleton import CONTROL_JOINTS, FRAMES_PER_SECOND, JOINTS, PARENTS
from pocket_diffusers.pipelines.outputs import SHEET, MotionOutput
from pocket_diffusers.pipelines.pipeline_controlmm import LONGEST
from pocket_diffusers.spaces import look

TAGLINE = "Say what a person does, draw where; keep any joint at any place at any frame."
NOTE = (
    "Re-implementation, weights trained on a small computer-made world of motions: walking, running, turning, jumping, "
    "crouching, waving, punching, kicking, raising arms and going in circles. The model runs in this app itself: no "
    "other service sees what you type or draw."
)
EXAMPLES = (
    "a person walks forward",
    "a person runs forward quickly",
    "a person walks forward, then waves with the left hand",
    "someone jumps three times",
    "a person crouches and then kicks with the right leg",
    "a person walks in a circle counterclockwise",
)
PATHS = {
    "Straight": [[0.0, 4.0]],
    "Corner": [[0.0, 2.5], [2.5, 2.5]],
    "Slalom": [[0.0, 0.5], [0.6, 1.25], [0.0, 2.0], [-0.6, 2.75], [0.0, 3.5], [0.6, 4.25], [0.0, 5.0]],
    "No path": [],
}
"""Points x and z in metres that a click draws."""
COLUMNS = ("joint", "frame", "x", "y", "z")
MOST_KEYFRAMES = 500
SHORT = 60
"""Frames of a clip at least whose keyframes say how long it is."""
BOARD = """
const board = new module.FloorBoard(element.firstElementChild, (points) => { props.value = points; });
board.show(props.value);
watch("value", () => board.show(props.value));
"""
SKELETON = {"names": JOINTS, "parents": PARENTS, "framesPerSecond": FRAMES_PER_SECOND}
STAGE = f"""
const stage = new module.MotionStage(element.firstElementChild, {json.dumps(SKELETON)});
const show = (motion) => stage.show(motion && Float32Array.from(motion.joints.flat()), motion?.targets);
show(props.value);
watch("value", () => show(props.value));
"""

Moved = tuple[dict[str, list[Any]], str, list[str], int]
"""What the page plays, a line on it, the same motion as files, and the seed."""


def build(model: str | None = None) -> gr.Blocks:
    """The page, with the pipeline loaded.

    Args:
        model: weights as `load_pipeline` takes them; None takes the package's own `controlmm-nano`.

    Raises:
        ValueError: for an unknown name of weights.
        OSError: when the weights cannot be read.
    """
    silence_libraries()
    pipeline = load_pipeline("controlmm", model)
    with look.page("ControlMM", TAGLINE, NOTE, model) as demo, look.desk():
        motion_desk(pipeline)
    return demo


def motion_desk(pipeline: DiffusionPipeline) -> None:
    """A prompt, a path and keyframes in, a figure that moves out."""

    @look.friendly_errors()
    def move(
        prompt: str,
        path: list | None = None,
        path_joint: str = "pelvis",
        keyframes: list | None = None,
        length: int = 0,
        optimization: str = "fast",
        steps: int = pipeline.defaults.num_inference_steps,
        guidance: float = pipeline.defaults.guidance_scale,
        seed: int = 0,
        new_seed: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> Moved:
        """The motion to play, a line on the time it took and how near it came, files, the seed."""
        watch, seed, text = look.Stopwatch(), look.chosen_seed(seed, new_seed), look.check_prompt(prompt)
        advance = look.step_progress(progress, "Moving")
        drawn = DrawnPath.of(path, path_joint) if path else None
        held = read_keyframes(keyframes or [])
        frames = int(length) or clip_frames(drawn, held)

        def made(part: float, **arguments: Any) -> MotionOutput:
            request = ImageRequest((text,), None, int(steps), guidance, seed=seed, arguments=arguments)
            return generate(pipeline, request, lambda step: advance(part * step)).output

        arguments = {} if frames is None else {"length": frames}
        if drawn is not None:
            free = made(0.5, **arguments)
            heights = free.joints[0][:, drawn.joint, 1]
            held = drawn.controls(frames, heights).to_json()["controls"] + held
        if held:
            arguments |= {"controls": held, "optimization": optimization}
        output = made(1.0 if drawn is None else 0.5, **arguments)
        frames = len(output.joints[0])
        line = watch.line(
            1, "motion", f"{frames} frames, {frames / FRAMES_PER_SECOND:g} s · guidance {guidance:g} · seed {seed}"
        )
        sampling = {"num_inference_steps": int(steps), "guidance_scale": guidance}
        files = keep_motion(output, text, {"prompt": text, **sampling, **arguments})
        return playable(output), f"{line}\n\n{nearness(output)}".strip(), files, seed

    with look.section("ask"):
        prompt, button = look.prompt_row("Prompt", "a person walks forward", "Move")
        board = floor_board()
        with gr.Row():
            shapes = [gr.Button(name, size="sm", min_width=60) for name in PATHS]
        gr.Markdown(
            "Draw a path with the mouse or a finger. A person starts at the arrow and looks the way it points; a "
            "square is half a metre.",
            elem_classes="pocket-hint",
        )
        examples = look.example_prompts(EXAMPLES, prompt)
    with look.section("show"):
        figure = look.scripted("motion_stage.js", STAGE, label="Motion", elem_classes="pocket-figure")
        told = gr.Markdown(elem_classes="pocket-timing")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_classes="pocket-files")
    with look.section("settings"):
        with gr.Accordion("Keyframes", open=False):
            gr.Markdown(
                f"Where joints must be at single frames, {FRAMES_PER_SECOND} a second, in metres: x to the left of the "
                f"start, y up, z ahead. Joints are {', '.join(JOINTS)}.",
                elem_classes="pocket-hint",
            )
            keyframes = gr.Dataframe(
                [], headers=list(COLUMNS), datatype=["str", "number", "number", "number", "number"], type="array",
                column_count=len(COLUMNS), label="Keyframes", interactive=True, buttons=[],
            )  # fmt: skip
        with gr.Accordion("Settings", open=False):
            length = look.setting(
                "Frames", 0, LONGEST, 0, info=f"{FRAMES_PER_SECOND} a second; 0 is as many as prompt and path need."
            )
            path_joint = gr.Dropdown(
                [JOINTS[joint] for joint in CONTROL_JOINTS], value="pelvis", label="Joint that follows the path"
            )
            optimization = gr.Dropdown(
                list(OPTIMIZATIONS), value="fast", label="Optimisation",
                info="How long is searched for a motion that is near what is controlled; accurate may take minutes.",
            )  # fmt: skip
            steps, guidance = look.sampling_settings(pipeline.defaults, "the prompt")
            seed, fresh = look.seed_row()
    work = {
        "fn": move,
        "inputs": [prompt, board, path_joint, keyframes, length, optimization, steps, guidance, seed, fresh],
        "outputs": [figure, told, files, seed],
        "concurrency_id": "model",
        "show_progress_on": told,
        "scroll_to_output": True,
    }
    for shape in shapes:
        shape.click(PATHS.__getitem__, shape, board, api_visibility="private", show_progress="hidden")
    gr.on([button.click, prompt.submit], **work, api_name="generate")
    examples.load_input_event.then(**work, api_visibility="private")


def floor_board() -> gr.HTML:
    """A floor to draw a path on; listeners get its points [x, z] in metres."""
    board = look.scripted("floor_board.js", BOARD, value=[], label="Path", elem_classes="pocket-floor")
    numbers = {"type": "array", "items": {"type": "number"}}
    board.api_info = lambda: {"type": "array", "items": numbers, "description": "Points [x, z] in metres."}
    board.example_payload = lambda: PATHS["Corner"]
    return board


def read_keyframes(rows: list[list[Any]]) -> list[dict[str, Any]]:
    """Controls, as JSON has them, of the rows of a table that are not empty.

    Raises:
        ValueError: for a row that lacks something or has a word where a number belongs, an unknown joint (with the
            nearest name), or more than `MOST_KEYFRAMES` rows.
    """
    filled = [row for row in rows if any(_said(cell) for cell in row)]
    if len(filled) > MOST_KEYFRAMES:
        raise ValueError(f"There are {len(filled)} keyframes: at most {MOST_KEYFRAMES} are allowed.")
    return [_keyframe(f"keyframe {number}", row) for number, row in enumerate(filled, 1)]


def _keyframe(name: str, row: list[Any]) -> dict[str, Any]:
    missing = [column for column, cell in zip(COLUMNS, row, strict=True) if not _said(cell)]
    if missing:
        raise ValueError(f"{name} has no {', '.join(missing)}.")
    joint = JOINTS[joint_number(str(row[0]).strip(), f"joint of {name}")]
    try:
        frame, *place = map(float, row[1:])
    except (TypeError, ValueError):
        raise ValueError(f"frame, x, y and z of {name} must be numbers, not {row[1:]}.") from None
    if frame != frame // 1:
        raise ValueError(f"frame of {name} must be a whole number, not {frame:g}.")
    return {"frame": int(frame), "joints": {joint: place}}


def _said(cell: Any) -> bool:
    return cell is not None and str(cell).strip() not in ("", "nan")


def clip_frames(drawn: DrawnPath | None, keyframes: list[dict[str, Any]]) -> int | None:
    """Frames of a clip that path and keyframes need; None where neither says so."""
    if drawn is None and not keyframes:
        return None
    last = max((keyframe["frame"] for keyframe in keyframes), default=0)
    return max(SHORT if drawn is None else min(LONGEST, max(SHORT, drawn.walking_frames)), last + 1)


def playable(output: MotionOutput) -> dict[str, list[Any]]:
    """What `motion_stage.js` plays, in metres to the millimetre: joints, a row a frame, and targets with frames."""
    targets = []
    if output.controls is not None:
        asked = output.controls[0]
        places = zip(asked.mask.nonzero().tolist(), asked.targets[asked.mask].tolist(), strict=True)
        targets = [{"frame": frame, "position": _millimetres(place)} for (frame, _), place in places]
    return {"joints": [_millimetres(row) for row in output.joints[0].flatten(1).tolist()], "targets": targets}


def _millimetres(metres: list[float]) -> list[float]:
    return [round(value, 3) for value in metres]


def nearness(output: MotionOutput) -> str:
    """How far controlled joints are from their targets, in a sentence; none where nothing was controlled."""
    if output.controls is None:
        return ""
    asked = output.controls[0]
    errors = 100 * (output.joints[0] - asked.targets).norm(dim=-1)[asked.mask]
    return f"From {len(errors)} targets: **{errors.mean():.1f} cm** on average, {errors.max():.1f} cm at most."


def keep_motion(output: MotionOutput, text: str, arguments: dict[str, Any]) -> list[str]:
    """Writes the motion in each format, and what made it as `pocket generate controlmm --input` reads it."""
    folder = look.fresh_folder()
    output.save(folder, [text])
    (folder / SHEET).unlink()
    write_json(folder / "controls.json", arguments, indent=None)
    return [str(path) for path in sorted(folder.iterdir(), key=_by_use)]


def _by_use(path: Path) -> tuple[int, str]:
    suffixes = (".glb", ".bvh", ".mp4", ".gif", ".npy", ".json")
    return suffixes.index(path.suffix), path.name


if __name__ == "__main__":
    look.serve(build())
