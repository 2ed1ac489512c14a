"""ControlMM's export: each network against the model's own, the written loop by hand, and bundles that make motions."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import need_back_end
from little_texts import MOTION_WORDS, make_tokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.control_branch_controlmm import ControlMMControlBranch
from pocket_diffusers.hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from pocket_diffusers.pipelines.export import export_bundle
from pocket_diffusers.pipelines.export.back_ends import ExportJob, back_end_module
from pocket_diffusers.pipelines.export.contract import PipelineContract
from pocket_diffusers.pipelines.export.export_bundle import export_pipeline
from pocket_diffusers.pipelines.export.exporter_config import dummy_inputs
from pocket_diffusers.pipelines.export.methods.export_controlmm import EXPORTS
from pocket_diffusers.pipelines.export.parity import compare
from pocket_diffusers.pipelines.export.rehearsal import as_tuple, rehearse
from pocket_diffusers.pipelines.export.runtime import load_bundle
from pocket_diffusers.pipelines.generation import ImageRequest, generate
from pocket_diffusers.pipelines.motion.motion_controls import MotionControls
from pocket_diffusers.pipelines.motion.motion_features import joints_of_features
from pocket_diffusers.pipelines.motion.motion_optimization import OptimizationSteps
from pocket_diffusers.pipelines.pipeline_controlmm import ControlMMPipeline
from pocket_diffusers.pipelines.repository import save_repository
from pocket_diffusers.pipelines.sampling.masked_decoding import draw_gumbel
from pocket_diffusers.pipelines.sampling.noise import own_generators

EXPORT = EXPORTS[ControlMMPipeline]
CODES, LAYERS, TOKENS, FRAMES = 12, 3, 49, 196
WALK, JUMP = "a person walks forward slowly", "a man jumps up two times"
BRANCH_ALONE, FEW_STEPS = OptimizationSteps(0, 0), OptimizationSteps(2, 3)
ALL = ["text_encoder", "length_estimator", "transformer", "controlled_transformer", "residual_transformer",
       "codebooks", "motion_decoder", "motion_pull"]  # fmt: skip


def make_pipeline(**changes) -> ControlMMPipeline:
    """Tiny, of random weights by which codes move a body about."""
    torch.manual_seed(0)
    trunk = {"width": 8, "num_layers": 1, "num_heads": 2, "ff_width": 16, "dropout": 0.0}
    codes = {"num_codes": CODES, "code_width": 8, "text_width": 12}
    autoencoder = MotionRVQVAE(width=8, depth=1, dropout=0.0, num_quantizers=LAYERS, num_codes=CODES, code_width=8)
    mean, std = torch.zeros(263), torch.full((263,), 0.3)
    mean[3], std[0], std[1:3] = 0.9, 0.02, 0.1
    autoencoder.set_statistics(mean, std)
    transformer = ControlMMTransformer(**codes, **trunk)
    parts = {
        "autoencoder": autoencoder,
        "transformer": transformer,
        "residual_transformer": ControlMMResidualTransformer(num_quantizers=LAYERS, **codes, **trunk),
        "control_branch": ControlMMControlBranch.from_transformer(transformer, conv_width=8, conv_depth=1),
        "length_estimator": ControlMMLengthEstimator(text_width=12, width=16),
        "text_encoder": CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(MOTION_WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=32, projection_dim=12, pad_token_id=0, bos_token_id=1,
                eos_token_id=3, initializer_factor=5.0,
            )
        ),
        "tokenizer": make_tokenizer(32, vocabulary=MOTION_WORDS),
    }  # fmt: skip
    for name in ("transformer", "residual_transformer", "control_branch"):
        for parameter in parts[name].parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape)
    for part in list(parts.values())[:-1]:
        part.eval().requires_grad_(False)
    pipeline = ControlMMPipeline(**{**parts, **changes})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline() -> ControlMMPipeline:
    return make_pipeline()


@pytest.fixture(scope="module")
def networks(pipeline):
    return EXPORT.modules(pipeline)


def assembled(pipeline: ControlMMPipeline) -> ControlMMPipeline:
    contract = PipelineContract.from_record(EXPORT.contract(pipeline).to_record())
    runners = {name: lambda *given, run=net: as_tuple(run(*given)) for name, net in EXPORT.modules(pipeline).items()}
    again = EXPORT.assemble(contract, runners, {"tokenizer": pipeline.tokenizer})
    again.set_progress_bar_config(disable=True)
    return again


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def held(frames: int = 40, joint: int = 20, at: tuple[int, ...] = (0, 10, 30)) -> MotionControls:
    targets, mask = torch.zeros(frames, 22, 3), torch.zeros(frames, 22, dtype=torch.bool)
    targets[list(at), joint], mask[list(at), joint] = torch.tensor([0.3, 1.0, 0.4]), True
    return MotionControls(targets, mask)


def one_hot(codes: Tensor, width: int) -> Tensor:
    return torch.nn.functional.one_hot(codes.long(), width).float()


def close(ours: list[Tensor], theirs: list[Tensor], atol: float = 1e-4) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), atol=atol, rtol=0)


# Networks


def test_transformers_give_the_logits_of_the_models(pipeline, networks):
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, CODES + 1, (3, TOKENS), generator=draw)  # the mask among them
    text, lengths = torch.randn(3, 12, generator=draw), torch.tensor([49, 1, 20], dtype=torch.int32)
    control = torch.randn(3, FRAMES, 36, generator=draw)
    padding = torch.tensor([[place >= length for place in range(TOKENS)] for length in lengths])
    kept = ~padding[..., None]
    chances, model = one_hot(ids, CODES + 1), pipeline.transformer
    found = networks["transformer"](chances, text, lengths)
    torch.testing.assert_close(found * kept, model(ids, text, padding) * kept, atol=1e-5, rtol=1e-5)
    found = networks["controlled_transformer"](chances, text, lengths, control)
    expected = model(ids, text, padding, pipeline.control_branch, control)
    torch.testing.assert_close(found * kept, expected * kept, atol=1e-5, rtol=1e-5)
    codes = torch.randint(0, CODES, (3, TOKENS, LAYERS), generator=draw)
    layers = torch.tensor([0, 1, 1], dtype=torch.int32)
    found = networks["residual_transformer"](codes[..., :-1].int(), layers, text, lengths)
    for row, layer in enumerate((1, 2, 2)):
        expected = pipeline.residual_transformer(codes, layer, text, padding)[row]
        torch.testing.assert_close(found[row] * kept[row], expected * kept[row], atol=1e-5, rtol=1e-5)


def test_the_decoder_gives_features_and_joints_in_metres_of_codes_and_of_chances(pipeline, networks):
    draw = torch.Generator().manual_seed(2)
    codes, autoencoder = torch.randint(0, CODES, (2, TOKENS, LAYERS), generator=draw), pipeline.autoencoder
    lengths = torch.tensor([49, 30], dtype=torch.int32)
    decode, summed = networks["motion_decoder"], networks["codebooks"]
    latents = summed(one_hot(codes[..., 0], CODES), codes[..., 1:].int())
    torch.testing.assert_close(latents, autoencoder.embed(codes), atol=1e-6, rtol=1e-6)
    features, joints = decode(latents, lengths)
    for row, length in enumerate(lengths.tolist()):
        motion = autoencoder.decode_ids(codes[row : row + 1, :length])[0]
        expected = motion * autoencoder.std + autoencoder.mean
        torch.testing.assert_close(features[row, : 4 * length], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(joints[row, : 4 * length], joints_of_features(expected), atol=1e-4, rtol=1e-5)
    chances, none = torch.full((1, TOKENS, CODES), 1 / CODES), torch.full((1, TOKENS, 2), CODES, dtype=torch.int32)
    features, _ = decode(summed(chances, none), lengths[:1])
    mean = autoencoder.quantizer.codebooks[0].mean(0).expand(1, TOKENS, -1)
    torch.testing.assert_close(features, autoencoder.denormalized(autoencoder.decode(mean)), atol=1e-5, rtol=1e-5)


# The loop


class Loop:
    """The contract's loop, written anew from its text, with the pipeline's noise of one seed."""

    def __init__(
        self, networks, pipeline: ControlMMPipeline, prompt: str, frames: int | None, seed: int,
        controls: MotionControls | None = None,
    ) -> None:  # fmt: skip
        self.networks, self.generator = networks, own_generators(1, seeded(seed))
        ids = pipeline.tokenizer(prompt, padding="max_length", max_length=32, return_tensors="pt").input_ids
        self.text = networks["text_encoder"](ids.int())
        if frames is None:
            logits = networks["length_estimator"](self.text)[0]
            scores = (logits + self.gumbel(1, 50)[0]).tolist()
            frames = 4 * max(range(5, 50), key=scores.__getitem__)
        self.frames, self.tokens = frames, math.ceil(frames / 4)
        self.lengths = torch.tensor([self.tokens], dtype=torch.int32)
        if controls is not None:
            self.wanted, self.mask = (self.padded(part, FRAMES)[0] for part in (controls.targets, controls.mask))

    def gumbel(self, tokens: int, codes: int = CODES) -> Tensor:
        return draw_gumbel([tokens], codes, self.generator)[0]

    def guided(self, scale: float, name: str, *given) -> Tensor:
        """Of a network that is given a text in place of `...`."""

        def logits(text: Tensor) -> Tensor:
            return self.networks[name](*(text if one is ... else one for one in given))

        zeros = logits(torch.zeros_like(self.text))
        return (zeros + scale * (logits(self.text) - zeros))[0, : self.tokens]

    def likeliest(self, logits: Tensor) -> list[int]:
        kept, noise, found = math.ceil(0.1 * CODES), self.gumbel(self.tokens), []
        for row, own in zip(logits, noise, strict=True):
            best = sorted(range(CODES), key=lambda code: -row[code])[:kept]
            found.append(max(best, key=lambda code: row[code] + own[code]))
        return found

    def padded(self, values: Tensor, length: int = TOKENS) -> Tensor:
        return torch.cat([values, values.new_zeros(length - len(values), *values.shape[1:])])[None]

    def asked(self, step: int, steps: int, certainty: list[float]) -> list[int]:
        count = max(1, round(self.tokens * math.cos(math.pi / 2 * step / max(1, steps - 1))))
        return sorted(range(self.tokens), key=lambda token: (certainty[token], token))[:count]

    def first_layer(self, steps: int, scale: float) -> list[int]:
        codes, certainty, chances = [CODES] * self.tokens, [0.0] * self.tokens, None
        for step in range(steps):
            asked = self.asked(step, steps, certainty)
            chances = one_hot(torch.tensor([CODES if t in asked else code for t, code in enumerate(codes)]), CODES + 1)
            logits = self.guided(scale, "transformer", self.padded(chances), ..., self.lengths)
            drawn = self.likeliest(logits)
            codes = [drawn[t] if t in asked else code for t, code in enumerate(codes)]
            certainty = [float(logits[t].softmax(0)[codes[t]]) if t in asked else 1e5 for t in range(self.tokens)]
        return codes

    def controlled(self, steps: int, scale: float, joints: tuple[int, ...], follow: int):
        """Logits of the last step, and codes of the first layer."""
        wanted, mask = self.wanted, self.mask
        certainty, logits, codes = [0.0] * self.tokens, None, [0] * self.tokens
        chances = torch.zeros(self.tokens, CODES + 1)
        for step in range(steps):
            asked = self.asked(step, steps, certainty)
            chances[asked] = torch.eye(CODES + 1)[CODES]
            expected = torch.full((self.tokens, CODES), 1 / CODES) if logits is None else logits.softmax(-1)
            expected[asked] = 1 / CODES
            now = self.motion(self.latents(expected))[1]
            ways = [(wanted[:, j] - now[:, j]) * mask[:, j, None] for j in joints]
            targets = [wanted[:, j] * mask[:, j, None] for j in joints]
            control = torch.cat([*ways, *targets], 1)[None]
            logits = self.guided(scale, "controlled_transformer", self.padded(chances), ..., self.lengths, control)
            logits = self.followed(logits, self.slope_of_logits, follow)
            chances = (logits + self.gumbel(self.tokens)).softmax(-1)
            drawn = (chances.log() + self.gumbel(self.tokens)).argmax(-1).tolist()
            codes = [drawn[t] if t in asked else code for t, code in enumerate(codes)]
            certainty = [float(logits[t].softmax(0)[codes[t]]) if t in asked else 1e5 for t in range(self.tokens)]
            chances = torch.cat([chances, torch.zeros(self.tokens, 1)], 1)
        return logits, logits.argmax(-1).tolist()

    def further_layers(self, first: list[int], scale: float) -> Tensor:
        codes = torch.zeros(self.tokens, LAYERS, dtype=torch.int32)
        codes[:, 0] = torch.tensor(first)
        for layer in range(1, LAYERS):
            given, number = self.padded(codes[:, :-1]), torch.tensor([layer - 1], dtype=torch.int32)
            logits = self.guided(scale, "residual_transformer", given, number, ..., self.lengths)
            codes[:, layer] = torch.tensor(self.likeliest(logits))
        return codes

    def followed(self, values: Tensor, slope: Callable[[Tensor], Tensor], times: int) -> Tensor:
        first = second = torch.zeros_like(values)
        for n in range(1, times + 1):
            gradient = slope(values)
            first, second = 0.5 * first + 0.5 * gradient, 0.9 * second + 0.1 * gradient**2
            step = 0.06 * first / (1 - 0.5**n) / ((second / (1 - 0.9**n)).sqrt() + 1e-8)
            values = 0.99999994 * values - step
        return values

    def slope_of_latents(self, latents: Tensor) -> Tensor:
        off = torch.where(self.mask[..., None], self.motion(latents)[1] - self.wanted, 0)[None]
        given = (torch.zeros(1, FRAMES, 263), 2 * off / (3 * self.mask.sum()))
        return self.networks["motion_pull"](latents, self.lengths, *given)

    def slope_of_logits(self, logits: Tensor) -> Tensor:
        expected = (logits + self.gumbel(self.tokens)).softmax(-1)
        gradient = self.slope_of_latents(self.latents(expected))[0, : self.tokens]
        slopes = gradient @ self.latents(torch.eye(CODES))[0, :CODES].T
        return expected * (slopes - (expected * slopes).sum(-1, keepdim=True))

    def latents(self, chances: Tensor, codes: Tensor | None = None) -> Tensor:
        codes = torch.full((len(chances), LAYERS - 1), CODES) if codes is None else codes
        return self.networks["codebooks"](self.padded(chances), self.padded(codes.int()))

    def motion(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        features, joints = self.networks["motion_decoder"](latents, self.lengths)
        return features[0], joints[0]


@pytest.mark.parametrize("frames", [None, 21, 196])
def test_the_loop_as_it_is_told_makes_the_pipeline_s_motion(pipeline, networks, frames):
    loop = Loop(networks, pipeline, WALK, frames, 3)
    codes = loop.further_layers(loop.first_layer(4, 4.0), 5.0)
    features, joints = loop.motion(loop.latents(one_hot(codes[:, 0], CODES), codes[:, 1:]))
    made = pipeline(WALK, length=frames, num_inference_steps=4, generator=seeded(3))
    assert len(made.joints[0]) == loop.frames and len(set(codes.flatten().tolist())) > 4
    close([features[: loop.frames], joints[: loop.frames]], [made.features[0], made.joints[0]])


@pytest.mark.parametrize("optimization", [BRANCH_ALONE, FEW_STEPS])
def test_the_loop_with_controls_does_too(pipeline, networks, optimization):
    controls = held()
    loop = Loop(networks, pipeline, JUMP, 40, 5, controls)
    logits, first = loop.controlled(4, 4.0, (0, 10, 11, 15, 20, 21), optimization.each)
    codes = loop.further_layers(first, 5.0)
    latents = loop.latents(logits.softmax(-1), codes[:, 1:])
    _, joints = loop.motion(loop.followed(latents, loop.slope_of_latents, optimization.last))
    options = {"num_inference_steps": 4, "optimization": optimization}
    made = pipeline(JUMP, controls=controls, generator=seeded(5), **options)
    close([joints[:40]], made.joints)


def test_the_contract_tells_both_loops():
    contract = EXPORT.contract(make_pipeline())
    for words in (
        "cut or padded on the right to 32 tokens", "among its 2 highest logits",
        "count = max(1, round(lengths * cos(pi / 2 * i / max(1, num_inference_steps - 1))))", "for layer in 1 .. 2:",
        "4 * argmax(logits[i] + gumbel for i in 5 .. 49)", "for each of the joints 0, 10, 11, 15, 20, 21 wanted",
        "controlled_transformer(chances, text, lengths, control), with the same",
        "latents = 0.99999994 * latents - 0.06 *",
    ):  # fmt: skip
        assert words in contract.loop
    expected = {"guidance_scale": 4.0, "residual_guidance_scale": 5.0, "tokens": 49, "codes": CODES, "layers": LAYERS}
    assert expected.items() <= contract.constants.items() and len(contract.constants["parents"]) == 22


# Pipelines behind it


def test_stand_ins_make_the_same_motions_side_by_side(pipeline):
    again = assembled(pipeline)
    arguments = {
        "prompt": [WALK, JUMP, WALK, JUMP], "length": [20, None, None, 57], "num_inference_steps": 3,
        "controls": [None, None, held(44), held(57, 0)], "optimization": FEW_STEPS,
    }  # fmt: skip
    ours, theirs = (one(**arguments, generator=seeded(1, 2, 3, 4)) for one in (again, pipeline))
    assert [len(joints) for joints in theirs.joints][::3] == [20, 57]
    close(ours.joints, theirs.joints)
    close(ours.features, theirs.features)
    assert not torch.allclose(theirs.joints[3], pipeline(**{**arguments, "controls": None}).joints[3], atol=1e-2)
    plain = {"length": 40, "guidance_scale": 1.0, "residual_guidance_scale": 1.0}
    ours, theirs = (one(WALK, **plain, generator=seeded(6)) for one in (again, pipeline))
    close(ours.joints, theirs.joints)


def distance(joints: Tensor, controls: MotionControls) -> float:
    """Mean distance from targets in metres."""
    return float((joints - controls.targets)[controls.mask].norm(dim=-1).mean())


def test_controls_are_met_as_closely_as_by_the_model(pipeline):
    again, controls = assembled(pipeline), held(40, 0, (0, 8, 20, 39))
    free, ours, theirs = (
        distance(one(WALK, controls=controls, optimization=how, generator=seeded(4)).joints[0], controls)
        for one, how in ((pipeline, BRANCH_ALONE), (again, "fast"), (pipeline, "fast"))
    )
    assert ours < free / 3 and ours == pytest.approx(theirs, rel=0.05, abs=1e-3)


def test_objectives_have_gradients_too(pipeline):
    lifted = {"length": 32, "objective": lambda joints, valid: (joints[..., 1] - 3).square().mean((1, 2))}
    options = {"optimization": FEW_STEPS, "num_inference_steps": 2}
    ours, theirs = (one(WALK, **lifted, **options, generator=seeded(4)) for one in (assembled(pipeline), pipeline))
    close(ours.joints, theirs.joints)


def test_networks_that_a_pipeline_lacks_are_left_out():
    pipeline = make_pipeline(control_branch=None, length_estimator=None)
    contract = EXPORT.contract(pipeline)
    names = [component.name for component in contract.components]
    assert names == [*ALL[:1], ALL[2], *ALL[4:]] == list(EXPORT.modules(pipeline))
    assert "controlled_transformer" not in contract.loop and "length_estimator" not in contract.loop
    assert "after each call of transformer, guided, its logits follow" in contract.loop
    rows = EXPORT.rehearse(assembled(pipeline), range(3))
    assert rows.shape == (3, 2, FRAMES, 22, 3) and (rows[0, :, 20:] == 0).all()
    with pytest.raises(ValueError, match="this pipeline has no length estimator: pass length"):
        assembled(pipeline)(WALK)
    with pytest.raises(ValueError, match="no text encoder: an export needs it"):
        EXPORT.contract(make_pipeline(text_encoder=None, tokenizer=None))


# Files


@pytest.fixture(scope="module")
def rehearsed(pipeline, networks):
    return rehearse(EXPORT, pipeline, EXPORT.contract(pipeline), networks, calibrated=True)


def exported(pipeline, networks, rehearsed, name: str, back_end: str, precision: str, folder) -> bool:
    """Whether the file is within the tolerance of its precision."""
    need_back_end(back_end)
    module, component = back_end_module(back_end, precision), EXPORT.contract(pipeline).component(name)
    job = ExportJob(networks[name], component, precision, dummy_inputs(component), rehearsed[name].calibration)
    module.export(job, folder / name)
    run, found, reference = module.load(folder / name, component), [], []
    for row in rehearsed[name].trials:
        found += run(*(tensor.numpy() for tensor in row))
        with torch.no_grad():
            reference += [tensor.numpy() for tensor in as_tuple(networks[name](*row))]
    return compare(found, reference, len(component.outputs)).within_tolerance(precision)


@pytest.mark.parametrize(
    "name", ["controlled_transformer", "residual_transformer", "codebooks", "motion_decoder", "motion_pull"]
)
def test_executorch_gives_the_same(pipeline, networks, rehearsed, name, tmp_path):
    assert exported(pipeline, networks, rehearsed, name, "executorch", "fp32", tmp_path)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_few_bits_keep_motions_alike(pipeline, networks, rehearsed, precision, tmp_path):
    assert exported(pipeline, networks, rehearsed, "motion_decoder", "onnx", precision, tmp_path)


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory):
    return save_repository(pipeline, tmp_path_factory.mktemp("own") / "mine", dtype=torch.float32)


@pytest.fixture(scope="module")
def bundle(folder, tmp_path_factory):
    need_back_end("onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_bundle, "measure", lambda *given: {})  # a process a network: tested where it is written
        return export_pipeline("controlmm", str(folder), "onnx", "fp32", tmp_path_factory.mktemp("exports") / "bundle")


def test_gradients_stay_in_single_precision(folder, bundle, tmp_path, monkeypatch):
    asked = {}

    def copy(job: ExportJob, path: Path) -> None:
        asked[job.component.name] = job.precision
        shutil.copyfile(bundle / path.name, path)

    monkeypatch.setattr(back_end_module("onnx"), "export", copy)
    monkeypatch.setattr(export_bundle, "measure", lambda *given: {})
    few = export_pipeline("controlmm", str(folder), "onnx", "fp16", tmp_path / "few")
    assert asked == {name: "fp32" if name == "motion_pull" else "fp16" for name in ALL}
    assert json.loads((few / "motion_pull.json").read_text())["precision"] == "fp32"


def test_a_bundle_makes_the_motions_of_its_model(folder, bundle):
    assert {path.stem for path in bundle.glob("*.onnx")} == set(ALL)
    original, again = ControlMMPipeline.from_pretrained(folder), load_bundle(bundle, "onnx", "controlmm")
    original.set_progress_bar_config(disable=True)
    request = ImageRequest((WALK, JUMP), num_inference_steps=4, seed=8)
    ours, theirs = (generate(one, request).output for one in (again, original))
    assert len(theirs.joints[0]) >= 20 and np.std(theirs.joints[0].numpy()) > 0.05
    close(ours.joints, theirs.joints)
    close(ours.features, theirs.features)
    controls = held()
    ours, theirs = (
        distance(one(WALK, controls=controls, generator=seeded(4)).joints[0], controls) for one in (again, original)
    )
    assert ours == pytest.approx(theirs, rel=0.05, abs=1e-3)
    note = (bundle / "README.md").read_text()
    assert "`pocket generate controlmm --runtime onnx --model THIS_FOLDER`" in note and "residual_transformer(" in note
