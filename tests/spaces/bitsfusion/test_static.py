"""The page that decodes packed weights and draws with them: its scripts against Python and diffusers, and the whole."""

import json
import math
import os
import shutil
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from damaged_files import damaged
from diffusers import DDIMScheduler, UNet2DConditionModel
from pages import PATIENCE, site_of
from PIL import Image
from safetensors.torch import load, save
from tiny_bitsfusion import OPTIONS, make_pipeline, packed

from pocket_diffusers.hub_models.layers.radix_packing import digits_per_word, pack_digits
from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig
from pocket_diffusers.pipelines.export.packed_graph import take_weights_out
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.spaces import build_static
from pocket_diffusers.spaces.build_static import SHARED

HOSTILE_CASES = int(os.environ.get("POCKET_HOSTILE_CASES", "1000")) // 5
BASES = (3, 5, 9, 17, 33, 65, 129, 256)
NANO_WEIGHTS, MOST_SECONDS = 2_700_000, 1.0
WEIGHTS = "diffusion_pytorch_model.safetensors"
HELPERS = """
    const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const base64 = (array) => new Promise((resolve) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result.split(",")[1]);
        reader.readAsDataURL(new Blob([array]));
    });
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, serve_folder) -> str:
    """The shared scripts alone, on a page that forbids nothing."""
    folder = tmp_path_factory.mktemp("scripts")
    for script in SHARED.glob("*.js"):
        shutil.copyfile(script, folder / script.name)
    (folder / "index.html").write_text("<!doctype html><title>blank</title>")
    return serve_folder(folder)


def text_of(data: bytes) -> str:
    return b64encode(data).decode()


def unpack(page, asked: list[tuple[bytes, int, int]]) -> list[np.ndarray | str]:
    """Digits of (words, count, base), or the sentence that the browser says."""
    code = f"""async (asked) => {{
        {HELPERS}
        const {{ unpackDigits }} = await import("/radix_unpacking.js");
        return Promise.all(asked.map(async ([words, count, base]) => {{
            try {{ return [await base64(unpackDigits(bytesOf(words), count, base))]; }} catch (error) {{
                return error.message;
            }}
        }}));
    }}"""
    found = page.evaluate(code, [[text_of(words), count, base] for words, count, base in asked])
    return [said if isinstance(said, str) else np.frombuffer(b64decode(said[0]), np.uint8) for said in found]


def test_digits_of_any_base_and_length_are_python_s(scripts, open_page):
    draw, expected, asked = torch.Generator().manual_seed(0), [], []
    for base in BASES:
        per_word = digits_per_word(base)
        for count in (0, 1, per_word - 1, per_word, per_word + 1, 5 * per_word + 3, 1000):
            digits = torch.randint(base, (count,), generator=draw, dtype=torch.uint8)
            expected += [digits.numpy(), np.full(count, base - 1, np.uint8)]
            asked += [(pack_digits(torch.from_numpy(d), base).numpy().tobytes(), count, base) for d in expected[-2:]]
    for (_, count, base), found, digits in zip(asked, unpack(open_page(scripts), asked), expected, strict=True):
        assert isinstance(found, np.ndarray), (base, count, found)
        np.testing.assert_array_equal(found, digits, err_msg=f"{count} digits of base {base}")


def test_words_that_hold_other_digits_are_refused_as_python_does(scripts, open_page):
    whole = pack_digits(torch.full((54,), 4, dtype=torch.uint8), 5).numpy()
    too_large = np.array([-1, whole[1]]).tobytes()
    one_digit_more = pack_digits(torch.tensor([0] * 27 + [1] * 27, dtype=torch.uint8), 5).numpy().tobytes()
    asked = [
        (whole.tobytes(), 54, 5), (too_large, 54, 5), (one_digit_more, 53, 5), (whole.tobytes()[:-1], 54, 5),
        (whole.tobytes(), 55, 5), (whole.tobytes(), 27, 5),
    ]  # fmt: skip
    right, *said = unpack(open_page(scripts), asked)
    assert (right == 4).all() and len(right) == 54
    assert said == [
        "Packed words must hold 27 digits of base 5.",
        "Packed words must hold 26 digits of base 5.",
        "Packed words must be 16 bytes for 54 digits of base 5, not 15.",
        "Packed words must be 24 bytes for 55 digits of base 5, not 16.",
        "Packed words must be 8 bytes for 27 digits of base 5, not 16.",
    ]


def test_the_nano_model_s_weights_take_less_than_a_second(scripts, open_page):
    words = pack_digits(torch.randint(5, (NANO_WEIGHTS,), dtype=torch.uint8), 5).numpy().tobytes()
    code = f"""async ([text, count]) => {{
        {HELPERS}
        const {{ unpackDigits }} = await import("/radix_unpacking.js");
        const words = bytesOf(text);
        const start = performance.now();
        unpackDigits(words, count, 5);
        return (performance.now() - start) / 1000;
    }}"""
    assert open_page(scripts).evaluate(code, [text_of(words), NANO_WEIGHTS]) < MOST_SECONDS


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> tuple[UNet2DConditionModel, bytes]:
    """A little UNet with layers of many kinds and bits, as it is loaded from a file, and the file."""
    torch.manual_seed(0)
    bits = {"conv_in": 8, "mid_block.resnets.0.conv1": 1, "mid_block.resnets.0.conv2": 6, "conv_out": 4}
    place = tmp_path_factory.mktemp("unet")
    packed(UNet2DConditionModel(**OPTIONS), BitsFusionConfig(bits, 2, cached_timesteps=[1, 501])).save_pretrained(place)
    return UNet2DConditionModel.from_pretrained(place).eval(), (place / WEIGHTS).read_bytes()


def graph_of(network: UNet2DConditionModel) -> onnx.ModelProto:
    """As exporters make it: matrices are transposed, and some weights have other names."""
    tensors = {"table": network.time_proj.projections, "sizes": torch.tensor([1, 2, 3]), "one": torch.ones(())}
    for module in network.modules():
        if hasattr(module, "words"):
            weight = module.rounded_weight()
            tensors[f"val_{len(tensors)}"] = weight.T.contiguous() if weight.ndim == 2 else weight
    tensors |= {name: parameter.detach() for name, parameter in network.named_parameters()}
    made = [onnx.numpy_helper.from_array(tensor.numpy(), name) for name, tensor in tensors.items()]
    return onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [], made))


@pytest.fixture(scope="module")
def split(network, tmp_path_factory) -> tuple[dict, bytes]:
    """The layout of the graph's external data, and the data by the graph's own numbers."""
    folder, graph = tmp_path_factory.mktemp("graph"), graph_of(network[0])
    onnx.save(graph, folder / "whole.onnx")
    layout = take_weights_out(folder / "whole.onnx", network[0], folder / "bare.onnx", "weights")
    outside = {
        item.name
        for item in onnx.load(folder / "bare.onnx", load_external_data=False).graph.initializer
        if item.data_location == onnx.TensorProto.EXTERNAL
    }
    arrays = [onnx.numpy_helper.to_array(item) for item in graph.graph.initializer if item.name in outside]
    return layout, b"".join(array.tobytes() for array in arrays)


def decode(page, files: list[bytes], layout: dict) -> list[bytes | str]:
    """External data out of packed files, or the sentence that the browser says."""
    code = f"""async ([files, layout]) => {{
        {HELPERS}
        const {{ unpackWeights }} = await import("/packed_weights.js");
        return Promise.all(files.map(async (file) => {{
            try {{ return [await base64(unpackWeights(bytesOf(file), layout))]; }} catch (error) {{
                return error.message;
            }}
        }}));
    }}"""
    found = page.evaluate(code, [[text_of(file) for file in files], layout])
    return [said if isinstance(said, str) else b64decode(said[0]) for said in found]


def test_weights_are_those_that_python_decodes_bit_for_bit(scripts, open_page, network, split):
    layout, expected = split
    layers = [entry for entry in layout["tensors"] if "bits" in entry]
    assert {entry["bits"] for entry in layers} == {1, 2, 4, 6, 8} and {entry["transposed"] for entry in layers} == {
        False,
        True,
    }
    assert len(layers) < len(layout["tensors"])
    found = decode(open_page(scripts), [network[1]], layout)[0]
    assert not isinstance(found, str), found
    assert found == expected and len(found) == layout["bytes"] > 100_000


def test_damaged_files_are_decoded_or_refused_with_one_sentence(scripts, open_page, network, split):
    """Of one layer, so that damage meets all of it."""
    layout, data = split
    whole = load(network[1])
    file = save({name: tensor for name, tensor in whole.items() if name.startswith("mid_block.resnets.0.conv1.")})
    entries = [entry for entry in layout["tensors"] if entry["name"].startswith("mid_block.resnets.0.conv1")]
    assert [entry["name"] for entry in entries] == ["mid_block.resnets.0.conv1", "mid_block.resnets.0.conv1.bias"]
    expected = b"".join(data[entry["offset"] : entry["offset"] + entry["length"]] for entry in entries)
    at = [0, entries[0]["length"]]
    moved = [{**entry, "offset": offset} for entry, offset in zip(entries, at, strict=True)]
    layout = {"bytes": len(expected), "tensors": moved}
    draw = np.random.default_rng(0)
    right, *found = decode(open_page(scripts), [file, *(damaged(file, draw) for _ in range(HOSTILE_CASES))], layout)
    assert right == expected
    refused = [said for said in found if isinstance(said, str)]
    assert HOSTILE_CASES / 4 < len(refused) < HOSTILE_CASES
    for said in refused:
        assert " must " in said and said.endswith(".") and "\n" not in said, said
    assert {len(found) for found in found if not isinstance(found, str)} == {layout["bytes"]}


def test_timesteps_and_steps_are_diffusers(scripts, open_page):
    common = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    variants = [{"set_alpha_to_one": False, "steps_offset": 1}, {}, {"num_train_timesteps": 60, "beta_end": 0.3}]
    cases = [(DDIMScheduler(**{**common, **options}), steps) for options in variants for steps in (1, 7, 50)]
    draw = torch.Generator().manual_seed(0)
    noises = torch.randn(51, 24, generator=draw)
    code = """async ([cases, latents, noises]) => {
        const { Ddim } = await import('/ddim.js');
        return cases.map(([config, steps]) => {
            const scheduler = new Ddim(config, steps);
            let now = Float32Array.from(latents);
            for (let i = 0; i < steps; i++) now = scheduler.step(now, Float32Array.from(noises[i]), i);
            return [Array.from(scheduler.timesteps), Array.from(now)];
        });
    }"""
    asked = [[dict(scheduler.config), steps] for scheduler, steps in cases]
    found = open_page(scripts).evaluate(code, [asked, noises[50].tolist(), noises[:50].tolist()])
    for (scheduler, steps), (timesteps, latents) in zip(cases, found, strict=True):
        scheduler.set_timesteps(steps)
        assert timesteps == scheduler.timesteps.tolist()
        expected = noises[50]
        for i, timestep in enumerate(scheduler.timesteps):
            expected = scheduler.step(noises[i], timestep, expected, return_dict=False)[0]
        torch.testing.assert_close(torch.tensor(latents), expected, rtol=2e-4, atol=2e-4)


def test_a_scheduler_with_other_settings_is_refused(scripts, open_page):
    code = """async () => {
        const { Ddim } = await import('/ddim.js');
        const known = { beta_start: 0.1, beta_end: 0.2, num_train_timesteps: 10, beta_schedule: "scaled_linear" };
        const others = [{ prediction_type: "v_prediction" }, { clip_sample: true }, { timestep_spacing: "trailing" }];
        return others.map((other) => {
            try { new Ddim({ ...known, ...other }, 2); } catch (error) { return error.message; }
        });
    }"""
    assert open_page(scripts).evaluate(code) == [
        "scheduler: prediction_type must be epsilon here, not v_prediction.",
        "scheduler: clip_sample must be false here, not true.",
        "scheduler: timestep_spacing must be leading here, not trailing.",
    ]


def test_weights_that_are_not_packed_are_refused(tmp_path, monkeypatch):
    model, bundle = save_repository(make_pipeline(), tmp_path / "full"), tmp_path / "bundle"
    bundle.mkdir()
    for name in ("contract.json", "unet.onnx"):
        (bundle / name).write_text("{}")
    (bundle / "run.json").write_text(json.dumps({"inputs": {"model": str(model)}}))
    monkeypatch.setattr(build_static, "copy_runtime", lambda folder, scratch: folder.mkdir())
    with pytest.raises(
        ValueError, match=r"model '.*full' must have packed weights for this page: `pocket quantize` makes"
    ):
        build_static.build_static("bitsfusion", tmp_path / "site", bundle=bundle)
    assert not (tmp_path / "site").exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return site_of("bitsfusion", tmp_path_factory)


@pytest.fixture(scope="module")
def site_address(site, serve_folder) -> str:
    return serve_folder(site)


def wait_for(page, words: str) -> None:
    page.get_by_text(words).first.wait_for(timeout=PATIENCE)


def test_what_travels_is_the_packed_file_and_a_graph_without_weights(site):
    packed_file = (site / "model" / "unet.safetensors").read_bytes()
    layout = json.loads((site / "model" / "packed.json").read_text())["unet"]
    pipeline = load_pipeline("bitsfusion")
    assert packed_file == (Path(pipeline.unet.config._name_or_path) / WEIGHTS).read_bytes()
    assert layout["file_bytes"] == len(packed_file)
    assert layout["graph_bytes"] == (site / "model" / "unet.onnx").stat().st_size < 150_000
    assert layout["parameters"] == 2_682_672
    assert len(packed_file) < 2 * layout["parameters"] / 5


def test_the_browser_draws_what_python_draws_and_shows_the_sizes(site, site_address, open_page, tmp_path):
    page = open_page(site_address)
    page.locator("#draw:enabled").wait_for()
    size = (site / "model" / "unet.safetensors").stat().st_size
    assert page.locator("#packed").inner_text() == f"{size:,} bytes"
    assert page.locator("#half").inner_text() == "5,365,344 bytes"
    assert page.locator("#ratio").inner_text() == f"{math.floor(10 * 5_365_344 / size + 0.5) / 10:.1f} times smaller"
    page.locator("summary").click()
    page.get_by_label("New seed each time").uncheck()
    page.get_by_label("Negative prompt").fill("a blue sphere")
    for label, value in {"Steps": 5, "Guidance": 4, "Seed": 11}.items():
        page.get_by_label(label, exact=False).first.fill(str(value))
    page.get_by_label("Prompt", exact=True).fill("a red cube")
    page.get_by_role("button", name="Draw", exact=True).click()
    wait_for(page, "1 picture in")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "browser.png")
    drawn = np.asarray(Image.open(tmp_path / "browser.png").convert("RGB"), dtype=int)
    generator = torch.Generator().manual_seed(11)
    options = {"num_inference_steps": 5, "guidance_scale": 4.0, "generator": generator}
    expected = np.asarray(load_pipeline("bitsfusion")("a red cube", "a blue sphere", **options).images[0], dtype=int)
    assert abs(drawn - expected).max() <= 2


def test_steps_that_are_not_cached_are_refused_on_the_page(site_address, open_page):
    page = open_page(site_address)
    page.locator("#draw:enabled").wait_for()
    page.locator("summary").click()
    page.get_by_label("Steps").fill("7")
    page.get_by_role("button", name="a green cone").click()
    wait_for(page, "Steps must be one of 1, 2, 5, 10, 25, 48, 49, 50, whose timesteps are in the packed file, not 7.")


def test_a_packed_file_that_is_damaged_is_said(site, tmp_path, serve_folder, open_page):
    shutil.copytree(site, tmp_path / "site")
    weights = tmp_path / "site" / "model" / "unet.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    page = open_page(serve_folder(tmp_path / "site"))
    wait_for(page, "The model could not be loaded: A safetensors file must hold its tensors one after another")
