"""The Space of ControlMM: a prompt, a drawn path and keyframes in, a motion that follows them out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from pocket_diffusers.pipelines.files import write_json
from pocket_diffusers.pipelines.generation import ImageRequest, generate
from pocket_diffusers.pipelines.inputs import require
from pocket_diffusers.pipelines.library_chatter import silence_libraries
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.motion.drawn_path import DrawnPath
from pocket_diffusers.pipelines.motion.motion_controls import FARTHEST, joint_number
from pocket_diffusers.pipelines.motion.motion_objectives import Objective
from pocket_diffusers.pipelines.motion.motion_optimization import OPTIMIZATIONS, OptimizationSteps
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
BEFORE = "Say what the person does, draw where if you like, and press Animate: here it moves, and here its files are."
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
GESTURES = {
    "Left hand up": [["left_wrist", 50, 0.3, 1.75, 2.2]],
    "Both hands up": [["left_wrist", 50, 0.3, 1.75, 2.2], ["right_wrist", 50, -0.3, 1.75, 2.2]],
    "No keyframes": [],
}
"""Keyframes that a click writes; a person who walks straight ahead is there at this frame."""
COLUMNS = ("joint", "frame", "x", "y", "z")
ROWS = 3
"""Of the table of keyframes at least: empty ones to write in."""
MOST_KEYFRAMES = 500
SHORTEST_PATH = 0.2
"""Metres; less is a slip of the finger."""
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
const show = (motion) => (motion ? stage.show(Float32Array.from(motion.joints.flat()), motion.targets) : stage.hide());
show(props.value);
watch("value", () => show(props.value));
"""

Progress = Callable[[float], Any]
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

    def move(
        prompt: str,
        path: list | None = None,
        path_joint: str = "pelvis",
        keyframes: list | None = None,
        length: int = 0,
        optimization: str = "accurate",
        steps: int = pipeline.defaults.num_inference_steps,
        guidance: float = pipeline.defaults.guidance_scale,
        seed: int = 0,
        new_seed: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds its bar by this default)
    ) -> Iterator[Moved]:
        """The motion to play, a line on time and nearness, files, the seed: without the files at first, as they take
        longer than a quick motion itself."""
        with look.friendly_errors():
            watch, seed, text = look.Stopwatch(), look.chosen_seed(seed, new_seed), look.check_prompt(prompt)
            drawn, length = read_path(path, path_joint), int(length)
            held = read_keyframes(keyframes or [], length or LONGEST, None if drawn is None else drawn.joint)
            frames = length or clip_frames(drawn, held)

            def made(bar: Progress, **arguments: Any) -> MotionOutput:
                request = ImageRequest((text,), None, int(steps), guidance, seed=seed, arguments=arguments)
                return generate(pipeline, request, bar).output

            arguments = {} if frames is None else {"length": frames}
            bar = look.step_progress(progress, "Making a motion")
            if drawn is not None:
                heights = made(bar, **arguments).joints[0][:, drawn.joint, 1]
                held = drawn.controls(frames, heights).to_json()["controls"] + held
            if held:
                arguments |= {"controls": held, "optimization": optimization}
                bar = look.step_progress(progress, "Bringing it to where it must be")
                output = made(unseen, objective=counted(bar, OPTIMIZATIONS[optimization], int(steps)), **arguments)
            else:
                output = made(bar, **arguments)
            frames = len(output.joints[0])
            details = f"{frames} frames, {frames / FRAMES_PER_SECOND:g} s · guidance {guidance:g} · seed {seed}"
            line = f"{watch.line(1, 'motion', details)}\n\n{nearness(output, drawn)}".strip()
            motion, sampling = playable(output), {"num_inference_steps": int(steps), "guidance_scale": guidance}
            yield motion, line, [], seed
            yield motion, line, keep_motion(output, text, {"prompt": text, **sampling, **arguments}), seed

    with look.section("ask"):
        prompt, button = look.prompt_row("Prompt", "a person walks forward", "Animate")
        board = floor_board()
        with gr.Row():
            shapes = [gr.Button(name, size="sm", min_width=60) for name in PATHS]
        gr.Markdown(
            "Draw a path with the mouse or a finger. The person starts at the arrow and looks the way it points; a "
            "square is half a metre.",
            elem_classes="pocket-hint",
        )
        path_joint = gr.Dropdown(
            [JOINTS[joint] for joint in CONTROL_JOINTS], value="pelvis", label="Joint that follows the path"
        )
        examples = look.example_prompts(EXAMPLES, prompt)
    with look.section("show"):
        figure = look.scripted("motion_stage.js", STAGE, label="Motion", elem_classes="pocket-figure")
        told = gr.Markdown(BEFORE, elem_classes="pocket-timing")
        files = gr.File(label="Files", file_count="multiple", interactive=False, elem_classes="pocket-files")
    with look.section("settings"):
        with gr.Accordion("Keyframes", open=False):
            gr.Markdown(
                f"Where joints must be at single frames, {FRAMES_PER_SECOND} a second, in metres: x to the left of the "
                f"start, y up, z ahead. Joints are {', '.join(JOINTS)}.",
                elem_classes="pocket-hint",
            )
            keyframes = gr.Dataframe(
                keyframe_table([]), headers=list(COLUMNS), datatype=["str", "number", "number", "number", "number"],
                type="array", column_count=len(COLUMNS), column_widths=["36%", "19%", "15%", "15%", "15%"],
                label="Keyframes", show_label=False, interactive=True, buttons=[], elem_classes="pocket-table",
            )  # fmt: skip
            with gr.Row():
                gestures = [gr.Button(name, size="sm", min_width=60) for name in GESTURES]
        with gr.Accordion("Settings", open=False):
            length = look.setting(
                "Frames", 0, LONGEST, 0, info=f"{FRAMES_PER_SECOND} a second; 0 is as many as prompt and path need."
            )
            optimization = gr.Dropdown(
                list(OPTIMIZATIONS), value="accurate", label="Optimisation",
                info="How long is searched for a motion that does what is controlled; accurate takes longest.",
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
    for gesture in gestures:
        gesture.click(
            lambda name: keyframe_table(GESTURES[name]),
            gesture,
            keyframes,
            api_visibility="private",
            show_progress="hidden",
        )
    gr.on([button.click, prompt.submit], **work, api_name="generate")
    examples.load_input_event.then(**work, api_visibility="private")


def floor_board() -> gr.HTML:
    """A floor to draw a path on; listeners get its points [x, z] in metres."""
    board = look.scripted("floor_board.js", BOARD, value=[], label="Path", elem_classes="pocket-floor")
    numbers = {"type": "array", "items": {"type": "number"}}
    board.api_info = lambda: {"type": "array", "items": numbers, "description": "Points [x, z] in metres."}
    board.example_payload = lambda: PATHS["Corner"]
    return board


def keyframe_table(rows: list[list[Any]]) -> list[list[Any]]:
    """The rows, and empty ones below where there are few."""
    return rows + [[None] * len(COLUMNS)] * max(0, ROWS - len(rows))


def read_path(points: list | None, joint: str) -> DrawnPath | None:
    """A path of points [x, z] that is long enough to be one; None where nothing is drawn.

    Raises:
        ValueError: it is shorter than `SHORTEST_PATH`, or `DrawnPath.of` refuses it.
    """
    if not points:
        return None
    drawn = DrawnPath.of(points, joint)
    require(drawn.metres >= SHORTEST_PATH, "path", round(drawn.metres, 2), f"at least {SHORTEST_PATH} m long")
    return drawn


def read_keyframes(rows: list[list[Any]], frames: int, led: int | None = None) -> list[dict[str, Any]]:
    """Controls, as JSON has them, of the rows of a table that are not empty.

    Args:
        rows: joint, frame, x, y and z.
        frames: that the clip has, or may have at most.
        led: joint that a path leads, so that no keyframe can.

    Raises:
        ValueError: for a row that lacks something or has a word where a number belongs, an unknown joint (with the
            nearest name) or the one that a path leads, a frame outside the clip, a place too far away, two rows of one
            joint and frame, or more than `MOST_KEYFRAMES` rows.
    """
    filled = [row for row in rows if any(_said(cell) for cell in row)]
    if len(filled) > MOST_KEYFRAMES:
        raise ValueError(f"There are {len(filled)} keyframes: at most {MOST_KEYFRAMES} are allowed.")
    held = {}
    for number, row in enumerate(filled, 1):
        joint, frame, place = _keyframe(f"keyframe {number}", row, frames)
        require(joint != led, f"joint of keyframe {number}", JOINTS[joint], "one that follows no path")
        free = (joint, frame) not in held
        require(free, f"keyframe {number}", f"{JOINTS[joint]} at {frame}", "of a joint and frame that no other is of")
        held[joint, frame] = place
    return [{"frame": frame, "joints": {JOINTS[joint]: place}} for (joint, frame), place in held.items()]


def _keyframe(name: str, row: list[Any], frames: int) -> tuple[int, int, list[float]]:
    missing = [column for column, cell in zip(COLUMNS, row, strict=True) if not _said(cell)]
    if missing:
        raise ValueError(f"{name} has no {', '.join(missing)}.")
    joint = joint_number(str(row[0]).strip(), f"joint of {name}")
    try:
        frame, *place = map(float, row[1:])
    except (TypeError, ValueError):
        raise ValueError(f"frame, x, y and z of {name} must be numbers, not {row[1:]}.") from None
    whole = int(frame) if frame.is_integer() else frame
    inside = isinstance(whole, int) and 0 <= whole < frames
    require(inside, f"frame of {name}", whole, f"one of the clip, a whole number from 0 to {frames - 1}")
    near = all(abs(value) <= FARTHEST for value in place)
    require(near, f"x, y and z of {name}", place, f"within {FARTHEST:g} m of the start")
    return joint, whole, place


def _said(cell: Any) -> bool:
    return cell is not None and str(cell).strip() not in ("", "nan")


def clip_frames(drawn: DrawnPath | None, keyframes: list[dict[str, Any]]) -> int | None:
    """Frames of a clip that path and keyframes need; None where neither says so."""
    if drawn is None and not keyframes:
        return None
    last = max((keyframe["frame"] for keyframe in keyframes), default=0)
    return max(SHORT if drawn is None else min(LONGEST, max(SHORT, drawn.walking_frames)), last + 1)


def counted(bar: Progress, optimization: OptimizationSteps, steps: int) -> Objective:
    """A loss of 0 that moves a bar on: each step of an optimisation asks for it once."""
    part = 1 / (steps * optimization.each + optimization.last)

    def nothing(joints: Tensor, valid: Tensor | None = None) -> Tensor:
        bar(part)
        return joints.new_zeros(len(joints))

    return nothing


def unseen(part: float) -> None:
    """The bar of steps that say little about the time that is left."""


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


def nearness(output: MotionOutput, drawn: DrawnPath | None) -> str:
    """How far controlled joints are from where they must be, in a sentence; none where nothing was controlled."""
    if output.controls is None:
        return ""
    asked = output.controls[0]
    errors = 100 * (output.joints[0] - asked.targets).norm(dim=-1)
    led = torch.zeros_like(asked.mask)
    if drawn is not None:
        led[:, drawn.joint] = True
    parts = {"the path": asked.mask & led, "keyframes": asked.mask & ~led}
    told = [
        f"**{errors[chosen].mean():.1f} cm** from {name} on average, {errors[chosen].max():.1f} cm at most"
        for name, chosen in parts.items()
        if chosen.any()
    ]
    return "; ".join(told) + "."


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
