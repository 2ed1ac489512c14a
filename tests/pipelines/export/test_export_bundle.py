"""A bundle: complete, checked, and enough for an app that has never seen our code."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from pocket_diffusers import checkpoint, cli
from pocket_diffusers.pipelines.export import parity, stand_ins
from pocket_diffusers.pipelines.export.back_ends import PRECISIONS, back_end_module
from pocket_diffusers.pipelines.export.export_bundle import (
    bytes_of,
    export_pipeline,
    model_digest,
    sha256,
    source_of,
)

COMPONENTS = ("text_encoder", "unet", "vae_decoder")


@pytest.mark.parametrize(("fixture", "suffix"), [("onnx_bundle", ".onnx"), ("executorch_bundle", ".pte")])
def test_a_bundle_is_complete_and_its_facts_are_true(request, folder, fixture, suffix):
    bundle = request.getfixturevalue(fixture)
    names = {f"{name}{end}" for name in COMPONENTS for end in (suffix, ".json")}
    assert {path.name for path in bundle.iterdir()} == names | {
        "contract.json", "README.md", "run.json", "tokenizer", "scheduler",
    }  # fmt: skip
    for name in COMPONENTS:
        record = json.loads((bundle / f"{name}.json").read_text())
        content = (bundle / record["file"]).read_bytes()
        assert record["bytes"] == len(content) and record["sha256"] == hashlib.sha256(content).hexdigest()
        assert record["precision"] == "fp32" and record["parity"]["max_abs"] <= 1e-4
        assert record["latency_ms"] > 0 and len(record["graph_sha256"]) == 64
        if record["peak_memory_mb"] is not None:
            assert record["peak_memory_mb"] >= record["runtime_memory_mb"] > 5
        assert record["versions"]["torch"] == torch.__version__.partition("+")[0] or record["versions"]["torch"]
    run = json.loads((bundle / "run.json").read_text())
    assert run["command"] == "pocket export snapgen" and run["inputs"]["source"] == model_digest(folder)


def test_the_loop_of_the_readme_in_plain_numpy_draws_the_pipeline_s_picture(onnx_bundle, original):
    """What an app's developer does: ONNX Runtime, the contract, and nothing of ours."""
    import onnxruntime
    from tokenizers import Tokenizer

    contract = json.loads((onnx_bundle / "contract.json").read_text())
    nets = {name: onnxruntime.InferenceSession(onnx_bundle / f"{name}.onnx") for name in COMPONENTS}
    constants, rule = contract["constants"], contract["scheduler"]
    tokens, steps, guidance = constants["tokens"]["text_encoder"], 3, 2.5
    tokenizer = Tokenizer.from_file(str(onnx_bundle / "tokenizer" / "tokenizer.json"))
    tokenizer.enable_padding(length=tokens, pad_id=0)
    tokenizer.enable_truncation(tokens)

    both = [tokenizer.encode(text) for text in ("", "a red cube")]
    ids = np.array([text.ids for text in both], dtype=np.int32)
    mask = np.array([text.attention_mask for text in both], dtype=np.float32)
    (hidden,) = nets["text_encoder"].run(None, {"input_ids": ids})
    features = np.zeros((2, tokens, constants["text_width"]), dtype=np.float32)
    features[:, :, : hidden.shape[2]] = hidden
    noise = torch.randn(1, *constants["latents"], generator=torch.Generator().manual_seed(7))
    latents = noise.numpy()
    u = 1 + (rule["lowest"] - 1) * np.arange(steps) / (steps - 1)
    sigmas = [*(rule["shift"] * u / (1 + (rule["shift"] - 1) * u)), 0]
    for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        inputs = {
            "latents": np.concatenate([latents, latents]),
            "timestep": np.full(2, 1000 * now, dtype=np.float32),
            "encoder_hidden_states": features,
            "encoder_attention_mask": mask,
        }
        negative, positive = nets["unet"].run(None, inputs)[0]
        latents = latents + np.float32(after - now) * (negative + np.float32(guidance) * (positive - negative))
    (picture,) = nets["vae_decoder"].run(None, {"latents": latents})
    pixels = np.round(255 * np.clip(picture / 2 + 0.5, 0, 1)).astype(np.uint8)[0].transpose(1, 2, 0)

    truth = original("a red cube", latents=noise, num_inference_steps=steps, guidance_scale=guidance).images[0]
    assert np.abs(pixels.astype(int) - np.asarray(truth)).max() <= 1
    assert pixels.std() > 1, "a blank picture would prove nothing"


def test_the_readme_shows_every_tensor_and_constant(onnx_bundle):
    text = (onnx_bundle / "README.md").read_text()
    contract = json.loads((onnx_bundle / "contract.json").read_text())
    for component in contract["components"]:
        for spec in component["inputs"] + component["outputs"]:
            assert f"`{spec['name']}` | {' x '.join(map(str, spec['shape']))} | {spec['dtype']}" in text
    assert contract["loop"] in text and contract["scheduler"]["formula"] in text
    assert all(f"`{name}`" in text for name in contract["constants"])


def test_an_export_that_differs_is_not_left_behind(folder, onnx_bundle, tmp_path, monkeypatch):
    """The export itself is replaced by files that are there."""
    onnx = back_end_module("onnx")
    monkeypatch.setattr(onnx, "export", lambda job, path: shutil.copyfile(onnx_bundle / path.name, path))
    monkeypatch.setattr(parity, "TOLERANCE", 1e-12)
    with pytest.raises(ValueError, match="text_encoder differs from the original by .* the export is discarded"):
        export_pipeline("snapgen", str(folder), "onnx", output=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_component_that_returns_zeros_is_discarded_in_every_precision(
    folder, onnx_bundle, precision, tmp_path, monkeypatch
):
    """Its file is one that works, but what runs it returns zeros."""
    onnx = back_end_module("onnx")
    load = onnx.load

    def blank(path, component, threads=None):
        run = load(path, component, threads)
        return lambda *arrays: [0 * array for array in run(*arrays)]

    monkeypatch.setattr(onnx, "export", lambda job, path: shutil.copyfile(onnx_bundle / path.name, path))
    monkeypatch.setattr(onnx, "load", blank)
    with pytest.raises(ValueError, match=f"text_encoder differs .* 100 %, more than the tolerance for {precision}"):
        export_pipeline("snapgen", str(folder), "onnx", precision, output=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_a_fault_in_the_contract_is_found_before_anything_is_exported(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stand_ins.Decoder, "forward", lambda self, latents: self.vae.decode(latents).sample)
    with pytest.raises(ValueError, match="snapgen's contract describes another call"):
        export_pipeline("snapgen", str(folder), "onnx", output=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("shift", "refused"), [(5e-5, False), (1e-2, True)])
def test_the_last_bits_of_a_call_may_differ_and_no_more(folder, onnx_bundle, tmp_path, monkeypatch, shift, refused):
    """With several threads, pictures of one call differ by some 1e-5; `onnx_bundle` shows that all else passes."""
    decode = stand_ins.Decoder.forward

    def shifted(self, latents):
        return decode(self, latents) + 2 * shift  # a picture is half of it

    monkeypatch.setattr(stand_ins.Decoder, "forward", shifted)
    monkeypatch.setattr(
        back_end_module("onnx"), "export", lambda job, path: shutil.copyfile(onnx_bundle / path.name, path)
    )
    if refused:
        with pytest.raises(ValueError, match="snapgen's contract describes another call"):
            export_pipeline("snapgen", str(folder), "onnx", output=tmp_path / "bundle")
    else:
        assert export_pipeline("snapgen", str(folder), "onnx", output=tmp_path / "bundle").is_dir()


def test_the_source_of_a_bundle_follows_its_weights(onnx_bundle, folder, tmp_path):
    assert source_of(onnx_bundle) == model_digest(folder) != model_digest(checkpoint("snapgen-nano"))
    assert source_of(tmp_path) is None and model_digest("owner/name") is None


def test_hashes_of_folders_see_names_and_contents(tmp_path):
    for name, text in (("a", "12"), ("b", "12"), ("c", "21")):
        (tmp_path / name / "inside").mkdir(parents=True)
        (tmp_path / name / "inside" / "file").write_text(text)
    one, same, other = (sha256(tmp_path / name) for name in "abc")
    assert one == same != other and bytes_of(tmp_path / "a") == 2
    (tmp_path / "b" / "inside" / "file").rename(tmp_path / "b" / "inside" / "renamed")
    assert sha256(tmp_path / "b") != one


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["snapgen", "--to", "tflite"], "back end 'tflite' is unknown: use one of onnx, executorch, coreml"),
        (["snapgen", "--to", "onnx", "--precision", "int3"], "precision must be one of fp32, fp16, int8 for onnx"),
        (["snapgem", "--to", "onnx"], "method 'snapgem' is unknown"),
        (["snapgen", "--to", "onnx", "--model", "./nothing-here"], "no checkpoint folder at ./nothing-here"),
    ],
)
def test_the_command_says_in_one_sentence_what_is_wrong(capsys, tmp_path, arguments, sentence):
    assert cli.main(["export", *arguments, "--output", str(tmp_path / "bundle")]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_pipeline_is_named(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert cli.main(["export", "snapgen", "--to", "onnx", "--model", str(tmp_path / "empty")]) == 2
    assert "empty/model_index.json is missing" in capsys.readouterr().err
