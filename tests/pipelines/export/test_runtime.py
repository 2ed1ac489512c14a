"""Bundles run: the same pipeline, the same pictures."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from pocket_diffusers import cli
from pocket_diffusers.pipelines.export import runtime
from pocket_diffusers.pipelines.export.runtime import load_bundle, own_bundle
from pocket_diffusers.pipelines.loading import load_pipeline
from pocket_diffusers.pipelines.pipeline_snapgen import SnapGenPipeline

ARGUMENTS = {"num_inference_steps": 3, "guidance_scale": 3.0, "num_images_per_prompt": 2, "output_type": "np"}
PROMPTS = ["a red cube", "two green cone"]


def draw(pipeline: SnapGenPipeline, **changed) -> np.ndarray:
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    return pipeline(PROMPTS, generator=generators, **{**ARGUMENTS, **changed}).images


@pytest.mark.parametrize("fixture", ["onnx_bundle", "executorch_bundle"])
def test_a_bundle_draws_what_the_original_draws(request, fixture, original):
    pipeline = load_bundle(request.getfixturevalue(fixture))
    assert type(pipeline) is SnapGenPipeline
    pictures = draw(pipeline)
    assert pictures.shape == (4, 8, 8, 3) and pictures.std() > 0.01
    np.testing.assert_allclose(pictures, draw(original), atol=1e-4)
    np.testing.assert_allclose(draw(pipeline, guidance_scale=1), draw(original, guidance_scale=1), atol=1e-4)
    blue = draw(pipeline, negative_prompt="blue")
    np.testing.assert_allclose(blue, draw(original, negative_prompt="blue"), atol=1e-4)
    assert np.abs(blue - pictures).max() > 1e-3


@pytest.mark.parametrize("fixture", ["onnx_bundle", "executorch_bundle"])
def test_the_command_draws_with_a_bundle(request, fixture, folder, tmp_path):
    bundle, back_end = request.getfixturevalue(fixture), fixture.partition("_")[0]
    common = ["generate", "snapgen", "-p", "a red cube", "--steps", "2"]
    assert cli.main([*common, "--model", str(folder), "-o", str(tmp_path / "eager")]) == 0
    exported = [*common, "--runtime", back_end, "--model", str(bundle), "-o", str(tmp_path / "exported")]
    assert cli.main(exported) == 0
    from PIL import Image

    name = "000-a-red-cube.png"
    ours, theirs = (np.asarray(Image.open(tmp_path / kind / name)).astype(int) for kind in ("exported", "eager"))
    assert np.abs(ours - theirs).max() <= 1
    assert json.loads((tmp_path / "exported" / "run.json").read_text())["inputs"]["runtime"] == back_end


def test_without_a_model_the_package_s_own_is_exported_once(tmp_path, monkeypatch, onnx_bundle, folder):
    """`pocket generate --runtime onnx` alone; the export itself is replaced by a bundle that is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "checkpoint", lambda name: folder)
    calls = []

    def export(slug, model, back_end, precision, output, overwrite):
        calls.append((slug, model, back_end, precision, str(output)))
        shutil.copytree(onnx_bundle, output, dirs_exist_ok=overwrite)

    monkeypatch.setattr("pocket_diffusers.pipelines.export.export_bundle.export_pipeline", export)
    first = own_bundle("snapgen", "onnx")
    assert own_bundle("snapgen", "onnx") == first
    assert calls == [("snapgen", None, "onnx", "fp32", "outputs/export-snapgen-onnx-fp32")]
    record = json.loads((first / "run.json").read_text())
    record["inputs"]["source"] = "other weights"
    (first / "run.json").write_text(json.dumps(record))
    own_bundle("snapgen", "onnx")
    assert len(calls) == 2, "new weights are exported again"


def test_other_sizes_are_refused_in_words(onnx_bundle):
    pipeline = load_bundle(onnx_bundle)
    with pytest.raises(ValueError, match=r"must be \[batch, 4, 4, 4\], not \[2, 4, 8, 8\]: an export has one size"):
        pipeline("a red cube", height=16, width=16, num_inference_steps=1)


def test_what_is_wrong_with_a_bundle_is_said(onnx_bundle, tmp_path, folder):
    def copy(name):
        return shutil.copytree(onnx_bundle, tmp_path / name)

    with pytest.raises(FileNotFoundError, match="is no export bundle"):
        load_bundle(folder)
    with pytest.raises(ValueError, match="is an exported bundle: say which runtime it is for"):
        load_pipeline("snapgen", str(onnx_bundle))
    with pytest.raises(ValueError, match="was exported to onnx, so it cannot run with --runtime executorch"):
        load_bundle(onnx_bundle, "executorch")
    with pytest.raises(ValueError, match="is an export of snapgen, not of ascan"):
        load_bundle(onnx_bundle, slug="ascan")
    with pytest.raises(ValueError, match="back end '.*' is unknown: use one of"):
        load_bundle(onnx_bundle, "tflite")
    (copy("lacking") / "unet.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="unet.onnx is missing"):
        load_bundle(tmp_path / "lacking")
    (copy("damaged") / "unet.onnx").write_bytes(b"no protobuf")
    recorded(tmp_path / "damaged" / "unet.json", sha256=hashlib.sha256(b"no protobuf").hexdigest())
    with pytest.raises(ValueError, match="unet.onnx cannot be loaded by onnx"):
        load_bundle(tmp_path / "damaged")
    shutil.rmtree(copy("bare") / "tokenizer")
    with pytest.raises(FileNotFoundError, match="tokenizer is missing"):
        load_bundle(tmp_path / "bare")
    parts = json.loads((copy("foreign") / "contract.json").read_text())["parts"]
    recorded(tmp_path / "foreign" / "contract.json", parts={**parts, "scheduler": ["os", "system"]})
    recorded(tmp_path / "foreign" / "run.json", inputs={})  # as earlier exports, which recorded components alone
    with pytest.raises(ValueError, match="is os.system, but parts of a bundle come from diffusers or transformers"):
        load_bundle(tmp_path / "foreign")


def recorded(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("fixture", ["onnx_bundle", "executorch_bundle"])
def test_a_file_that_was_changed_is_named(request, fixture, tmp_path):
    """One byte of any file that the pipeline is made of, at the same length."""
    bundle = request.getfixturevalue(fixture)
    for path in sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()):
        if path.suffix not in (".onnx", ".pte") and len(path.parts) == 1:  # what is written beside them
            continue
        changed = shutil.copytree(bundle, tmp_path / "changed", dirs_exist_ok=True)
        content = bytearray((bundle / path).read_bytes())
        content[len(content) // 2] ^= 1
        (changed / path).write_bytes(content)
        with pytest.raises(ValueError, match=rf"changed/{path.parts[0]} was changed or damaged after its export"):
            load_bundle(changed)
        shutil.copyfile(bundle / path, changed / path)
    load_bundle(changed)


def test_a_contract_that_was_changed_is_named(onnx_bundle, tmp_path):
    changed = shutil.copytree(onnx_bundle, tmp_path / "changed")
    text = (changed / "contract.json").read_text()
    (changed / "contract.json").write_text(text.replace('"shift": ', '"shift": 1', 1))
    with pytest.raises(ValueError, match=r"changed/contract\.json was changed or damaged"):
        load_bundle(changed)
