"""The `pocket` command: what a newcomer reads, and what is said when something is wrong."""

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import accelerate
import pytest
import tiny_ascan
import typer
from PIL import Image
from tiny_lpgs import make_pipeline
from typer.testing import CliRunner

from pocket_diffusers import __version__, checkpoint, cli
from pocket_diffusers.cli import app, main
from pocket_diffusers.eval import benchmark
from pocket_diffusers.eval.benchmark import Benchmark
from pocket_diffusers.hub_models.rendering.splat_files import read_splats
from pocket_diffusers.model_cards import publishing

WIDE = {"COLUMNS": "200", "TERM": "dumb"}


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, env=WIDE)
    assert result.exit_code == 0, result.output
    return result.stdout


def complaint(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """The one sentence that a wrong command line gets, after checking exit code, length and stdout."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ") and captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_bare_command_shows_the_verbs(arguments):
    text = run(*arguments)
    for verb in (*VERBS, 'pocket generate snapgen --prompt "a red cube"'):
        assert verb in text


OPTIONS = {
    "generate": "prompt prompts-file input negative-prompt model steps guidance num-images height width seed output"
    " overwrite runtime",
    "train": "stage preset resume set seed output",
    "fit": "steps size preset slab sub-scenes field-of-view focus-distance budget-mb children codec cameras up level"
    " resume seed output",
    "convert": "level sh-degree spz-version quality budget-mb cameras up overwrite",
    "quantize": "bits recipe cache-steps calibrate train set component output overwrite",
    "render": "turntable size elevation up cameras background level output overwrite",
    "eval": "only output",
    "export": "to precision model output overwrite",
    "demo": "port model share",
    "card": "output check readme license",
    "push": "dry-run output space static private license overwrite",
}
VERBS = ("list", *OPTIONS)
OF_FILES = {
    "convert": "scene.ply",
    "quantize": "my-finetune/unet/",
    "render": "scene.ply",
    "fit": "lpgs",
}  # verbs that take no method, and what they take in an example


@pytest.mark.parametrize("verb", OPTIONS)
def test_help_names_every_option_with_an_example(verb):
    text = run(verb, "--help")
    for option in [*(f"--{name}" for name in OPTIONS[verb].split()), f"pocket {verb} {OF_FILES.get(verb, 'snapgen')}"]:
        assert option in text


@pytest.mark.parametrize("verb", ["convert", "render"])
def test_help_says_that_scenes_of_methods_are_read(verb):
    text = " ".join(run(verb, "--help").replace("│", " ").split())
    assert ".lpgs" in text and "a saved pipeline that holds a scene" in text
    assert verb == "convert" or "a light field" in text


@pytest.mark.parametrize("megabytes", ["inf", "nan", "-1"])
def test_budgets_that_are_none(capsys, tmp_path, megabytes):
    said = complaint(capsys, "fit", "lpgs", "scene.ply", "--budget-mb", megabytes, "-o", str(tmp_path / "out"))
    assert "--budget-mb must be a number of at least 0, not " in said and not (tmp_path / "out").exists()


def test_a_plain_codec_writes_the_file_of_convert_and_what_it_unpacks_to(capsys, tmp_path):
    make_pipeline().to_ply(tmp_path / "ball.ply")
    command = ("--budget-mb", "0.02", "--up", "z")
    run("convert", str(tmp_path / "ball.ply"), str(tmp_path / "made.splatz"), *command)
    said = run("fit", "lpgs", str(tmp_path / "ball.ply"), "--codec", "plain", *command, "-o", str(tmp_path / "out"))
    made = tmp_path / "out" / "scene.splatz"
    assert made.read_bytes() == (tmp_path / "made.splatz").read_bytes() and "Kept " in said
    assert read_splats(tmp_path / "out" / "scene.ply").means.equal(read_splats(made).means)
    assert sorted(path.name for path in made.parent.iterdir()) == ["scene.ply", "scene.splatz"]
    said = complaint(capsys, "fit", "lpgs", str(made), "--codec", "zip", "-o", str(tmp_path / "none"))
    assert "--codec must be one of lpgs, plain, not 'zip'" in said and not (tmp_path / "none").exists()


def write_grid(path: Path, rows: int = 3, columns: int = 3, sides: tuple[int, ...] = (16,)) -> Path:
    """A zip of a camera grid, whose pictures of a stripe have these sides by turns."""
    pictures = [Image.new("RGB", (side, side), (40, 90, 160)) for side in sides]
    with zipfile.ZipFile(path, "w") as packed:
        for row, column in product(range(rows), range(columns)):
            picture = pictures[(row * columns + column) % len(sides)]
            picture.paste((250, 200, 20), (4 + column, 4 - row, 8 + column, 12 - row))
            with packed.open(f"{row:02}_{column:02}.png", "w") as file:
                picture.save(file, format="PNG")
    return path


def test_a_camera_grid_becomes_a_light_field_that_is_rendered(capsys, tmp_path, monkeypatch):
    from pocket_diffusers.pipelines import LightSpeedPipeline

    monkeypatch.chdir(tmp_path)
    write_grid(Path("grid.zip"))
    fit = ("fit", "lightspeed", "grid.zip", "--steps", "3", "--size", "16", "--field-of-view", "50", "-o", "field")
    said = run(*fit)
    assert "step 3/3" in said and "left 0:00:00" in said and "light field of 711,123 parameters: 1," in said
    assert said.endswith(" dB on 1 view that it never saw: look at field/sheet.png\n")
    record = json.loads(Path("field/run.json").read_text())
    assert record["command"] == "pocket fit lightspeed" and record["seed"] == 0
    inputs = record["inputs"]
    assert inputs["source"] == "grid.zip" and inputs["field_of_view"] == 50 and inputs["slab"] == "auto"
    assert inputs["result"]["held_out"] == 1 and "sheet.png" in record["files"]
    seen = LightSpeedPipeline.from_pretrained("field").view_range
    assert (seen.kind, seen.width, seen.height) == ("grid", 16, 16)
    assert seen.focal[0] == pytest.approx(8 / math.tan(math.radians(25)), rel=1e-5)
    assert sorted(path.name for path in Path().iterdir()) == ["field", "field-fit", "grid.zip"]
    assert "step" not in run(*fit).partition("Fitted")[0], "the run that is there is finished"

    said = run("render", "field", "--turntable", "2", "-o", "path")
    assert said.startswith("Rendered a light field in ") and said.endswith("look at path/sheet.png\n")
    assert sorted(path.name for path in Path("path").glob("frame_*")) == ["frame_0000.png", "frame_0001.png"]
    assert Image.open("path/frame_0000.png").size == (16, 16) and Path("path/turntable.webp").is_file()
    run("render", "field", "--cameras", "grid.zip", "-o", "grid")
    assert len(list(Path("grid").glob("frame_*.png"))) == 9
    for option, value in {"size": "16", "up": "z", "elevation": "3", "background": "red", "level": "0"}.items():
        sentence = complaint(capsys, "render", "field", f"--{option}", value, "-o", "none")
        assert f"--{option} is for splats, and field is a light field" in sentence
    assert not Path("none").exists()
    assert "its pipeline LightSpeedPipeline has none" in complaint(capsys, "convert", "field", "a.ply")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["grid.zip", "--children", "2"], "--children is for lpgs."),
        (["grid.zip", "--budget-mb", "2"], "--budget-mb is for lpgs."),
        (["grid.zip", "--codec", "plain"], "--codec is for lpgs."),
        (["a.ply"], "lightspeed is fitted to photographs with cameras, but a.ply is a file of splats."),
        (["nowhere"], "nowhere is no capture"),
        (["one.zip"], "one.zip must hold at least two views of a grid"),
        (["four.zip"], "a grid to hold views out of must be at least 3 views long, not '2 x 2'."),
        (["mixed.zip"], "01_00.png must have 16 x 16 pixels (width x height) as 00_00.png has, not 20 x 20."),
        (["outside.zip"], "outside.zip must hold files that lie inside of it, not '../00_00.png'."),
        (["bomb.zip"], "bomb.zip must unpack to at most 2,000 MB, not 6,000 MB."),
        (["broken.zip"], "broken.zip is no zip archive, or a damaged one."),
        (["grid.zip", "--field-of-view", "200"], "field_of_view must be a number from 1 to 179, not 200.0."),
        (["grid.zip", "--focus-distance", "nan"], "focus_distance must be a number of at least 1e-06, not nan."),
        (["lens.zip", "--field-of-view", "40"], "field_of_view must be left out"),
        (["grid.zip", "--preset", "huge"], "preset must be one of paper, paper-frontal, nano, not 'huge'."),
        (["grid.zip", "--slab", "cube"], "slab must be one of auto, grid, ndc, box, not 'cube'."),
        (["grid.zip", "--slab", "ndc"], "points must be given for slab 'ndc', or the scene's nearest depth"),
        (["grid.zip", "--teacher-steps", "9"], "teacher_steps and pseudo_views must be both 0 or both at least 1, not"),
        (
            ["grid.zip", "--teacher-steps", "9", "--pseudo-views", "9"],
            "a teacher of pictures that are not from all around must be given points, depths or the scene's nearest",
        ),
        (["grid.zip", "--sub-scenes", "10"], "must be a whole number from 1 to 8, the places of cameras, not 10."),
        (["grid.zip", "-o", "taken"], "taken exists and is no checkpoint repository: choose another folder."),
    ],
)
def test_bad_captures_leave_nothing(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    write_grid(Path("grid.zip"))
    write_grid(Path("one.zip"), 1, 1)
    write_grid(Path("four.zip"), 2, 2)
    write_grid(Path("mixed.zip"), sides=(16, 16, 16, 20, 16))
    Path("broken.zip").write_bytes(Path("grid.zip").read_bytes()[:300])
    picture = zipfile.ZipFile("grid.zip").read("00_00.png")
    with zipfile.ZipFile("outside.zip", "w") as packed:
        packed.writestr("../00_00.png", picture)
    with zipfile.ZipFile("lens.zip", "w") as packed:
        for column in range(3):
            packed.writestr(f"Camera_00_{column:02}_0.000000_{column}.500000_30_36.png", picture)
    with zipfile.ZipFile("bomb.zip", "w") as packed:
        for row, column in product(range(2), range(3)):
            packed.writestr(f"{row:02}_{column:02}.png", b"")
    Path("bomb.zip").write_bytes(_told_larger(Path("bomb.zip").read_bytes(), 1_000_000_000))
    Path("taken").mkdir()
    Path("taken", "notes.txt").write_text("mine")
    there = sorted(path.name for path in tmp_path.iterdir())
    output = [] if "-o" in arguments else ["-o", "out"]
    assert named in complaint(capsys, "fit", "lightspeed", *arguments, *output)
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def _told_larger(archive: bytes, size: int) -> bytes:
    """An archive of empty files whose list says of each that it has so many bytes, unpacked."""
    entry = archive.index(b"PK\1\2")
    listed = archive[entry:].split(b"PK\1\2")
    return archive[:entry] + b"PK\1\2".join(
        part[:20] + size.to_bytes(4, "little") + part[24:] if part else part for part in listed
    )


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--slab", "box", "--slab is for lightspeed."),
        ("--sub-scenes", "2", "--sub-scenes is for lightspeed."),
        ("--level", "1", "--level is for a file of splats."),
        ("--cameras", "grid.zip", "--cameras is for a file of splats."),
        ("--steps", "9", "the capture's sparse points must be at least 2, as COLMAP finds them, not 0."),
    ],
)
def test_a_camera_grid_is_not_for_lpgs(capsys, tmp_path, monkeypatch, option, value, named):
    monkeypatch.chdir(tmp_path)
    write_grid(Path("grid.zip"))
    assert named in complaint(capsys, "fit", "lpgs", "grid.zip", option, value)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.zip"]


def test_every_option_has_a_help_text():
    for command in typer.main.get_command(app).commands.values():
        for parameter in command.params:
            assert parameter.help, f"{command.name} {parameter.name}"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_list_shows_methods_tasks_and_weights():
    text = run("list")
    assert "snapgen" in text and "text-to-image" in text and "snapgen-nano" in text and " MB" in text


def test_list_is_quick_and_imports_no_torch():
    code = "import sys; from pocket_diffusers.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("verb", [verb for verb in OPTIONS if verb not in OF_FILES])
def test_unknown_method_names_the_nearest(capsys, tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    needed = {"export": ["--to", "onnx"], "push": ["me/snapgen", "--dry-run"]}
    sentence = complaint(capsys, verb, "snapgn", *needed.get(verb, []))
    assert "'snapgn'" in sentence and "snapgen" in sentence.replace("snapgn", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no prompt"),
        (["--prompt", "  "], "--prompt is empty"),
        (["--prompt", "x", "--steps", "0"], "--steps"),
        (["--prompt", "x", "--num-images", "0"], "--num-images"),
        (["--prompt", "x", "--seed", "-1"], "--seed"),
        (["--prompt", "x", "--seed", "one"], "--seed"),
        (["--prompts-file", "nowhere.txt"], "'nowhere.txt'"),
        (["--prompt", "x", "--stepz", "3"], "--stepz"),
    ],
)
def test_bad_options_of_generate(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    assert named in complaint(capsys, "generate", "snapgen", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--stage", "bass"], "nearest: 'base'"),
        (["--stage", "base", "--preset", "huge"], "preset 'huge' is unknown: use one of nano, paper"),
        (["--stage", "base", "--set", "steps"], "NAME=VALUE"),
    ],
)
def test_bad_options_of_train(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    assert named in complaint(capsys, "train", "snapgen", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_train_without_a_stage_lists_them_in_order(capsys):
    text = run("train", "snapgen")
    stages = [text.index(f"--stage {name}") for name in ("clip", "judge", "autoencoder", "refine", "base")]
    assert stages == sorted(stages) and "nano" in text and "paper" in text
    shared = run("train", "encoders")
    assert "pocket train encoders --stage clip" in shared and "--stage judge" in shared and "paper" not in shared
    known = "snapgen, ascan, lpgs, bitsfusion, controlmm, lightspeed, encoders"
    assert f"unknown: use one of {known}" in complaint(capsys, "train", "encodings")


@pytest.mark.parametrize("verb", [["frob"], ["generat", "snapgen"]])
def test_unknown_verb(capsys, verb):
    assert repr(verb[0]) in complaint(capsys, *verb)


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("POCKET_DEBUG", "1")
    with pytest.raises(ValueError, match="no prompt"):
        main(["generate", "snapgen"])


def test_generate_writes_pictures_sheet_and_record(capsys, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a blue sphere\n\n")
    output = tmp_path / "made" / "here"
    arguments = ["generate", "snapgen", "-p", "a red cube", "--prompts-file", str(prompts), "--steps", "2"]
    assert main([*arguments, "--num-images", "2", "--seed", "5", "-o", str(output)]) == 0
    assert str(output / "sheet.png") in capsys.readouterr().out

    record = json.loads((output / "run.json").read_text())
    made = record["inputs"]["pictures"]
    assert [(picture["prompt"], picture["seed"]) for picture in made] == [
        ("a red cube", 5),
        ("a red cube", 6),
        ("a blue sphere", 7),
        ("a blue sphere", 8),
    ]
    assert record["seed"] == 5 and record["seconds"] > 0
    assert record["versions"]["pocket-diffusers"] == __version__ and record["versions"]["torch"]
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["run.json", "sheet.png", *(picture["file"] for picture in made)]
    )

    # Each picture can be made again alone, from the seed that its record names.
    again = tmp_path / "again"
    alone = ["generate", "snapgen", "-p", "a blue sphere", "--steps", "2", "--seed", "8", "-o", str(again)]
    assert main(alone) == 0
    first, second = (Image.open(path) for path in (output / made[3]["file"], again / "000-a-blue-sphere.png"))
    assert max(abs(a - b) for a, b in zip(first.tobytes(), second.tobytes(), strict=True)) <= 1


def test_a_file_says_arguments_and_the_command_line_goes_before(capsys, tmp_path):
    given = tmp_path / "given.json"
    given.write_text(json.dumps({"prompt": ["a red cube", "a blue sphere"], "num_inference_steps": 1, "height": 32}))
    assert main(["generate", "snapgen", "--input", str(given), "--seed", "4", "-o", str(tmp_path / "both")]) == 0
    assert "Made 2 pictures in " in capsys.readouterr().out
    inputs = json.loads((tmp_path / "both" / "run.json").read_text())["inputs"]
    assert [(one["prompt"], one["seed"]) for one in inputs["pictures"]] == [("a red cube", 4), ("a blue sphere", 5)]
    assert inputs["arguments"] == {"num_inference_steps": 1, "height": 32}
    one = ["generate", "snapgen", "--input", str(given), "-p", "a green cone", "--height", "48"]
    assert main([*one, "-o", str(tmp_path / "one")]) == 0
    (picture,) = (tmp_path / "one").glob("000-*.png")
    assert picture.name == "000-a-green-cone.png" and Image.open(picture).height == 48


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "given.json is missing"),
        ("{", "given.json is truncated or no JSON file"),
        ("[]", "given.json must hold a JSON object"),
        ("{}", "there is no prompt"),
        ('{"prompt": 3}', "prompt in "),
        ('{"prompt": ["a red cube", " "]}', "must be a text or a list of texts, none of them empty"),
        ('{"prompt": "a red cube", "hieght": 32}', "nearest: 'height'"),
        ('{"prompt": "a red cube", "height": "tall"}', "'tall'"),
    ],
)
def test_files_that_say_nothing_usable(capsys, tmp_path, monkeypatch, content, named):
    given = tmp_path / "given.json"
    if content is not None:
        given.write_text(content)
    assert named in complaint(capsys, "generate", "snapgen", "--input", str(given), "-o", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--height", "7"], "7"),
        (["--model", "snapgen-nono"], "nearest: 'snapgen-nano'"),
        (["--model", "./nowhere"], "nowhere"),
        (["--model", "nobody/nothing"], "nobody/nothing"),
    ],
)
def test_what_the_pipeline_refuses_leaves_nothing(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    output = tmp_path / "out"
    assert named in complaint(capsys, "generate", "snapgen", "-p", "x", "-o", str(output), *arguments)
    assert list(tmp_path.iterdir()) == []


def test_truncated_weights_are_named(capsys, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint("snapgen-nano"), broken)
    weights = next(broken.glob("unet/*.safetensors"))
    os.truncate(weights, weights.stat().st_size // 2)
    sentence = complaint(capsys, "generate", "snapgen", "-p", "x", "--model", str(broken), "-o", str(tmp_path / "out"))
    assert str(weights) in sentence
    assert not (tmp_path / "out").exists()


def test_an_earlier_result_is_replaced_only_when_asked(capsys, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "run.json").write_text("{}")
    arguments = ["generate", "snapgen", "-p", "a red cube", "--steps", "1", "-o", str(output)]
    assert "earlier result" in complaint(capsys, *arguments)
    assert (output / "run.json").read_text() == "{}"
    assert main([*arguments, "--overwrite"]) == 0
    assert (output / "000-a-red-cube.png").is_file()


def test_output_that_is_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file" in complaint(capsys, "generate", "snapgen", "-p", "x", "-o", str(tmp_path / "file" / "out"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModuleNotFoundError("No module named 'trimesh'", name="trimesh"),
            "needs trimesh, which comes with the extra 'train'",
        ),
        (
            ModuleNotFoundError("No module named 'sklearn'", name="sklearn"),
            "needs scikit-learn, which comes with the extra 'eval'",
        ),
        (ModuleNotFoundError("No module named 'trimmesh'", name="trimmesh"), "'trimmesh' is missing, and no extra of"),
        (ImportError("this needs the train extra"), "this needs the train extra"),
        (FloatingPointError("loss is nan in step 3"), "loss is nan in step 3"),
    ],
)
def test_failures_that_a_user_can_mend_are_one_sentence(capsys, monkeypatch, error, said):
    def recipe(slug):
        raise error

    monkeypatch.setattr(cli, "_recipe", recipe)
    assert said in complaint(capsys, "train", "snapgen")


@pytest.mark.parametrize("main_process", [True, False])
def test_one_process_of_several_records_a_training(monkeypatch, tmp_path, main_process):
    def train(stage, preset, output, *options):
        (output / stage).mkdir(parents=True)
        return output / stage / "model"

    stages = {"base": SimpleNamespace(presets={"nano": None})}
    monkeypatch.setattr(cli, "_recipe", lambda slug: SimpleNamespace(STAGES=stages, run=train))
    monkeypatch.setattr(accelerate, "PartialState", lambda: SimpleNamespace(is_main_process=main_process))
    said = run("train", "snapgen", "--stage", "base", "--output", str(tmp_path / "out"))
    assert (tmp_path / "out" / "base" / "run.json").is_file() == ("Trained stage" in said) == main_process


def test_module_runs_as_a_script():
    result = subprocess.run(
        [sys.executable, "-m", "pocket_diffusers.cli", "--version"], capture_output=True, text=True, cwd=Path.home()
    )
    assert result.stdout.strip() == __version__


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder of weights that a user saved, in the current folder."""
    monkeypatch.chdir(tmp_path)
    tiny_ascan.PIPELINES["image-classification"].make().save_pretrained("my-reader")
    return tmp_path / "my-reader"


def test_card_of_ones_own_folder(capsys, own):
    assert main(["card", "./my-reader", "--license", "mit"]) == 0
    printed = capsys.readouterr().out
    assert "license: mit\n" in printed and "\n# my-reader\n" in printed
    assert main(["card", "my-reader", "--check"]) == 2
    assert "README.md is missing" in capsys.readouterr().err
    assert main(["card", "my-reader", "--license", "mit", "-o", "my-reader/README.md"]) == 0
    assert (own / "README.md").read_text() == printed
    assert main(["card", "my-reader", "--check"]) == 0
    (own / "README.md").write_text(printed.replace("license: mit", "license: mitt"))
    capsys.readouterr()
    assert main(["card", "my-reader", "--check"]) == 1
    assert "license must be one of" in capsys.readouterr().err
    assert "--license is for the card of a folder of your own" in complaint(
        capsys, "card", "snapgen", "--license", "mit"
    )


def test_push_of_ones_own_folder(capsys, own, monkeypatch):
    monkeypatch.setattr(publishing, "build_wheel", lambda folder: Path(shutil.copy(__file__, folder / "x.whl")))
    (own / "log.txt").touch()
    assert main(["push", "my-reader", "me/my-reader", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["outputs/push-my-reader/model", "outputs/push-my-reader/space"]
    assert "leaving out what is no part of the pipeline: log.txt" in captured.err
    assert (own.parent / "outputs" / "push-my-reader" / "model" / "model" / "config.json").is_file()


@pytest.mark.parametrize("verb", ["card", "push"])
def test_a_folder_that_is_no_pipeline_of_ours(capsys, own, verb):
    repo = ["me/x", "--dry-run"] if verb == "push" else []
    assert "is a single AsCANModel and no pipeline" in complaint(capsys, verb, "./my-reader/model", *repo)
    assert "nowhere is not there" in complaint(capsys, verb, "./nowhere", *repo)


def test_eval_knows_the_world_too(capsys, tmp_path):
    sentence = complaint(capsys, "eval", "world", "--only", "rendring", "-o", str(tmp_path / "out"))
    assert "measurement 'rendring' is unknown" in sentence and "nearest: 'rendering'" in sentence
    assert not (tmp_path / "out").exists()


def _write_scene(path, count=40, **changes):
    """Random Gaussians about the origin, of SH degree 2."""
    import torch

    from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
    from pocket_diffusers.hub_models.rendering.splat_files import write_splats

    draw = torch.Generator().manual_seed(0)
    shapes = {"means": (3,), "log_scales": (3,), "quaternions": (4,), "opacity_logits": (), "sh": (9, 3)}
    random = {name: torch.randn(count, *shape, generator=draw) for name, shape in shapes.items()}
    changed = {name: torch.full_like(random[name], value) for name, value in changes.items()}
    write_splats(Gaussians(**{**random, **changed}), path)


def test_convert_says_what_it_wrote(capsys, tmp_path):
    from pocket_diffusers.hub_models.rendering.splat_files import read_splats

    _write_scene(tmp_path / "a.ply")
    source, target = str(tmp_path / "a.ply"), str(tmp_path / "b.spz")
    said = run("convert", source, target, "--spz-version", "3", "--sh-degree", "1")
    before, after = (Path(path).stat().st_size for path in (source, target))
    assert said == f"Converted 40 Gaussians of SH degree 1: {before:,} bytes in {source}, {after:,} bytes in {target}\n"
    assert Path(target).read_bytes()[:2] == b"\x1f\x8b" and read_splats(target).sh_degree == 1
    assert "b.spz exists already" in complaint(capsys, "convert", source, target)
    run("convert", source, target, "--overwrite")
    assert Path(target).read_bytes()[:4] == b"NGSP"


def test_quantize_says_what_it_packed_and_how_it_is_loaded(capsys, tmp_path, monkeypatch):
    from diffusers import UNet2DModel
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    widths = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "add_attention": False}
    UNet2DModel(sample_size=8, **widths, **blocks).save_pretrained("small/unet")
    Path("bits.json").write_text('{"conv_in": 8}')
    said = run("quantize", "small/unet", "--bits", "2", "--recipe", "bits.json")
    out = Path("outputs/quantize-unet")
    before, after = (next(Path(place).glob("*.safetensors")).stat().st_size for place in ("small/unet", out))
    assert f"layers of UNet2DModel: {before:,} bytes of weights before, {after:,} after" in said
    assert "Below 3 bits pictures will not hold without training" in said
    assert f'    UNet2DModel.from_pretrained("{out}")' in said
    stored = load_file(out / "diffusion_pytorch_model.safetensors")
    assert len(stored["conv_in.words"]) == 8 * 3 * 9 // 8 and "holds an earlier result" in complaint(
        capsys, "quantize", "small/unet"
    )
    assert "will not hold" not in run("quantize", "small/unet", "--overwrite")
    assert json.loads((out / "run.json").read_text())["inputs"]["bits"] == 4
    assert "--set is of use only with --train" in complaint(capsys, "quantize", "small/unet", "--set", "steps=2")


def test_quantize_trains_on_pictures_of_the_user_s(capsys, tmp_path, monkeypatch):
    import datasets
    from PIL import Image
    from tiny_stable_diffusion import make_pipeline

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    make_pipeline().save_pretrained("sd")
    Path("pictures").mkdir()
    Image.new("RGB", (8, 8), "red").save("pictures/a.png")
    Path("pictures/metadata.jsonl").write_text('{"file_name": "a.png", "text": "a red cube"}')
    sizes = ("--set", "steps=1", "--set", "batch_size=1", "--set", "image_size=8")
    said = run("quantize", "sd", "--bits", "1", "--train", "pictures", *sizes, "--cache-steps", "2")
    out = Path("outputs/quantize-sd")
    assert f"Trained in {out}-training, which may be removed" in said and "will not hold" not in said
    assert f'    StableDiffusionPipeline.from_pretrained("{out}")' in said
    inputs = json.loads((out / "run.json").read_text())["inputs"]
    assert inputs["train"] == "pictures" and inputs["settings"] == {"steps": "1", "batch_size": "1", "image_size": "8"}
    said = complaint(capsys, "quantize", "sd", "--train", "pictures", "--set", "steps", "-o", "other")
    assert "--set 'steps' is no setting" in said and not Path("other").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ["a.ply", "b.splat"],
            "must be a file that is written, .ply, .compressed.ply, .spz, .splatz, .sog, meta.json: .splat is not",
        ),
        (["none.ply", "b.spz"], "none.ply is missing"),
        (["a.ksplat", "b.spz"], ".ksplat is not"),
        (["a.ply", "b.ply", "--spz-version", "3"], "--spz-version is for .spz files"),
        (["a.ply", "b.spz", "--spz-version", "2"], "--spz-version"),
        (["a.ply", "b.spz", "--sh-degree", "4"], "--sh-degree"),
        (["a.ply", "b.spz", "--level", "1"], "level must be 0, not 1"),
        (["a.ply", "b.spz"], "a.ply must be a PLY file"),
        (["a.ply", "b.spz", "--quality", "2"], "--quality is for .splatz files, which b.spz is not"),
        (["a.ply", "b.spz", "--budget-mb", "2"], "--budget-mb is for .splatz files, which b.spz is not"),
        (["a.ply", "b.splatz", "--budget-mb", "2", "--quality", "2"], "leave out --quality"),
        (["a.ply", "b.splatz", "--cameras", "c"], "--cameras is of use only with --budget-mb"),
        (["a.ply", "b.splatz", "--up", "z"], "--up is of use only with --budget-mb"),
        (["a.ply", "b.splatz", "--budget-mb", "2"], "a.ply must be a PLY file"),
        (["a.ply", "b.splatz", "--budget-mb", "0"], "budget_mb must be a number from 0.001"),
        (["a.ply", "b.splatz", "--budget-mb", "2", "--cameras", "none"], "none"),
    ],
)
def test_bad_conversions(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    for name in ("a.ply", "a.ksplat"):
        Path(name).write_bytes(b"no splats\n")
    assert named in complaint(capsys, "convert", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ksplat", "a.ply"]


def test_splatz_is_written_read_and_rendered(tmp_path, monkeypatch):
    from pocket_diffusers.hub_models.rendering.splat_codec import splat_config

    monkeypatch.chdir(tmp_path)
    _write_scene(tmp_path / "a.ply")
    run("convert", "a.ply", "b.splatz", "--quality", "2")
    assert splat_config(Path("b.splatz").read_bytes())[0].luma_step == 0.025
    size = Path("b.splatz").stat().st_size
    said = run("convert", "b.splatz", "c.spz")
    assert said.startswith(f"Converted 40 Gaussians of SH degree 2: {size:,} bytes in b.splatz, ")
    assert run("render", "b.splatz", "--turntable", "2", "--size", "32", "-o", "drawn").startswith("Rendered 40 ")
    assert sorted(path.name for path in Path("drawn").glob("frame_*")) == ["frame_0000.png", "frame_0001.png"]


def test_a_budget_says_what_it_cost(tmp_path, monkeypatch):
    import torch

    from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
    from pocket_diffusers.hub_models.rendering.splat_files import read_splats
    from pocket_diffusers.pipelines.inputs import PosedImages
    from pocket_diffusers.training.datasets.transforms_json import write_transforms

    monkeypatch.chdir(tmp_path)
    _write_scene(tmp_path / "a.ply", 300)
    cameras = PosedImages(torch.zeros(9, 3, 24, 32), orbit((0, 0, 0), 6, 9), intrinsics(50, 24, 32).expand(9, 3, 3))
    write_transforms(Path("capture"), cameras)
    said = run("convert", "a.ply", "b.splatz", "--budget-mb", "0.005", "--cameras", "capture", "--sh-degree", "1")
    kept, before, after = len(read_splats("b.splatz")), Path("a.ply").stat().st_size, Path("b.splatz").stat().st_size
    assert after <= 5000 and said.startswith(
        f"Kept {kept} of 300 Gaussians of SH degree 1: {before:,} bytes in a.ply, {after:,} bytes in b.splatz; PSNR "
    )
    assert said.endswith(" dB against a.ply from 2 other cameras\n")


@pytest.mark.parametrize(
    ("changes", "drawn"),
    [
        ({"opacity_logits": -200.0}, False),
        ({"count": 1}, True),
        ({"count": 1, "log_scales": -30.0}, True),
        ({"count": 1, "means": 1e6, "log_scales": 2.0}, True),
        ({"means": 0.0, "log_scales": -9.0}, True),
    ],
)
def test_strange_scenes_are_rendered(tmp_path, monkeypatch, changes, drawn):
    """Nothing opaque, one Gaussian, a mere point, one far from the origin, and one nearer than others begin."""
    monkeypatch.chdir(tmp_path)
    _write_scene(tmp_path / "a.ply", **{"sh": 1.0, "opacity_logits": 3.0, **changes})
    run("render", "a.ply", "--turntable", "1", "--size", "32", "-o", "drawn")
    assert (Image.open("drawn/frame_0000.png").convert("L").getextrema()[1] > 0) == drawn


def test_scenes_beyond_single_precision_are_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write_scene(tmp_path / "a.ply", 1, log_scales=90.0)
    said = complaint(capsys, "render", "a.ply", "--size", "32", "-o", "drawn")
    assert "the radius of the scene must be at most 1e+12 units, not inf" in said and not Path("drawn").exists()


@pytest.mark.parametrize(
    ("claim", "measured", "status"),
    [("It is quick.", 0.5, 0), ("It is quick.", 2.0, 1), ("It is quick. It failed: no memory.", None, 2)],
)
def test_eval_says_by_its_status_what_was_missed_and_what_failed(monkeypatch, tmp_path, claim, measured, status):
    def measurement(settings, run):
        yield run.row("id", claim, measured=measured, unit="s", better="lower", target=1.0)

    monkeypatch.setattr(benchmark, "find_benchmark", lambda slug: Benchmark("toy", None, {"first": measurement}))
    result = CliRunner().invoke(app, ["eval", "snapgen", "-o", str(tmp_path)], env=WIDE)
    assert result.exit_code == status and (tmp_path / "toy.json").is_file()
    assert ("failed" in result.stdout) == (measured is None) and ("NO" in result.stdout) == (status > 0)


def splat_file(folder: Path, count: int = 20) -> Path:
    import torch

    from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
    from pocket_diffusers.hub_models.rendering.splat_files import write_splats

    draw = torch.Generator().manual_seed(0)
    shapes = ((count, 3), (count, 3), (count, 4), (count,), (count, 1, 3))
    values = [torch.randn(shape, generator=draw) for shape in shapes]
    values[1] = values[1] * 0.2 - 2
    write_splats(Gaussians(*values), folder / "a.ply")
    return folder / "a.ply"


def test_render_draws_a_turntable(tmp_path, monkeypatch):
    splat_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    said = run("render", "a.ply", "--turntable", "3", "--size", "32x24", "--background", "white", "--up", "z")
    assert said.startswith("Rendered 20 Gaussians in ") and said.rstrip().endswith("look at outputs/render/sheet.png")
    made = Path("outputs/render")
    pictures = [f"frame_{frame:04d}.png" for frame in range(3)]
    others = ["run.json", "sheet.png", "turntable.webp"]
    assert sorted(path.name for path in made.iterdir()) == [*pictures, *others]
    assert Image.open(made / pictures[0]).size == (32, 24)
    assert Image.open(made / pictures[0]).getpixel((0, 0)) == (255, 255, 255)
    record = json.loads((made / "run.json").read_text())
    assert record["command"] == "pocket render" and record["inputs"]["up"] == "z"
    assert record["inputs"]["source"] == "a.ply" and record["inputs"]["size"] == [32, 24]
    run("render", "a.ply", "--turntable", "2", "--size", "32", "--overwrite")
    assert not (made / pictures[2]).exists() and Image.open(made / pictures[0]).size == (32, 32)


def test_render_from_the_cameras_of_a_capture(tmp_path):
    import torch

    from pocket_diffusers.hub_models.rendering.cameras import intrinsics, orbit
    from pocket_diffusers.hub_models.rendering.gaussian_rasterizer import rasterize_gaussians
    from pocket_diffusers.hub_models.rendering.splat_files import read_splats
    from pocket_diffusers.pipelines.inputs import PosedImages
    from pocket_diffusers.training.datasets.transforms_json import write_transforms

    source, viewmats, K = splat_file(tmp_path), orbit((0, 0, 0), 6.0, 2), intrinsics(50.0, 20, 28)
    posed = PosedImages(torch.zeros(2, 3, 20, 28), viewmats, K.expand(2, 3, 3))
    capture = write_transforms(tmp_path / "capture", posed)
    run("render", str(source), "--cameras", str(capture), "-o", str(tmp_path / "out"))
    drawn = rasterize_gaussians(read_splats(source), viewmats, posed.Ks, 28, 20).rgb.clamp(0, 1) * 255
    frames = sorted((tmp_path / "out").glob("frame_*.png"))
    assert len(frames) == 2
    for frame, wanted in zip(frames, drawn, strict=True):
        pixels = torch.frombuffer(bytearray(Image.open(frame).tobytes()), dtype=torch.uint8).view(20, 28, 3)
        assert (pixels.movedim(-1, 0).float() - wanted).abs().max() < 0.6 and pixels.max() > 20


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a.ply", "--cameras", "capture", "--size", "32"], "--size is for a circle of cameras: leave it out beside"),
        (["a.ply", "--cameras", "capture", "--up", "z"], "--up is for a circle of cameras"),
        (["none.ply"], "none.ply is missing"),
        (["bad.ply"], "bad.ply must be a PLY file"),
        (["empty.ply"], "empty.ply must hold Gaussians, but holds none."),
        (["a.ply", "--size", "32x"], "--size must be a number of pixels or WIDTHxHEIGHT, not '32x'."),
        (["a.ply", "--size", "x32"], "--size must be"),
        (["a.ply", "--size", "\u00b2"], "--size must be"),
        (["a.ply", "--size", "0"], "width must be"),
        (["a.ply", "--size", "100000"], "width and height must make 1 to"),
        (["a.ply", "--turntable", "0"], "--turntable"),
        (["a.ply", "--elevation", "90"], "elevation must be"),
        (["a.ply", "--elevation", "nan"], "elevation must be"),
        (["a.ply", "--up", "w"], "up must be one of x, y, z, -x, -y, -z, not 'w'."),
        (["a.ply", "--background", "blau"], "background must be the name of a colour, or #rrggbb, not 'blau'."),
        (["a.ply", "--level", "1"], "level must be 0, not 1"),
        (["a.ply", "--cameras", "nowhere"], "nowhere is no capture"),
        (["a.ply", "--cameras", "bad.json"], "bad.json"),
    ],
)
def test_bad_renderings(capsys, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    header = splat_file(tmp_path).read_bytes().partition(b"end_header\n")[0]
    Path("empty.ply").write_bytes(header.replace(b"vertex 20", b"vertex 0") + b"end_header\n")
    for name in ("bad.ply", "bad.json"):
        Path(name).write_bytes(b"no splats\n")
    assert named in complaint(capsys, "render", *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) in (
        ["a.ply", "bad.json", "bad.ply", "empty.ply"],
        ["a.ply", "bad.json", "bad.ply", "empty.ply", "outputs"],
    )
    assert not list(tmp_path.glob("outputs/*"))
