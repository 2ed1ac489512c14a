"""The `pocket` command: reads the command line, hands over to the package and words its errors."""

import os
import re
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import _CHECKPOINTS, __version__, missing_package, unknown_name
from .pipelines import METHODS
from .pipelines.library_chatter import silence_imports

app = typer.Typer(
    name="pocket",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_ClickError = typer.BadParameter.__mro__[2]  # click's own base class of errors; typer gives it no name

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="Short name of the method; `pocket list` shows them.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the result; made if need be.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in --output.")]
License = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Licence of weights of your own, by the Hub's name, such as mit; else unknown."),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="PATH_OR_ID", help="Weights: a folder, a name from `pocket list` or a Hub id; SLUG-nano if left out."
    ),
]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, or 2 with one sentence on stderr for what a user can mend.

    The environment variable POCKET_DEBUG=1 lets the traceback through.
    """
    silence_imports()
    try:
        return app(args=arguments, prog_name="pocket", standalone_mode=False) or 0
    except _ClickError as error:
        return _complain(error.format_message())
    except (ValueError, OSError, FloatingPointError) as error:
        _raise_if_debugging()
        return _complain(str(error))
    except ImportError as error:
        _raise_if_debugging()
        if error.name is None:
            return _complain(str(error))
        if not isinstance(error, ModuleNotFoundError) or error.name.startswith("pocket_diffusers"):
            raise
        return _complain(_what_is_missing(error.name))


@app.callback(invoke_without_command=True)
def pocket(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Small generative models that run in your pocket.

    Start with these two:

    1. `pocket list`
    2. `pocket generate snapgen --prompt "a red cube"`

    and read `pocket COMMAND --help` before the others.
    """
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_methods() -> None:
    """Show the methods, what each makes, and the trained weights that came with this package."""
    table = Table("method", "makes", "weights", "size", title=f"Pocket Diffusers {__version__}", title_justify="left")
    for slug, tasks in METHODS.items():
        folders = sorted(_CHECKPOINTS.glob(f"{slug}-nano*/"))
        names = "\n".join(folder.name for folder in folders) or "none: train them with `pocket train`"
        table.add_row(slug, "\n".join(tasks), names, "\n".join(_megabytes(folder) for folder in folders))
    Console().print(table)


@app.command()
def generate(
    slug: Slug,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="What to draw: a text, or a class for ascan; repeat it.")
    ] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(help="A text file with one prompt a line, instead of or besides --prompt.")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE.json",
            help="Arguments of the pipeline's call, such as a motion's length and controls. What other options say "
            "goes before, a --prompt too.",
        ),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What pictures should not show; not for ascan.")] = None,
    model: Model = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps: more is slower and finer.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How strictly to follow the prompt; 1 switches guidance off.")
    ] = None,
    num_images: Annotated[int, typer.Option(min=1, help="Pictures for each prompt.")] = 1,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels; the model's own size if left out.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Pixels; the model's own size if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pictures.")] = 0,
    output: Output = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="onnx|executorch",
            help="Run an exported bundle, named by --model; without it SLUG-nano is exported first, to outputs/.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make pictures from text, or by class, with a trained model; or motions of a person.

    Writes one PNG a picture, a captioned sheet.png of all of them, and run.json with everything that made them. A
    motion is written as .glb, .bvh, .npy and a preview.
    Without --output they go to outputs/generate-SLUG. Nothing is downloaded unless --model is a Hub id.

    Examples:

        pocket generate snapgen --prompt "a red cube"
        pocket generate snapgen -p "two blue spheres" -p "a green cone" --num-images 4 --seed 7 -o cones
        pocket generate ascan -p "red cube" -p "blue torus"
        pocket generate controlmm --input controls.json
    """
    _check_known("method", slug, METHODS)
    given, arguments = ([], {}) if input_file is None else _read_input(input_file)
    prompts = tuple(_read_prompts(prompt or (given if prompts_file is None else []), prompts_file))
    output = output or Path("outputs") / f"generate-{slug}"
    from .pipelines.result_folder import result_folder

    with result_folder(output, overwrite) as folder, _Progress(f"{slug}: loading", len(prompts)) as progress:
        generation = _quietly_imported(".pipelines.generation")
        request = generation.ImageRequest(
            prompts, negative_prompt, steps, guidance, num_images, height, width, seed, arguments
        )
        progress.say(f"{slug}: drawing")
        made = generation.generate_into(folder, slug, request, model, progress.advance, runtime)
    count = f"{len(made.seeds)} {made.output.noun}{'s' if len(made.seeds) > 1 else ''}"
    print(f"Made {count} in {progress.seconds:.1f} s, loading included: look at {output / 'sheet.png'}")


@app.command()
def train(
    slug: Slug,
    stage: Annotated[
        str | None, typer.Option(help="Which stage of the recipe to run; without it the stages are listed.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="How big: 'nano' for two CPU cores or minutes of a GPU, 'paper' for the paper's run.")
    ] = "nano",
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --output, if there is one.")] = True,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change one setting; repeat for more.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same weights; the preset's own if left out.")
    ] = None,
    output: Output = None,
) -> None:
    """Train a model with the recipe of its paper, one stage after the other.

    Checkpoints, metrics and sample pictures go to --output (outputs/train-SLUG-PRESET without it). Stop with Ctrl-C
    and run the same command again: it goes on exactly where it stopped. `--set skip_bad_rows=true` trains past pictures
    and captions of your own that cannot be read, and counts them; `--set save_every=100` is for machines that die.

    Examples:

        pocket train snapgen
        pocket train snapgen --stage base --preset nano --set steps=2000
        pocket train encoders --stage clip
    """
    _check_known("method", slug, (*METHODS, "encoders"))  # these are the CLIPs that serve all methods
    recipe = _recipe(slug)
    if stage is None:
        _print_stages(slug, recipe.STAGES)
        return
    _check_known("stage", stage, recipe.STAGES)
    _check_known("preset", preset, recipe.STAGES[stage].presets)
    overrides = _read_settings(settings or [])
    output = output or Path("outputs") / f"train-{slug}-{preset}"
    start = perf_counter()
    result = recipe.run(stage, preset, output, resume, seed, overrides)
    from accelerate import PartialState

    if not PartialState().is_main_process:  # of several under `accelerate launch`, one writes
        return
    from .pipelines.result_folder import write_record

    inputs = {"method": slug, "stage": stage, "preset": preset, "resume": resume, "settings": overrides}
    write_record(output / stage, f"pocket train {slug}", inputs, seed, perf_counter() - start)
    print(f"Trained stage {stage!r} of {slug}: the result is in {result}")


@app.command()
def fit(
    slug: Annotated[str, typer.Argument(metavar="SLUG", help="A method that fits one scene: lpgs or lightspeed.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Photographs with cameras: a COLMAP folder or a transforms.json; for lightspeed also LLFF's "
            "poses_bounds.npy, or a folder or zip of a camera grid. For lpgs also a file of Gaussian splats.",
        ),
    ],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the fit; 5000 of lpgs and 2000 of lightspeed if left out.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", min=16, help="Longest side of a view; 384 if left out.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="For lightspeed: nano, paper or paper-frontal; nano if left out.")
    ] = None,
    slab: Annotated[
        str | None,
        typer.Option(
            metavar="auto|grid|ndc|box", help="For lightspeed: the planes of rays; by how cameras stand if left out."
        ),
    ] = None,
    sub_scenes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For lightspeed: into how many parts to divide the cameras; 5 if left out and they stand all around.",
        ),
    ] = None,
    field_of_view: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES", help="Of a camera grid whose names do not tell the lens: across a picture's width; 40."
        ),
    ] = None,
    focus_distance: Annotated[
        float | None,
        typer.Option(
            metavar="UNITS",
            help="Of such a grid: where its pictures agree, in units of places or steps; four sides of the grid.",
        ),
    ] = None,
    teacher_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="For lightspeed, where pictures are few: of a teacher that learns from them first; no teacher if left "
            "out.",
        ),
    ] = None,
    pseudo_views: Annotated[
        int | None,
        typer.Option(min=0, help="Pictures that the teacher then makes, to learn from beside the real ones."),
    ] = None,
    budget_mb: Annotated[
        float | None,
        typer.Option(metavar="MB", help="For lpgs: what the scene's file may take, in megabytes; 1 if left out."),
    ] = None,
    children: Annotated[
        int | None,
        typer.Option(min=0, max=2, help="For lpgs: splats that are predicted around each stored one; 2 if left out."),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="For a file of splats: lpgs, or plain, which prunes and entropy-codes them in seconds; lpgs if left "
            "out."
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(help="For a file of splats: look from the cameras of this capture, not from circles around it."),
    ] = None,
    up: Annotated[
        str | None,
        typer.Option(
            help="Which axis points up, for circles around splats and for light fields from all around: x, y, z, -x, "
            "-y or -z; -y if left out."
        ),
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, help="Level of detail of a streamed SOG (lod-meta.json): 0 is the finest.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint of this fit, if there is one.")] = True,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same scene; 0 if left out.")] = None,
    output: Output = None,
) -> None:
    """Fit one scene: to photographs with their cameras, or to splats that exist.

    Writes the scene and run.json to --output (outputs/fit-SLUG without it). It shows time left, and keeps checkpoints
    and previews: stop with Ctrl-C and run the same command again, and it goes on where it stopped.

    lpgs writes scene.lpgs, which holds the scene in at most --budget-mb, scene.ply for any viewer, and the run to fit/
    in --output. --codec plain writes scene.splatz in place of scene.lpgs, as `pocket convert --budget-mb` does; of the
    other options --cameras, --up and --level count then.

    lightspeed writes a repository that LightSpeedPipeline.from_pretrained loads, and sheet.png, with photographs that
    it never saw above what it shows there. `pocket render` shows it from elsewhere. The run is in a folder beside
    --output, its name with -fit behind.

    Examples:

        pocket fit lpgs scene.ply -o scene --budget-mb 1
        pocket fit lpgs capture/ -o scene --budget-mb 2 --steps 30000 --size 800
        pocket fit lightspeed grid.zip -o field
        pocket fit lightspeed capture/ -o field --steps 10000 --teacher-steps 3000 --pseudo-views 500
    """
    from .pipelines.inputs import check_choice

    wishes = {
        "steps": steps, "size": size, "preset": preset, "slab": slab, "sub_scenes": sub_scenes,
        "field_of_view": field_of_view, "focus_distance": focus_distance, "teacher_steps": teacher_steps,
        "pseudo_views": pseudo_views, "budget_mb": budget_mb,
        "children": children, "codec": codec, "cameras": cameras, "up": up, "level": level, "seed": seed,
    }  # fmt: skip
    wishes = {name: value for name, value in wishes.items() if value is not None}
    output = output or Path("outputs") / f"fit-{slug}"
    fitting = _quietly_imported(".training.fit_scene")
    known = fitting.all_wishes(slug, source, wishes)
    if "codec" in known and check_choice("--codec", known["codec"], (slug, "plain")) == "plain":
        counting = {name: known[name] for name in ("up", "level")}
        _compress(source, output / "scene.splatz", known["budget_mb"], cameras, **counting, overwrite=True)
        _quietly_imported(".pipelines.splat_conversion").convert_splats(
            output / "scene.splatz", output / "scene.ply", overwrite=True
        )
        return
    print(fitting.fit_scene(slug, source, output, wishes, resume).told(output))


@app.command()
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A .ply (3DGS or compressed), .spz, .splatz, .splat, .sog or .lpgs file, or a folder: SOG pictures, a "
            "saved pipeline that holds a scene, or what `pocket export` made of one.",
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .ply, .compressed.ply, .spz, .splatz or .sog file, or a meta.json.")
    ],
    level: Annotated[
        int, typer.Option(min=0, help="Level of detail of a streamed SOG (lod-meta.json): 0 is the finest.")
    ] = 0,
    sh_degree: Annotated[
        int | None, typer.Option(min=0, max=3, help="Highest degree of view-dependent colour to keep; all if left out.")
    ] = None,
    spz_version: Annotated[
        int | None, typer.Option(min=3, max=4, help="For .spz: 3 for readers that know only gzip; 4 if left out.")
    ] = None,
    quality: Annotated[
        float | None, typer.Option(help="For .splatz: 4 rounds half as coarsely as 2, 1 twice; 2 if left out.")
    ] = None,
    budget_mb: Annotated[
        float | None,
        typer.Option(metavar="MB", help="For .splatz: the best file of at most so many megabytes."),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(
            help="With --budget-mb: where the scene is looked at from, a capture as `pocket fit` takes it; circles "
            "around it, far and near, if left out."
        ),
    ] = None,
    up: Annotated[
        str | None,
        typer.Option(
            help="With --budget-mb: which axis of the scene points up: x, y, z, -x, -y or -z; -y if left out."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Turn a file of Gaussian splats into one of another format.

    The endings of the names say the formats. Axes, colours and rotations stay what they are, to the precision of OUT.

    .splatz is a format of this package that takes a fraction of .spz; other programs read it after `pocket convert
    scene.splatz scene.spz`. With --budget-mb, precision and the Gaussians that stay are chosen together, by what each
    paints in pictures; other pictures then tell what it cost.

    Examples:

        pocket convert scene.ply scene.spz
        pocket convert scene.spz scene.ply
        pocket convert scene.ply scene.splatz --budget-mb 0.5
        pocket convert scene.lpgs scene.ply
        pocket convert streamed/lod-meta.json small.sog --level 3 --sh-degree 0
    """
    _check_option_is_for(target, ".spz", "--spz-version", spz_version)
    _check_option_is_for(target, ".splatz", "--quality", quality)
    _check_option_is_for(target, ".splatz", "--budget-mb", budget_mb)
    if budget_mb is not None:
        if quality is not None:
            raise ValueError("--budget-mb chooses the quality: leave out --quality.")
        options = {"up": up or "-y", "level": level, "sh_degree": sh_degree, "overwrite": overwrite}
        _compress(source, target, budget_mb, cameras, **options)
        return
    for option, value in (("--cameras", cameras), ("--up", up)):
        if value is not None:
            raise ValueError(f"{option} is of use only with --budget-mb.")
    from .pipelines.splat_conversion import convert_splats

    given = {"version": spz_version, "quality": quality}
    options = {name: value for name, value in given.items() if value is not None}
    done = convert_splats(source, target, level, sh_degree, overwrite, **options)
    print(
        f"Converted {done.gaussians:,} Gaussians of SH degree {done.sh_degree}: "
        f"{done.bytes_before:,} bytes in {source}, {done.bytes_after:,} bytes in {target}"
    )


@app.command()
def quantize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_ID",
            help="A diffusers model or pipeline in safetensors: a folder, a name from `pocket list` or a Hub id.",
        ),
    ],
    bits: Annotated[
        float,
        typer.Option(help="A weight: 1 to 8, or 1.99 for the published recipe of Stable Diffusion 1.5's UNet."),
    ] = 4,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON object of bits by the name of a layer; other layers take --bits."),
    ] = None,
    cache_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Keep a table in place of a UNet's layers of time, for N steps of the pipeline's scheduler; 1000 is "
            "every timestep.",
        ),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="PROMPTS",
            help="Text file, one prompt a line: give each layer of a pipeline's UNet bits by what pictures of these "
            "lose; --bits is the average then, 1.6 to 8. It takes hours.",
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Captioned pictures, a folder or a Hub dataset: let the UNet of a Stable Diffusion learn to be of few "
            "bits. The paper's numbers of steps want a GPU.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="With --train: change one setting of the training; repeat for more."
        ),
    ] = None,
    component: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which model of a pipeline to pack; its unet or transformer if left out."),
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """Pack the weights of a diffusers model into a few bits each, as BitsFusion does (arXiv 2406.04333).

    Linear layers and 2D convolutions are packed one by one, so that a model need not fit into memory; what else a
    pipeline has is copied. Writes the folder to --output (outputs/quantize-NAME without it), which plain diffusers
    loads after `import pocket_diffusers.hub_models.quantizer_bitsfusion`. The error of the model's output is printed.
    Below 3 bits pictures will not hold without --train. Stop with Ctrl-C and run the same command again: it goes on
    where it stopped.

    --cache-steps N puts a table in place of a UNet's time embedding and its projections: for these N steps pictures
    stay as they are to half precision, other numbers of steps are refused. --bits 1.99 leaves those layers as they are,
    which is 3.0 bits on average; with --cache-steps 50, as in the paper, it is 1.99.

    --train runs the stages distill and finetune of `pocket train bitsfusion` with preset paper, and with --cache-steps
    50 unless another number is given. `--set steps=2000` changes both stages. Checkpoints and metrics go to a folder
    beside the result, its name with -training behind.

    Examples:

        pocket quantize stable-diffusion-v1-5/ -o sd-4bit
        pocket quantize stable-diffusion-v1-5/ --bits 1.99 --cache-steps 50 -o sd-2bit
        pocket quantize my-finetune/unet/ --bits 3 --recipe bits.json -o unet-3bit
        pocket quantize stable-diffusion-v1-5/ --bits 2.5 --calibrate prompts.txt -o sd-calibrated
        pocket quantize owner/video-model --component transformer_2
        pocket quantize stable-diffusion-v1-5/ --bits 1.99 --train pictures/ -o sd-trained
    """
    output = output or Path("outputs") / f"quantize-{Path(source).resolve().name}"
    if settings and train is None:
        raise ValueError("--set is of use only with --train.")
    if train is not None:
        training = _quietly_imported(".training.quantization_bitsfusion")
        done = training.quantize_by_training(
            source, output, train, bits, recipe, overwrite, cache_steps, component, calibrate,
            _read_settings(settings or []),
        )  # fmt: skip
        if done is not None:  # of several under `accelerate launch`, one writes
            print(f"Trained in {training.training_folder(output)}, which may be removed\n{done.told(output)}")
        return
    quantization = _quietly_imported(".pipelines.quantization_bitsfusion")
    with _Progress("quantising", 1) as progress:
        done = quantization.quantize_folder(
            source, output, bits, recipe, overwrite, progress.advance, cache_steps, component=component,
            calibrate=calibrate,
        )  # fmt: skip
    print(done.told(output))


@app.command()
def render(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .ply (3DGS or compressed), .spz, .splatz, .splat, .sog or .lpgs file, or a folder: SOG pictures, a "
            "saved pipeline that holds a scene or a light field, or what `pocket export` made of one.",
        ),
    ],
    turntable: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pictures on a circle around splats, or on a path through a light field; 36 if left out."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="PIXELS", help="Of splats: side of a picture, or WIDTHxHEIGHT; 512 if left out."),
    ] = None,
    elevation: Annotated[
        float | None, typer.Option(help="Of the circle, in degrees; the scene's own or 15 if left out.")
    ] = None,
    up: Annotated[
        str | None,
        typer.Option(
            help="Which axis of the scene points up: x, y, z, -x, -y or -z; the scene's own or -y if left out."
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(
            help="Render from the cameras of a capture instead: a COLMAP folder, a transforms.json, LLFF's "
            "poses_bounds.npy, or a folder or zip of a camera grid."
        ),
    ] = None,
    background: Annotated[
        str | None, typer.Option(help="Of splats: a colour by its name, or as #rrggbb; black if left out.")
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, help="Level of detail of a streamed SOG (lod-meta.json): 0 is the finest.")
    ] = None,
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw pictures of Gaussian splats or of a light field, on a CPU too.

    Writes one PNG a camera, all of them as turntable.webp, a sheet.png of some, and run.json. Without --output they go
    to outputs/render. A light field is shown in the size in which it was fitted.

    Examples:

        pocket render scene.ply
        pocket render scene.spz --turntable 72 --size 1280x720 --background white -o frames
        pocket render scene.ply --cameras capture/transforms.json
        pocket render field/ --turntable 72
    """
    circle = {"--turntable": turntable, "--size": size, "--elevation": elevation, "--up": up}
    for option, value in circle.items():
        if cameras is not None and value is not None:
            raise ValueError(f"{option} is for a circle of cameras: leave it out beside --cameras.")
    frames, sides = turntable or 36, None if size is None else _read_size(size)
    given = {"size": sides, "elevation": elevation, "up": up, "background": background, "level": level}
    given = {name: value for name, value in given.items() if value is not None}
    look = None if cameras is None else partial(_cameras_of, cameras)
    output = output or Path("outputs") / "render"
    from .pipelines.result_folder import result_folder, write_record

    with result_folder(output, overwrite) as folder, _Progress("rendering", frames) as progress:
        rendering = _quietly_imported(".pipelines.scene_rendering")
        made = rendering.render_scene(source, folder, look, frames, given, progress.advance)
        inputs = {"source": source.name, "turntable": frames, "cameras": cameras and cameras.name, **made.options}
        write_record(folder, "pocket render", inputs, 0, progress.seconds)
    print(f"Rendered {made.scene} in {progress.seconds:.1f} s: look at {output / 'sheet.png'}")


@app.command()
def card(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME_OR_FOLDER]",
            help="A method, weights such as snapgen-nano, or a folder with weights of your own; none with --check "
            "means all.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the card to this file, and the samples it shows to samples/ beside."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check what is there; exit status 1 if it is stale.")
    ] = False,
    readme: Annotated[
        Path | None, typer.Option(help="Renew what stands between markers in this file, or with --check check it.")
    ] = None,
    license: License = None,
) -> None:
    """Render a model card from measured facts, or check that one still tells the truth.

    Every number of a card comes from eval/results, from the weights or from the record of their training; a number
    that nobody measured is an error. Without --output the card is printed. With --readme the generated parts of a
    README are renewed from the same facts. --check alone looks at all cards, and in a checkout at its README.

    The card of a folder of your own, which a training or save_pretrained left, says how to load it, what its files
    hold and, where its training.json is there, how it was trained; nothing that was measured of our weights. --output
    replaces what is there, a README.md of yours too; --check looks in its README.md for what the Hub would refuse.

    Examples:

        pocket card snapgen
        pocket card snapgen --output cards/README.md
        pocket card ./my-snapgen --license mit
        pocket card --readme README.md
        pocket card --check
    """
    own = None
    if name is not None:
        from .model_cards.own_weights import own_weights

        own = own_weights(name)
    if license is not None and own is None:
        raise ValueError("--license is for the card of a folder of your own.")
    if check:
        _check_cards(name, readme, own)
        return
    if name is None and readme is None:
        raise ValueError("there is nothing to render: name a method, such as `pocket card snapgen`.")
    if readme is not None:
        from .model_cards.readme import write_readme

        write_readme(readme)
        print(f"Renewed what is generated in {readme}")
    if own is not None:
        from .model_cards.own_card import render_own_card, write_own_card

        if output is None:
            print(render_own_card(own, license=license), end="")
            return
        write_own_card(own, output, license)
        print(f"Wrote {output}")
        return
    from .model_cards.render import cards_of, render_card, write_card

    if name is not None and output is not None:
        from .pipelines.library_chatter import silence_libraries

        silence_libraries()
        write_card(cards_of(name)[0], output)
        print(f"Wrote {output}")
    elif name is not None:
        print(render_card(cards_of(name)[0]), end="")


@app.command()
def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SLUG_OR_FOLDER", help="A method; `pocket list` shows them. Or a folder with weights of your own."
        ),
    ],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Where to: OWNER/NAME on the Hub.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only put everything into --output; send nothing.")
    ] = False,
    output: Output = None,
    space: Annotated[bool, typer.Option(help="Also make the Space, with the wheel of this package beside it.")] = True,
    static: Annotated[
        bool, typer.Option(help="Also make the page that runs in the browser, as Space REPO-static; needs npm.")
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="Make new repositories private, and say in their cards how to install from one; needs --no-space.",
        ),
    ] = False,
    license: License = None,
    overwrite: Overwrite = False,
) -> None:
    """Publish a method, or weights of your own, on the Hugging Face Hub, with card, wheel and Space.

    With --dry-run nothing is sent and no token is needed: look at the folder (outputs/push-NAME without --output).
    Otherwise the token comes from `hf auth login` or HF_TOKEN, and the folder is kept only if --output names it.
    A method with several weights gets a repository for each: those of ascan-nano-judge go to REPO-judge.

    Of a folder of your own, which a training or save_pretrained left, only the parts of the pipeline are published:
    settings and safetensors of what model_index.json names, the code that loads them, the card, training.json and
    LICENSE; what stays behind is named. A README.md that you wrote is the card, with the pictures it shows, and only
    front matter that it lacks is added; `pocket card FOLDER -o FOLDER/README.md` replaces it. The Space loads REPO.

    Examples:

        pocket push snapgen me/snapgen --dry-run
        pocket push snapgen me/snapgen --no-space --private
        pocket push ./my-snapgen me/my-snapgen --license mit --dry-run
    """
    from .model_cards.own_weights import own_weights
    from .model_cards.publishing import publish
    from .pipelines.library_chatter import silence_libraries

    silence_libraries()
    if own_weights(source) is None:
        _check_known("method", source, METHODS)
    addresses = publish(source, repo, output, dry_run, space, static, private, overwrite, license, say=_say)
    for address in addresses:
        print(address)


@app.command()
def export(
    slug: Slug,
    to: Annotated[str, typer.Option(metavar="BACK_END", help="onnx, executorch or coreml.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    model: Model = None,
    output: Output = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a trained model into files that an app runs without PyTorch.

    Writes one file a network, each compared with the original and measured, a contract of their tensors, and a
    README.md for the app's developer. Without --output they go to outputs/export-SLUG-BACK_END-PRECISION. Run them
    with `pocket generate SLUG --runtime BACK_END --model FOLDER`; a scene of lpgs with `pocket render FOLDER`.

    Examples:

        pocket export snapgen --to onnx
        pocket export snapgen --to executorch --precision int8 --model runs/mine -o mine-int8
    """
    _check_known("method", slug, METHODS)
    from .pipelines.export.back_ends import back_end_module

    back_end_module(to, precision)
    with _Progress(f"{slug}: loading", 1) as progress:
        bundle = _quietly_imported(".pipelines.export.export_bundle").export_pipeline(
            slug, model, to, precision, output, overwrite, lambda step: progress.say(f"{slug}: {step}")
        )
    print(f"Exported in {progress.seconds:.0f} s ({_megabytes(bundle)}): {bundle / 'README.md'} says how to call it")


@app.command()
def demo(
    slug: Slug,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where to listen; the first free one from 7860 if left out.")
    ] = None,
    model: Model = None,
    share: Annotated[bool, typer.Option("--share", help="Also open a public link through gradio's servers.")] = False,
) -> None:
    """Open a page in the browser where you can try a method.

    It runs on this machine until Ctrl-C. Nothing is sent anywhere unless --share is given.

    Examples:

        pocket demo snapgen
        pocket demo snapgen --port 8000 --model ./my-snapgen
    """
    _check_known("method", slug, METHODS)
    from .spaces.look import open_space

    open_space(slug, model, port, share)


@app.command("eval")
def measure(
    slug: Slug,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Measure only this; repeat it for several.")
    ] = None,
    output: Output = None,
) -> None:
    """Measure what is claimed of a method, or of `world`, beside rivals in the same run.

    Writes SLUG.json with a row for each claim, pictures, and the record of every timed contender, to --output
    (outputs/eval-SLUG without it). Without --only everything is measured, which can take an hour and needs about
    16 GB of memory: leave the machine alone meanwhile. Stop with Ctrl-C and run the same command again: it goes on
    with the calls that are missing. Exit status 1 says that a target is missed, 2 that something could not be measured.

    Examples:

        pocket eval snapgen --only parameters --only operations
        pocket eval snapgen
    """
    from .eval.benchmark import find_benchmark
    from .eval.results import rows_table

    benchmark = find_benchmark(slug)
    output = output or Path("outputs") / f"eval-{slug}"
    rows = benchmark.run(only, output)
    Console().print(rows_table(rows))
    for failure in benchmark.failures(output):
        print(f"Error: {failure}", file=sys.stderr)
    print(f"The rows are in {output / f'{slug}.json'}")
    if any(row.measured is None for row in rows):
        raise typer.Exit(2)
    if any(row.passed is False for row in rows):
        raise typer.Exit(1)


def _check_option_is_for(target: Path, suffix: str, option: str, value: Any) -> None:
    if value is not None and target.suffix.lower() != suffix:
        raise ValueError(f"{option} is for {suffix} files, which {target} is not.")


def _compress(source: Path, target: Path, budget_mb: float, capture: Path | None, **options: Any) -> None:
    """`pocket convert --budget-mb`."""
    compression = _quietly_imported(".pipelines.splat_compression")
    cameras = None if capture is None else _cameras_of(capture, compression.SIDE)
    with _Progress("compressing", 1) as progress:
        done = compression.compress_splats(source, target, budget_mb, cameras, **options, progress=progress.advance)
    print(
        f"Kept {done.gaussians:,} of {done.gaussians_before:,} Gaussians of SH degree {done.sh_degree}: "
        f"{done.bytes_before:,} bytes in {source}, {done.bytes_after:,} bytes in {target}; "
        f"PSNR {done.psnr:.1f} dB against {source} from {done.held_out} other cameras"
    )


def _read_size(text: str) -> tuple[int, int]:
    """Width and height in pixels."""
    sides = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", text)
    if sides is None:
        raise ValueError(f"--size must be a number of pixels or WIDTHxHEIGHT, not {text!r}.")
    width, height = sides.groups(default=sides[1])
    return int(width), int(height)


def _cameras_of(capture: Path, max_side: int | None = None) -> Any:
    from .training.fit_scene import cameras_of

    return cameras_of(capture, max_side)


class _Progress:
    """A rich progress bar that counts prompts, by fractions too; on stderr, and only where that is a terminal."""

    def __init__(self, text: str, total: int):
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(text, total=total)

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        return self._bar.tasks[0].elapsed or 0.0

    def say(self, text: str) -> None:
        self._bar.update(self._task, description=text)

    def advance(self, prompts: float) -> None:
        self._bar.advance(self._task, prompts)


def _read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    for text in prompts:
        if not text.strip():
            raise ValueError("--prompt is empty: say what to draw, such as --prompt 'a red cube'.")
    if file is not None:
        if not file.is_file():
            raise FileNotFoundError(f"--prompts-file {str(file)!r} is no file: give a text file, one prompt a line.")
        prompts = prompts + [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise ValueError("there is no prompt: say what to draw, such as --prompt 'a red cube'.")
    return prompts


def _read_input(path: Path) -> tuple[list[str], dict[str, Any]]:
    """The prompts of a JSON file with arguments of a pipeline's call, and the other arguments."""
    from .pipelines.files import read_json

    arguments = read_json(path, dict)
    given = arguments.pop("prompt", [])
    prompts = [given] if isinstance(given, str) else given
    if not isinstance(prompts, list) or not all(isinstance(text, str) and text.strip() for text in prompts):
        raise ValueError(f"prompt in {path} must be a text or a list of texts, none of them empty.")
    return prompts, arguments


def _read_settings(settings: list[str]) -> dict[str, str]:
    for setting in settings:
        if "=" not in setting or not setting.split("=", 1)[0].isidentifier():
            raise ValueError(f"--set {setting!r} is no setting: write NAME=VALUE, such as --set steps=2000.")
    return dict(setting.split("=", 1) for setting in settings)


def _quietly_imported(module: str) -> ModuleType:
    """A module of this package whose imports bring libraries that talk, such as torchao, and the same ones hushed."""
    from .pipelines.library_chatter import quiet, silence_libraries

    with quiet():
        imported = import_module(module, __package__)
    silence_libraries()
    return imported


def _recipe(slug: str) -> ModuleType:
    return import_module(f".training.recipe_{slug}", __package__)


def _print_stages(slug: str, stages: dict[str, Any]) -> None:
    table = Table("stage", "presets", "command", title=f"Stages of {slug}, in order", title_justify="left")
    for name, stage in stages.items():
        table.add_row(name, ", ".join(stage.presets), f"pocket train {slug} --stage {name}")
    Console().print(table)


def _check_cards(name: str | None, readme: Path | None, own: Any) -> None:
    """`pocket card --check`: every problem on stderr, and exit status 1 if there is one."""
    if own is not None:
        from .model_cards.own_card import own_card_faults

        problems = own_card_faults(own)
    else:
        from .model_cards.freshness import find_stale

        problems = find_stale(name, readme)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    said = (
        f"{own.folder / 'README.md'} has no fault." if own else "Nothing is stale, and every number is a measured one."
    )
    print(said)


def _check_known(kind: str, name: str, known: Any) -> None:
    if name not in known:
        raise unknown_name(kind, name, known)


def _megabytes(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.1f} MB"


def _what_is_missing(module: str) -> str:
    """Names the extra of this package that brings `module`."""
    from importlib.metadata import requires

    wanted = {"sklearn": "scikit-learn"}.get(module, module).replace("_", "-")
    for requirement in requires("pocket-diffusers") or []:
        package, _, marker = requirement.partition(";")
        if package.strip().lower().startswith(wanted.lower()) and "extra ==" in marker:
            extra = marker.rsplit("extra ==", 1)[1].strip(" '\"")
            return str(missing_package("this command", wanted, extra))
    return f"the package {module!r} is missing, and no extra of pocket-diffusers brings it."


def _say(text: str) -> None:
    print(f"{text} ...", file=sys.stderr)


def _raise_if_debugging() -> None:
    if os.environ.get("POCKET_DEBUG") == "1":
        raise


def _complain(message: str) -> int:
    print(f"Error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
