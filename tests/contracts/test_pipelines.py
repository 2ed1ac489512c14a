"""What every pipeline of `METHODS` promises, on tiny real components of its own."""

import ast
import copy
import inspect
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from contract_cases import (
    ImageSamplerCase,
    MotionCase,
    PipelineCase,
    RecognizerCase,
    SamplerCase,
    SceneCase,
    SplatCase,
    seeded,
)
from diffusers import DiffusionPipeline
from diffusers.pipelines import pipeline_utils
from diffusers.utils import dynamic_modules_utils, hub_utils
from huggingface_hub import ModelCard
from PIL import Image
from torch import Tensor, nn

from pocket_diffusers.pipelines import METHODS, pipeline_class
from pocket_diffusers.pipelines.generation import ImageRequest, generate
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.motion_optimization import OptimizationSteps
from pocket_diffusers.pipelines.outputs import ImageOutput, MotionOutput, Output, RenderingOutput
from pocket_diffusers.pipelines.repository import save_repository

ROOT = Path(__file__).parents[2]
CASES: dict[tuple[str, str], PipelineCase] = {
    (slug, task): case for slug in METHODS for task, case in import_module(f"tiny_{slug}").PIPELINES.items()
}


def named(kind: type[PipelineCase]) -> dict:
    """Every case of a kind, to parametrize `name` with."""
    return {"argvalues": [name for name, case in CASES.items() if isinstance(case, kind)], "ids": "-".join}


NAMES, SAMPLERS, IMAGE_SAMPLERS = named(PipelineCase), named(SamplerCase), named(ImageSamplerCase)
RECOGNIZERS, MOTIONS = named(RecognizerCase), named(MotionCase)
SCENES, SPLATS = named(SceneCase), named(SplatCase)


@cache
def shared(name: tuple[str, str]) -> DiffusionPipeline:
    """A pipeline that tests leave as it was."""
    return made(name)


def made(name: tuple[str, str]) -> DiffusionPipeline:
    return silent(CASES[name].make())


def silent(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def realigned(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """A loaded pipeline with its weights at addresses like new ones': kernels round by alignment, in the last bit."""
    for model in models_of(pipeline).values():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
    return silent(pipeline)


def in_type(dtype: torch.dtype, pipeline: DiffusionPipeline, place: Path) -> DiffusionPipeline:
    """The pipeline with its weights cast; read in that type where they are packed, for diffusers casts none such."""
    if not any(getattr(model, "is_quantized", False) for model in models_of(pipeline).values()):
        return pipeline.to(dtype)
    pipeline.save_pretrained(place)
    return silent(type(pipeline).from_pretrained(place, dtype=dtype))


def models_of(pipeline: DiffusionPipeline) -> dict[str, nn.Module]:
    return {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}


def same(first: object, second: object) -> bool:
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, Tensor) else first == second


def refuses(pipeline: DiffusionPipeline, case: PipelineCase, arguments: dict, message: str, monkeypatch) -> None:
    """One sentence, before a model is run."""
    for model in models_of(pipeline).values():
        monkeypatch.setattr(type(model), "forward", lambda *a, **k: pytest.fail("a model ran"))
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        if isinstance(case, SceneCase):
            case.call(pipeline, **arguments)
        else:
            pipeline(**{case.argument: case.values[0], **arguments})
    assert len(str(caught.value).splitlines()) == 1


# Every pipeline


def test_every_task_has_a_case():
    assert list(CASES) == [(slug, task) for slug, tasks in METHODS.items() for task in tasks]
    assert [type(shared(name)) for name in CASES] == [pipeline_class(*name) for name in CASES]


@pytest.mark.parametrize("name", **NAMES)
def test_one_input_has_one_result_and_nothing_is_changed(name):
    case, pipeline = CASES[name], shared(name)
    parts = {part: value for part, value in pipeline.components.items() if not part.startswith("tokenizer")}
    states = {
        part: value.state_dict() if isinstance(value, nn.Module) else vars(value) for part, value in parts.items()
    }
    before = copy.deepcopy(states)
    first = case.result(pipeline)
    assert torch.equal(first, case.result(pipeline))
    for part, state in states.items():
        assert state.keys() == before[part].keys()
        assert all(same(value, before[part][key]) for key, value in state.items()), part


@pytest.mark.parametrize("name", **NAMES)
def test_a_sample_does_not_depend_on_its_batch(name):
    case, pipeline = CASES[name], shared(name)
    batch = case.result(pipeline, case.values)
    for index, value in enumerate(case.values):
        seed = {"generator": seeded(index)} if isinstance(case, SamplerCase) else {}
        torch.testing.assert_close(batch[index], case.result(pipeline, [value], **seed)[0], atol=1e-4, rtol=1e-4)
    assert min((one - other).abs().max() for one, other in pairwise(batch)) > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", **NAMES)
def test_half_precision_is_near(name, dtype, tmp_path):
    case = CASES[name]
    halved = in_type(dtype, made(name), tmp_path)
    result = case.result(halved)
    assert result.dtype == torch.float32 and result.isfinite().all()
    full, half = case.unrounded(shared(name)), case.unrounded(halved)
    assert (half - full).abs().mean() < 0.05 * full.abs().mean()


@pytest.mark.parametrize("name", **NAMES)
def test_a_tuple_instead_of_an_output(name):
    case, pipeline = CASES[name], shared(name)
    output, fields = case.call(pipeline, case.values), case.call(pipeline, case.values, return_dict=False)
    assert isinstance(output, Output) and isinstance(fields, tuple)
    assert all(same(value, output[key]) for key, value in zip(output, fields, strict=True))


@pytest.mark.parametrize("name", **NAMES)
def test_outputs_are_kept_in_files(name, tmp_path):
    case, pipeline = CASES[name], shared(name)
    calls = [case.call(pipeline, case.values[:2]), case.call(pipeline, case.values[2:])]
    output = type(calls[0]).joined(calls)
    files = output.save(tmp_path, ["one", "a red Cube!", ""])
    assert [Path(file).stem for file in files] == ["000-one", "001-a-red-cube", "002"]
    assert all((tmp_path / file).stat().st_size for file in files)
    with pytest.raises(ValueError):
        output.save(tmp_path, ["one"])


@pytest.mark.parametrize("name", **NAMES)
def test_progress_bar_reaches_its_end(name, capsys):
    pipeline = made(name)
    pipeline.set_progress_bar_config(disable=False)
    CASES[name].call(pipeline, CASES[name].values)
    total = re.findall(r"(\d+)/(\d+)", capsys.readouterr().err)[-1]
    assert total[0] == total[1] and int(total[1]) in (2, 3)  # steps or pictures


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [pytest.param(name, *row, id=f"{name[1]}-{row[1]}") for name, case in CASES.items() for row in case.refused],
)
def test_bad_input_is_refused_before_anything_runs(name, arguments, message, monkeypatch):
    refuses(shared(name), CASES[name], arguments, message, monkeypatch)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [pytest.param(name, *row, id=f"{name[1]}-{row[1]}") for name, case in CASES.items() for row in case.misfits],
)
def test_components_that_do_not_fit_are_refused(name, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        CASES[name].make(**changes)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", **NAMES)
def test_saving_and_loading_is_bit_exact(name, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_utils.logger, "warning", pytest.fail)
    pipeline, case = shared(name), CASES[name]
    pipeline.save_pretrained(tmp_path)
    again = realigned(type(pipeline).from_pretrained(tmp_path))
    assert torch.equal(case.result(again), case.result(pipeline))
    assert again.parameters == pipeline.parameters
    half = type(pipeline).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {model.dtype for model in models_of(half).values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", **NAMES)
def test_plain_diffusers_loads_the_repository(name, tmp_path, monkeypatch):
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    pipeline, case = shared(name), CASES[name]
    folder = save_repository(pipeline, tmp_path / "tiny", dtype=torch.float32, readme="a card")
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == METHODS[name[0]][name[1]].split(":")
    assert (folder / f"{index['_class_name'][0]}.py").is_file()
    loaded = realigned(DiffusionPipeline.from_pretrained(folder, trust_remote_code=True))
    assert type(loaded) is type(pipeline)
    assert torch.equal(case.result(loaded), case.result(pipeline))


@pytest.mark.parametrize("save", [DiffusionPipeline.save_pretrained, DiffusionPipeline.push_to_hub])
@pytest.mark.parametrize("name", **NAMES)
def test_plain_diffusers_loads_what_is_saved_or_pushed_and_saves_it_again(name, save, tmp_path, monkeypatch):
    """The Hub is a folder here: everything that would be uploaded is copied."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(hub_utils, "create_repo", lambda repo_id, **options: Path(repo_id))
    monkeypatch.setattr(Path, "repo_id", property(str), raising=False)
    monkeypatch.setattr(hub_utils, "load_or_create_model_card", lambda *given, **options: ModelCard(""))
    monkeypatch.setattr(
        DiffusionPipeline, "_upload_folder", lambda self, folder, place, **options: shutil.copytree(folder, place)
    )
    pipeline, case = shared(name), CASES[name]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    save(pipeline, first)
    save(DiffusionPipeline.from_pretrained(first, trust_remote_code=True), second)
    loaded = realigned(DiffusionPipeline.from_pretrained(second, trust_remote_code=True))
    assert type(loaded) is type(pipeline) and loaded.parameters == pipeline.parameters
    assert torch.equal(case.result(loaded), case.result(pipeline))
    once, twice = ({file.name: file.read_text() for file in Path(place).glob("*.*")} for place in (first, second))
    assert once == twice and once.keys() - {"README.md"} == {
        "model_index.json",
        f"{type(pipeline).__module__.rpartition('.')[2]}.py",
    }


@pytest.mark.parametrize("name", **NAMES)
def test_a_class_of_one_s_own_is_saved_under_its_name(name, tmp_path):
    pipeline = made(name)
    pipeline.__class__ = type("Mine", (type(pipeline),), {"__module__": "__main__"})
    pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == "Mine"
    assert not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize("name", **NAMES)
def test_offload_order_names_every_model(name):
    pipeline = shared(name)
    assert sorted(pipeline.model_cpu_offload_seq.split("->")) == sorted(models_of(pipeline))


# Pipelines that sample


@pytest.mark.parametrize("name", **SAMPLERS)
def test_defaults_are_those_of_the_class(name):
    pipeline, seen = shared(name), []

    def stop(pipe, step, timestep, tensors):
        seen.append((pipe.num_timesteps, pipe.guidance_scale))
        pipe._interrupt = True
        return tensors

    pipeline(**{CASES[name].argument: CASES[name].values[0]}, callback_on_step_end=stop)
    assert seen == [(pipeline.defaults.num_inference_steps, pipeline.defaults.guidance_scale)]
    given = {key: value.default for key, value in inspect.signature(type(pipeline).__call__).parameters.items()}
    assert vars(pipeline.defaults).items() <= given.items()


SAME_NUMBER = {"steps": "num_inference_steps", "guidance": "guidance_scale"}


def typed_numbers(tree: ast.AST) -> Iterator[tuple[str, float]]:
    """Names that get a number: by assignment, as a default, as a keyword of a call or in a dictionary."""
    for node in ast.walk(tree):
        pairs = []
        if isinstance(node, ast.Call):
            pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            pairs = [(getattr(key, "value", None), value) for key, value in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.arguments):
            names = [argument.arg for argument in (*node.posonlyargs, *node.args)]
            pairs = zip(reversed(names), reversed(node.defaults), strict=False)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name | ast.Tuple):
            names = getattr(node.targets[0], "elts", node.targets)
            values = getattr(node.value, "elts", [node.value])
            pairs = zip([getattr(name, "id", None) for name in names], values, strict=False)
        for name, value in pairs:
            if isinstance(name, str) and isinstance(value, ast.Constant) and isinstance(value.value, int | float):
                yield SAME_NUMBER.get(name.lower(), name.lower()), value.value


def test_no_default_is_typed_twice():
    """Only the class of a pipeline holds these numbers: contract, benchmark, Space and static page read them there."""
    defaults = {pair for name in SAMPLERS["argvalues"] for pair in vars(shared(name).defaults).items()}
    typed = {
        str(path.relative_to(ROOT))
        for folder in ("pipelines", "eval", "spaces", "model_cards")
        for path in (ROOT / folder).rglob("*.py")
        if defaults & set(typed_numbers(ast.parse(path.read_text())))
    }
    assert typed == {f"pipelines/{METHODS[slug][task].split(':')[0]}.py" for slug, task in SAMPLERS["argvalues"]}
    for page in (ROOT / "spaces").rglob("*.html"):
        assert not re.search(r'id="(steps|guidance)"[^>]*\bvalue=', page.read_text()), page


@pytest.mark.parametrize("name", **SAMPLERS)
def test_another_seed_or_another_wish_is_another_result(name):
    case, pipeline = CASES[name], shared(name)
    first = case.result(pipeline)
    assert not torch.equal(first, case.result(pipeline, generator=seeded(1)))
    assert not torch.equal(first, case.result(pipeline, case.values[1:2]))


@pytest.mark.parametrize("name", **SAMPLERS)
def test_one_generator_is_drawn_sample_after_sample(name):
    case, pipeline = CASES[name], shared(name)
    four, two = (
        case.result(pipeline, generator=torch.Generator().manual_seed(9), **{case.copies: count}) for count in (4, 2)
    )
    torch.testing.assert_close(four[:2], two, atol=1e-4, rtol=0)
    assert (four[0] - four[1]).abs().max() > 0.1


@pytest.mark.parametrize("name", **SAMPLERS)
def test_samples_of_one_wish_stand_together(name):
    case, pipeline = CASES[name], shared(name)
    pair = case.result(pipeline, case.values[:2], **{case.copies: 2}, generator=seeded(1, 2, 1, 2))
    alone = case.result(pipeline, case.values[1:2], **{case.copies: 2}, generator=seeded(1, 2))
    torch.testing.assert_close(pair[2:], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", **SAMPLERS)
def test_guidance_of_one_and_less_is_none(name):
    case, pipeline = CASES[name], shared(name)
    plain = case.result(pipeline, guidance_scale=1.0)
    assert torch.equal(plain, case.result(pipeline, guidance_scale=0))
    torch.testing.assert_close(plain, case.result(pipeline, guidance_scale=1.0001), atol=1e-3, rtol=0)
    assert not torch.allclose(plain, case.result(pipeline, guidance_scale=4.0), atol=1e-3)


@pytest.mark.parametrize("name", **SAMPLERS)
def test_callback_sees_and_replaces_tensors(name):
    case, pipeline, seen = CASES[name], shared(name), []

    def look(pipe, step, timestep, tensors):
        seen.append((step, {key: len(value) for key, value in tensors.items()}))
        assert pipe.num_timesteps == 2
        return tensors

    options = {"callback_on_step_end": look, "callback_on_step_end_tensor_inputs": list(case.watched)}
    plain = case.result(pipeline, case.values[:2])
    assert torch.equal(case.result(pipeline, case.values[:2], **options), plain)
    rows = {key: 2 * count for key, count in case.watched.items()}
    assert seen == [(0, rows), (1, rows)]

    def forget(pipe, step, timestep, tensors):
        return {key: 0 * value for key, value in tensors.items()}

    names = {"callback_on_step_end_tensor_inputs": [next(iter(case.watched))]}
    changed = case.result(pipeline, case.values[:2], callback_on_step_end=forget, **names)
    assert not torch.allclose(changed, plain, atol=1e-3)


@pytest.mark.parametrize("name", **SAMPLERS)
def test_interrupt_stops_after_the_running_step(name):
    case, pipeline, steps = CASES[name], shared(name), []

    def stop(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = step == 2
        return tensors

    case.call(pipeline, num_inference_steps=9, callback_on_step_end=stop)
    assert steps == [0, 1, 2] and pipeline.interrupt
    case.call(pipeline)
    assert not pipeline.interrupt


@pytest.mark.parametrize("name", **SAMPLERS)
def test_guidance_may_be_cut_off_on_the_way(name):
    case, pipeline = CASES[name], shared(name)

    def cut(pipe, step, timestep, tensors):
        pipe._guidance_scale = 1.0
        return tensors

    shortened = case.result(pipeline, case.values[:2], callback_on_step_end=cut)
    assert not torch.equal(shortened, case.result(pipeline, case.values[:2]))
    assert not torch.equal(shortened, case.result(pipeline, case.values[:2], guidance_scale=1.0))


@pytest.mark.parametrize("name", **SAMPLERS)
def test_threads_that_share_a_pipeline_draw_what_each_draws_alone(name):
    case, pipeline = CASES[name], made(name)
    wishes = [(value, 2.0**power, 1 + power) for power, value in enumerate(case.values, start=1)]
    meet, seen = Barrier(len(wishes), timeout=60), {}

    def draw(wish, together):
        value, guidance, steps = wish

        def look(pipe, step, timestep, tensors):
            if together and step == 0:
                meet.wait()  # every call has begun, and none has ended
            seen.setdefault((together, guidance), []).append((pipe.guidance_scale, pipe.num_timesteps))
            return {}

        options = {"guidance_scale": guidance, "num_inference_steps": steps, "callback_on_step_end": look}
        return case.result(pipeline, [value], **options)

    alone = [draw(wish, together=False) for wish in wishes]
    with ThreadPoolExecutor(len(wishes)) as pool:
        drawn = list(pool.map(draw, wishes, [True] * len(wishes)))
    for ours, theirs in zip(drawn, alone, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert seen == {
        (together, guidance): [(guidance, steps)] * steps for together in (False, True) for _, guidance, steps in wishes
    }


@pytest.mark.parametrize("name", **SAMPLERS)
def test_a_call_within_a_callback_leaves_the_outer_call_as_it_is(name):
    case, pipeline = CASES[name], shared(name)

    def preview(pipe, step, timestep, tensors):
        case.call(pipe, num_inference_steps=1, guidance_scale=1.0)
        assert (pipe.guidance_scale, pipe.num_timesteps) == (4.0, 3)
        return {}

    wish = {"num_inference_steps": 3, "guidance_scale": 4.0}
    assert torch.equal(case.result(pipeline, **wish, callback_on_step_end=preview), case.result(pipeline, **wish))


@pytest.mark.parametrize("name", **SAMPLERS)
def test_another_thread_may_interrupt(name):
    case, pipeline, steps = CASES[name], shared(name), []

    def watch(pipe, step, timestep, tensors):
        steps.append(step)
        thread = Thread(target=setattr, args=(pipe, "_interrupt", True))
        thread.start()
        thread.join()
        return {}

    case.call(pipeline, num_inference_steps=9, callback_on_step_end=watch)
    assert steps == [0]


@pytest.mark.parametrize("name", **SAMPLERS)
def test_bad_sampling_is_refused_before_anything_runs(name, monkeypatch):
    pipeline, case = shared(name), CASES[name]
    for arguments, message in (
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number of at least 1, not 0"),
        ({"num_inference_steps": 2.5}, "num_inference_steps"),
        ({case.copies: 0}, f"{case.copies} must be"),
        ({"guidance_scale": -1}, "guidance_scale must be a number of at least 0, not -1"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"output_type": "jpg"}, "output_type must be one of .*, not 'jpg'"),
        ({"generator": [torch.Generator()] * 2}, "generator is a list of 2, but 1 samples"),
        ({"generator": 0}, "generator must be a torch.Generator"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, f"must be one of .*{next(iter(case.watched))}, "),
    ):
        refuses(pipeline, case, arguments, message, monkeypatch)


@pytest.mark.parametrize("name", **SAMPLERS)
def test_a_request_becomes_calls(name):
    case, pipeline = CASES[name], shared(name)
    wishes = tuple(map(str, case.values[:2]))
    drawn = generate(
        pipeline, ImageRequest(wishes, num_inference_steps=2, num_images_per_prompt=2, seed=3, arguments=case.short)
    )
    numbers = case.numbers(drawn.output)
    assert len(numbers) == 4 and drawn.seeds == (3, 4, 5, 6)
    alone = case.numbers(case.call(pipeline, case.values[1:2], generator=seeded(6)))[0]
    assert (numbers[3] - alone).abs().max() < 1.01 / 255 < (numbers[2] - alone).abs().max()


# Pipelines that draw


@pytest.mark.parametrize("name", **IMAGE_SAMPLERS)
def test_a_picture_has_the_size_of_the_class(name):
    case, pipeline = CASES[name], shared(name)
    (image,) = case.call(pipeline, num_inference_steps=1).images
    assert image.size == (pipeline.default_size,) * 2


@pytest.mark.parametrize("name", **IMAGE_SAMPLERS)
def test_pictures_have_their_shapes_and_ranges(name):
    case, pipeline = CASES[name], shared(name)
    height, width = 3 * pipeline.size_multiple, 2 * pipeline.size_multiple

    def draw(kind):
        output = case.call(pipeline, height=height, width=width, output_type=kind)
        assert isinstance(output, ImageOutput)
        return output.images

    tensor, array, (image,), latents = map(draw, ("pt", "np", "pil", "latent"))
    assert (tensor.shape, tensor.dtype) == ((1, 3, height, width), torch.float32)
    assert 0 <= tensor.min() < tensor.max() <= 1
    assert (array.shape, array.dtype) == ((1, height, width, 3), np.float32)
    assert np.allclose(array, tensor.permute(0, 2, 3, 1))
    assert isinstance(image, Image.Image) and image.size == (width, height) and image.mode == "RGB"
    assert np.abs(np.asarray(image) / 255 - array[0]).max() <= 0.5 / 255 + 1e-6
    factor = pipeline.vae_scale_factor
    shape = (1, pipeline.unet.config.in_channels, height // factor, width // factor)
    assert (latents.shape, latents.dtype) == (shape, torch.float32)


@pytest.mark.parametrize("name", **IMAGE_SAMPLERS)
def test_latents_may_be_given(name):
    case, pipeline = CASES[name], shared(name)
    height = 3 * pipeline.size_multiple
    shape = (1, pipeline.unet.config.in_channels, height // pipeline.vae_scale_factor, pipeline.unet.config.sample_size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(case.result(pipeline, latents=noise), case.result(pipeline, height=height))


@pytest.mark.parametrize("name", **IMAGE_SAMPLERS)
def test_callback_has_the_last_word_on_latents(name):
    case, pipeline, times = CASES[name], shared(name), []

    def zero_at_the_end(pipe, step, timestep, tensors):
        times.append(float(timestep))
        return {"latents": tensors["latents"] * 0} if step == 1 else {}

    latents = case.result(pipeline, callback_on_step_end=zero_at_the_end)
    assert torch.equal(latents, torch.zeros_like(latents)) and times[0] > times[1]


@pytest.mark.parametrize("name", **IMAGE_SAMPLERS)
def test_bad_sizes_and_latents_are_refused_before_anything_runs(name, monkeypatch):
    pipeline, case = shared(name), CASES[name]
    side, multiple, factor = pipeline.default_size, pipeline.size_multiple, pipeline.vae_scale_factor
    odd = 2 * multiple + 1
    shape = [1, pipeline.unet.config.in_channels, side // factor, side // factor]
    latents = torch.zeros(shape)
    wanted = re.escape(f"latents must be {shape}")
    between = (
        [({"latents": latents[:, :, :-1]}, f"height must be a multiple of {multiple}")] if multiple > factor else []
    )
    for arguments, message in (
        ({"height": odd}, f"height must be a multiple of {multiple} pixels, not {odd}: the nearest is {odd - 1} or "),
        ({"width": 0}, "width must be a whole number of at least 1"),
        ({"width": "8"}, "width must be a whole number"),
        ({"output_type": "jpg"}, "output_type must be one of pil, np, pt, latent, not 'jpg'"),
        ({"latents": latents.repeat(2, 1, 1, 1)}, wanted),
        ({"latents": latents[:, :-1]}, wanted),
        ({"latents": latents, "height": side + multiple}, "latents must be"),
        ({"latents": latents[:, :, :-1], "height": side}, "latents must be"),
        *between,
        ({"latents": torch.zeros(4)}, rf"{wanted}, not \[4\]"),
    ):
        refuses(pipeline, case, arguments, message, monkeypatch)


# Pipelines that look at pictures


@pytest.mark.parametrize("name", **RECOGNIZERS)
def test_size_of_batches_does_not_change_the_result(name):
    case, pipeline = CASES[name], shared(name)
    whole = case.result(pipeline, case.values)
    torch.testing.assert_close(case.result(pipeline, case.values, batch_size=2), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", **RECOGNIZERS)
def test_every_kind_of_picture_gives_one_result(name):
    case, pipeline = CASES[name], shared(name)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    expected = case.result(pipeline, [tensor])
    for picture in (pixels, Image.fromarray(pixels), pixels.astype(np.float32) / 255):
        torch.testing.assert_close(case.result(pipeline, [picture]), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(case.numbers(pipeline, tensor), expected)
    assert torch.equal(case.numbers(pipeline, tensor[None]), expected)


@pytest.mark.parametrize("name", **RECOGNIZERS)
def test_image_size_is_a_setting(name):
    pipeline, seen = CASES[name].make(image_size=48), []
    pipeline.model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    CASES[name].call(silent(pipeline))
    assert seen == [(1, 3, 48, 48)]


@pytest.mark.parametrize("name", **RECOGNIZERS)
def test_no_text_is_drawn(name):
    with pytest.raises(ValueError, match=f"{type(shared(name)).__name__} makes no pictures, it looks at them: use"):
        generate(shared(name), ImageRequest(("a red cube",)))


@pytest.mark.parametrize("name", **RECOGNIZERS)
def test_bad_pictures_are_refused_before_anything_runs(name, monkeypatch):
    picture = CASES[name].values[0]
    for arguments, message in (
        ({"images": []}, "images is empty"),
        ({"images": [picture, "no.png"]}, r"images\[1\]: there is no picture file at no.png"),
        ({"images": [picture, None]}, r"images\[1\] must be a PIL picture"),
        ({"images": np.full((4, 4, 3), np.nan)}, "holds NaN"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
    ):
        refuses(shared(name), CASES[name], arguments, message, monkeypatch)


@pytest.mark.parametrize("name", **RECOGNIZERS)
def test_a_model_in_training_is_refused(name, monkeypatch):
    pipeline = made(name)
    pipeline.model.train()
    refuses(pipeline, CASES[name], {}, r"training mode.*call model.eval\(\) first", monkeypatch)


# Pipelines that show a scene


@pytest.mark.parametrize("name", **SCENES)
def test_renderings_have_their_shapes_and_ranges(name):
    case, pipeline = CASES[name], shared(name)
    side = case.pixels
    tensor, array, pictures = (case.call(pipeline, case.values, output_type=kind) for kind in ("pt", "np", "pil"))
    assert isinstance(tensor, ImageOutput)
    assert (tensor.images.shape, tensor.images.dtype) == ((3, 3, side, side), torch.float32)
    assert 0 <= tensor.images.min() < tensor.images.max() <= 1
    assert np.array_equal(array.images, tensor.images.permute(0, 2, 3, 1).numpy())
    assert all(image.size == (side, side) and image.mode == "RGB" for image in pictures.images)


@pytest.mark.parametrize("name", **SCENES)
def test_without_cameras_a_path_around_the_scene_is_shown(name):
    images = shared(name)(num_frames=3, output_type="pt", **CASES[name].path).images
    assert images.shape == (3, 3, 16, 24) and (images[0] - images[1]).abs().max() > 1e-3
    assert images.flatten(1).std(1).min() > 1e-3


@pytest.mark.parametrize("name", **SPLATS)
def test_renderings_of_splats_have_depths_where_they_cover(name):
    case = CASES[name]
    shown = case.call(shared(name), case.values)
    assert isinstance(shown, RenderingOutput)
    assert shown.depths.shape == shown.alphas.shape == (3, case.pixels, case.pixels)
    assert 0 <= shown.alphas.min() < shown.alphas.max() <= 1 and shown.depths.min() >= 0
    assert (shown.depths[shown.alphas > 0.5] > 0).all()


@pytest.mark.parametrize("name", **SPLATS)
def test_what_nothing_covers_is_the_background(name):
    case, pipeline = CASES[name], shared(name)
    black, red = (case.call(pipeline, output_type="pt", background=name) for name in ("black", "red"))
    through = 1 - black.alphas[:, None] * torch.ones(3, 1, 1)
    torch.testing.assert_close(red.images, black.images + through * torch.tensor([1.0, 0, 0])[:, None, None])


@pytest.mark.parametrize("name", **SCENES)
def test_a_scene_draws_no_text(name):
    with pytest.raises(ValueError, match=f"{type(shared(name)).__name__} draws no texts, it shows one scene: use"):
        generate(shared(name), ImageRequest(("a red cube",)))


@pytest.mark.parametrize("name", **SCENES)
def test_bad_cameras_are_refused_before_anything_runs(name, monkeypatch):
    case, pipeline = CASES[name], shared(name)
    good = case.cameras(case.values)
    for arguments, message in (
        ({"cameras": case.values[0]}, "cameras must be `Cameras`, not Tensor"),
        ({"cameras": replace(good, viewmats=2 * good.viewmats)}, r"viewmats\[0\] is no world-to-camera matrix"),
        ({"cameras": replace(good, viewmats=good.viewmats * torch.nan)}, "viewmats must be finite"),
        ({"cameras": replace(good, Ks=-good.Ks)}, r"Ks\[0\] is no matrix of intrinsics"),
        ({"cameras": replace(good, Ks=good.Ks[:2])}, r"Ks must be \[3, 3, 3\], not \[2, 3, 3\]"),
        ({"cameras": good.select(torch.arange(0))}, "viewmats must be"),
        ({"cameras": replace(good, width=0)}, "width must be a whole number of at least 1, not 0"),
        ({"num_frames": 0}, "num_frames must be a whole number of at least 1, not 0"),
        ({"output_type": "latent"}, "output_type must be one of pil, np, pt, not 'latent'"),
    ):
        refuses(pipeline, case, arguments, message, monkeypatch)


# Pipelines that move a body

FRAMES, FEW = 20, OptimizationSteps(2, 4)


def held(joint: int = 0, place: tuple[float, float, float] = (0.3, 1.0, 0.4), frames: int = FRAMES) -> MotionControls:
    """A joint at one place in the middle of a clip and at its end."""
    targets, mask = torch.zeros(frames, 22, 3), torch.zeros(frames, 22, dtype=torch.bool)
    at = [frames // 2, frames - 1]
    targets[at, joint], mask[at, joint] = torch.tensor(place), True
    return MotionControls(targets, mask)


def close(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", **MOTIONS)
def test_motions_have_their_shapes_and_units(name):
    case, pipeline = CASES[name], shared(name)
    tensors, arrays = (case.call(pipeline, case.values, output_type=kind) for kind in ("pt", "np"))
    assert isinstance(tensors, MotionOutput) and tensors.controls is None
    shapes = {"joints": (FRAMES, 22, 3), "features": (FRAMES, 263), "contacts": (FRAMES, 4)}
    for part, shape in shapes.items():
        assert len(tensors[part]) == len(case.values)
        assert all(one.shape == shape and one.dtype == torch.float32 for one in tensors[part])
        assert all(np.array_equal(*pair) for pair in zip(arrays[part], tensors[part], strict=True))
    for joints, features, contacts in zip(*(tensors[part] for part in shapes), strict=True):
        assert not joints[0, 0, [0, 2]].any(), "a clip starts above the origin"
        torch.testing.assert_close(joints[:, :, 1], torch.cat([features[:, 3:4], features[:, 5:67:3]], 1))
        steps = joints[1:, 0, [0, 2]] - joints[:-1, 0, [0, 2]]  # in metres, as the features have them in other axes
        torch.testing.assert_close(steps.norm(dim=-1), features[:-1, 1:3].norm(dim=-1), atol=1e-5, rtol=1e-4)
        assert contacts.min() >= 0 and contacts.max() <= 1


@pytest.mark.parametrize("name", **MOTIONS)
def test_every_motion_has_its_length(name):
    """Its own of a list, that of its controls, or one that is drawn, and is the same beside others."""
    case, pipeline = CASES[name], shared(name)
    lengths, controls = [24, None, None], [None, held(frames=29), None]
    made = case.call(pipeline, case.values, length=lengths, controls=controls, optimization=FEW)
    drawn = len(made.joints[2])
    assert [len(one) for one in made.joints] == [24, 29, drawn] and 20 <= drawn <= 196
    alone = case.call(pipeline, case.values[2:], length=None, generator=seeded(2))
    close(alone.joints, made.joints[2:])
    longest = case.call(pipeline, case.values[:2], length=[24, 196], num_inference_steps=1)
    shorter = case.call(pipeline, case.values[:1], length=24, num_inference_steps=1)
    close(shorter.joints, longest.joints[:1])


@pytest.mark.parametrize("name", **MOTIONS)
def test_free_motions_do_not_depend_on_controlled_ones(name):
    case, pipeline = CASES[name], shared(name)
    free = case.result(pipeline, case.values)
    mixed = case.call(pipeline, case.values, controls=[None, held(), None], optimization=FEW)
    assert mixed.controls[0] is None is mixed.controls[2] and isinstance(mixed.controls[1], MotionControls)
    close([mixed.features[0], mixed.features[2]], [free[0], free[2]])
    assert (mixed.features[1] - free[1]).abs().max() > 0.01


@pytest.mark.parametrize("name", **MOTIONS)
def test_a_controlled_motion_does_not_depend_on_its_batch(name):
    case, pipeline = CASES[name], shared(name)
    controls = [held(), held(20, (0.5, 1.2, 0.2), frames=FRAMES + 9), held(15)]
    together = case.call(pipeline, case.values, length=None, controls=controls, optimization=FEW)
    for index, value in enumerate(case.values):
        wish = {"length": None, "controls": controls[index], "optimization": FEW, "generator": seeded(index)}
        close(case.call(pipeline, [value], **wish).joints, together.joints[index : index + 1])
    one_for_all = case.call(pipeline, case.values, controls=held(), optimization=FEW)
    assert len(one_for_all.controls) == len(case.values)
    close(one_for_all.joints[:1], together.joints[:1])


@pytest.mark.parametrize("name", **MOTIONS)
def test_what_is_optimised_comes_nearer_to_its_targets(name):
    case, pipeline, controls = CASES[name], shared(name), held()

    def away(steps):
        joints = case.call(pipeline, controls=controls, optimization=steps).joints[0]
        return (joints - controls.targets)[controls.mask].norm(dim=-1).mean()

    assert away(OptimizationSteps(0, 30)) < 0.5 * away(OptimizationSteps(0, 0))


@pytest.mark.parametrize("name", **MOTIONS)
def test_bad_controls_are_refused_before_anything_runs(name, monkeypatch):
    for arguments, message in (
        ({"length": 19}, "length must be 20 to 196 frames, not 19"),
        ({"length": [20, 20]}, "length is a list of 2, but there are 1 prompts"),
        ({"length": 20.0}, r"length must be int, a list of them or None, not 20\.0"),
        ({"controls": held(frames=10)}, "length must be 20 to 196 frames, not 10"),
        ({"controls": held(frames=60), "length": 40}, "length must be more than 59, the last frame that is controlled"),
        ({"controls": [held(), None]}, "controls is a list of 2, but there are 1 prompts"),
        ({"controls": torch.zeros(20, 22, 3)}, "controls must be MotionControls, a list of them or None, not Tensor"),
        ({"controls": held(), "optimization": "slow"}, "optimization must be one of fast, balanced, accurate, not"),
        ({"objective": 3}, "objective must be a callable of joints and valid frames, not 3"),
    ):
        refuses(shared(name), CASES[name], arguments, message, monkeypatch)
