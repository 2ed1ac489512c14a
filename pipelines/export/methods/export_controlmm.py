"""How ControlMM is exported: a prompt's embedding, codes found one layer after the other, joints of codes and back."""

import inspect
import math
from collections.abc import Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ....hub_models.layers.padding import padding_behind
from ....hub_models.layers.residual_vq import NO_CODE
from ...motion.motion_controls import MotionControls
from ...motion.motion_features import joints_of_features
from ...motion.motion_optimization import BETAS, LEARNING_RATE, OPTIMIZATIONS, WEIGHT_DECAY, OptimizationSteps
from ...motion.skeleton import CONTROL_JOINTS, FRAMES_PER_SECOND, JOINTS, PARENTS
from ...pipeline_controlmm import LIKELIEST, LONGEST, SHORTEST, ControlMMPipeline
from ...sampling.masked_decoding import CERTAIN
from ..contract import ComponentContract, PipelineContract, TensorSpec
from ..explicit_twin import explicit_twin
from ..stand_ins import Runner, StandIn
from . import Export
from .motion_prompts import motion_prompt
from .motion_pull import MotionPull

REHEARSAL_STEPS = 3
MOTION_NETWORKS = ("codebooks", "motion_decoder", "motion_pull")
SLOPE = 1e-3
"""Of a loss in metres, where an export is compared with the model: larger ones show where another order of sums puts a
number of a hidden layer on the other side of 0."""
REHEARSAL_OPTIMIZATION = OptimizationSteps(1, 1)

LOOP = """\
gumbel = -log(-log(u)), u uniform in (0, 1), another number for each token and code at each use
A guided network is called with the prompt's text and with zeros in its place: zeros + scale * (text - zeros), of the
logits that they give; with a scale of 1 or less it is called with the text alone.

ids = tokenizer(prompt), cut or padded on the right to {prompt_tokens} tokens
text = text_encoder(ids)
frames = {shortest} .. {longest}, what the user says{estimated}
lengths = ceil(frames / {ratio}) tokens of the clip, of {tokens}; those behind are padding, whose numbers do not matter

chances = of each token 1 for number {codes}, the mask, and 0 for the {codes} codes; certainty = 0
for i in 0 .. num_inference_steps - 1:
    count = max(1, round(lengths * cos(pi / 2 * i / max(1, num_inference_steps - 1)))), a half to the even number
    asked = the clip's `count` tokens of least certainty, of equal ones the earlier
    chances of those = 1 for the mask, 0 for the codes
    logits = transformer(chances, text, lengths), guided by guidance_scale
    code of a token that was asked = argmax(logits + gumbel) among its {kept} highest logits; the others keep theirs
    chances of every token = 1 for its code, 0 for the others and the mask
    certainty = softmax(logits) of its code where it was asked, {certain:g} elsewhere
codes of the first layer = those that were found last
for layer in 1 .. {last_layer}:
    logits = residual_transformer(codes of layers 0 .. {seen_layer}, layer - 1, text, lengths), guided by
        residual_guidance_scale; codes of layers that are not found yet may be any
    codes of this layer = argmax(logits + gumbel) among the {kept} highest logits of each token
latents = codebooks(chances of the {codes} codes of the first layer, codes of the others)
features, joints = motion_decoder(latents, lengths)
the motion is the first `frames` of their {padded}
"""

ESTIMATED = """, or else
    {ratio} * argmax(logits[i] + gumbel for i in {least} .. {most}), logits = length_estimator(text)"""

CONTROLLED = """
Joints that shall be at places: wanted [{padded}, {joints}, 3] in metres, where a mask says so. As above, but
{branch}    after each call of {transformer}, guided, its logits follow their gradient `each` times, see below
    chances of every token = softmax(logits + gumbel), 0 for the mask
    code of a token that was asked = argmax(log(chances) + another gumbel)
    codes of the first layer = argmax(logits of the last step)
    latents = codebooks(softmax(logits of the last step), codes of the others)
    these follow their gradient `last` times, and the motion is that of motion_decoder(latents, lengths)
`each` and `last` are a pair of `optimizations`, or others: 0 and 0 leaves it to the network alone.

How latents follow their gradient:
    off = joints - wanted where the mask says so, at frames of the clip, and 0 elsewhere
    gradient = motion_pull(latents, lengths, 0, 2 * off / (3 * how often the mask says so))
        of the loss mean(off^2) over x, y and z of what the mask asks for
    a step of AdamW, whose means begin with 0 anew at each of these places in the loop, n = 1, 2, 3 ...:
        first = {beta1} * first + {one_less_beta1:g} * gradient
        second = {beta2} * second + {one_less_beta2:g} * gradient^2
        latents = {kept:.8g} * latents - {rate} * first / (1 - {beta1}^n) / (sqrt(second / (1 - {beta2}^n)) + 1e-8)
How logits do: likewise, but of latents = codebooks(expected, no codes) with expected = softmax(logits + gumbel):
    slopes = for each code the sum of gradient * codebooks(1 for that code, no codes)
    gradient of logits = expected * (slopes - sum of expected * slopes)
Another loss on joints or features takes its own gradients into motion_pull.
"""

BRANCH = """\
    before each call of a transformer:
        expected = softmax(logits of the step before); where a token is asked now, 1 / {codes} of each code
        joints = of motion_decoder(codebooks(expected, no codes), lengths); {codes} is no code
        control = for each of the joints {control_joints} wanted - joints, then for each of them wanted, and 0
            outside the mask
    logits = controlled_transformer(chances, text, lengths, control), with the same control beside both texts
"""


class PromptEncoder(nn.Module):
    """CLIP: token ids to the prompt's embedding."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.encoder(input_ids).text_embeds


class FirstLayer(nn.Module):
    """The transformer, its tokens as chances of codes; with a control branch, that inside."""

    def __init__(self, transformer: nn.Module, branch: nn.Module | None = None) -> None:
        super().__init__()
        self.transformer, self.branch = transformer, branch

    def forward(self, chances: Tensor, text: Tensor, lengths: Tensor, control: Tensor | None = None) -> Tensor:
        padding = padding_behind(lengths, chances.shape[1])
        return self.transformer(self.transformer.expect(chances), text, padding, self.branch, control)


class FurtherLayers(nn.Module):
    """The residual transformer, its layers counted from the second one."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, codes: Tensor, layer: Tensor, text: Tensor, lengths: Tensor) -> Tensor:
        return self.transformer(codes.long(), layer.long() + 1, text, padding_behind(lengths, codes.shape[1]))


class Codebooks(nn.Module):
    """Codes to latents; the first layer's as chances, and the number behind the last is no code."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, chances: Tensor, codes: Tensor) -> Tensor:
        others = torch.where(codes == self.autoencoder.config.num_codes, NO_CODE, codes.long())
        return self.autoencoder.expect(chances) + self.autoencoder.embed(F.pad(others, (1, 0), value=NO_CODE))


class MotionDecoder(nn.Module):
    """Latents to features in metres, and to joints."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        motion = self.autoencoder.decode(latents, padding_behind(lengths, latents.shape[1]))
        features = self.autoencoder.denormalized(motion)
        return features, joints_of_features(features)


class PromptEncoderStandIn(StandIn):
    """In place of a text encoder."""

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(text_embeds=self.run(input_ids.int())[0])


class LengthEstimatorStandIn(StandIn):
    """In place of a `ControlMMLengthEstimator`."""

    def forward(self, text: Tensor) -> Tensor:
        return self.run(text)[0]


class ControlBranchStandIn(StandIn):
    """In place of a `ControlMMControlBranch`: it is inside the network that `TransformerStandIn` then runs."""


class TransformerStandIn(StandIn):
    """In place of a `ControlMMTransformer`; the embedding of a token is the chance of each code and of the mask."""

    def __init__(self, run: Runner, run_controlled: Runner | None, config: dict[str, Any]) -> None:
        super().__init__(run, config)
        self.run_controlled = run_controlled
        self.mask_id = config["num_codes"]
        self.token_embedding = SimpleNamespace(weight=torch.eye(self.mask_id + 1))

    def expect(self, probabilities: Float[Tensor, "batch tokens codes"]) -> Float[Tensor, "batch tokens codes+1"]:
        """As `ControlMMTransformer.expect`."""
        return F.pad(probabilities, (0, 1))

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens codes+1"],
        text: Tensor,
        padding: Bool[Tensor, "batch tokens"],
        branch: ControlBranchStandIn | None = None,
        control: Float[Tensor, "batch frames controls"] | None = None,
    ) -> Float[Tensor, "batch tokens codes"]:
        most, ratio = self.config["tokens"], self.config["frames_per_token"]
        given = (_extended(tokens, most), text, _lengths(padding))
        if branch is None:
            logits = self.run(*given)[0]
        else:
            logits = self.run_controlled(*given, _extended(control, most * ratio))[0]
        return logits[:, : tokens.shape[1]]


class ResidualTransformerStandIn(StandIn):
    """In place of a `ControlMMResidualTransformer`."""

    def forward(
        self, ids: Int[Tensor, "batch tokens layers"], layer: int, text: Tensor, padding: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens codes"]:
        codes = _extended(ids[..., : self.config["num_quantizers"] - 1].int(), self.config["tokens"])
        layers = torch.full((len(ids),), layer - 1, dtype=torch.int32)
        return self.run(codes, layers, text, _lengths(padding))[0][:, : ids.shape[1]]


class Decoded(torch.autograd.Function):
    """Features of latents by one exported network, and their gradient by another."""

    @staticmethod
    def forward(ctx: Any, latents: Tensor, lengths: Tensor, decode: Runner, pull: Runner) -> Tensor:
        ctx.save_for_backward(latents, lengths)
        ctx.pull = pull
        return decode(latents.detach(), lengths)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        latents, lengths = ctx.saved_tensors
        of_joints = gradient.new_zeros(*gradient.shape[:2], len(JOINTS), 3)
        return ctx.pull(latents.detach(), lengths, gradient, of_joints)[0], None, None, None


class AutoencoderStandIn(StandIn):
    """In place of a `MotionRVQVAE` that decodes, into metres at once.

    Args:
        codebooks, decode, pull: exported networks of these names in the contract.
        config: of the autoencoder, with the tokens of an export.
    """

    def __init__(self, codebooks: Runner, decode: Runner, pull: Runner, config: dict[str, Any]) -> None:
        super().__init__(decode, config)
        self.codebooks, self.pull = codebooks, pull

    @property
    def frames_per_token(self) -> int:
        return self.config["frames_per_token"]

    @property
    def mask_latent(self) -> Float[Tensor, " width"]:
        """As `MotionRVQVAE.mask_latent`."""
        return self.first_codes.mean(0)

    @cached_property
    @torch.no_grad()
    def first_codes(self) -> Float[Tensor, "codes width"]:
        """Latents of the codes of the first layer, each alone, as the exported codebooks have them."""
        codes, tokens = self.config["num_codes"], self.config["tokens"]
        rows = F.pad(torch.eye(codes), (0, 0, 0, -codes % tokens)).unflatten(0, (-1, tokens))
        return self._summed(rows, torch.full((*rows.shape[:2], self._others), NO_CODE)).flatten(0, 1)[:codes]

    def expect(self, probabilities: Float[Tensor, "batch tokens codes"]) -> Float[Tensor, "batch tokens width"]:
        """As `MotionRVQVAE.expect`, of the first layer."""
        return probabilities @ self.first_codes

    def embed(self, ids: Int[Tensor, "batch tokens layers"]) -> Float[Tensor, "batch tokens width"]:
        """As `MotionRVQVAE.embed`, of all layers."""
        first, codes = ids[..., 0], self.config["num_codes"]
        chances = F.one_hot(first.clamp(min=0), codes).float() * (first != NO_CODE)[..., None]
        given = (_extended(part, self.config["tokens"]) for part in (chances, ids[..., 1:]))
        return self._summed(*given)[:, : ids.shape[1]]

    def decode(
        self, latents: Float[Tensor, "batch tokens width"], padding: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch frames features"]:
        """Features of latents, through which gradients flow to them."""
        whole = _extended(latents, self.config["tokens"])
        features = Decoded.apply(whole, _lengths(padding), self.run, self.pull)
        return features[:, : padding.shape[1] * self.frames_per_token]

    def denormalized(self, motion: Float[Tensor, "batch frames features"]) -> Float[Tensor, "batch frames features"]:
        """The same."""
        return motion

    @property
    def _others(self) -> int:
        return self.config["num_quantizers"] - 1

    def _summed(self, chances: Tensor, others: Tensor) -> Tensor:
        return self.codebooks(chances, torch.where(others == NO_CODE, self.config["num_codes"], others).int())[0]


class MotionExport(Export):
    """Text to motion; a pipeline with a control branch has a transformer more, and one with a length estimator that."""

    network = "motion_decoder"
    single = ("motion_pull",)
    """In half precision slopes vanish: a centimetre's, times the smallest deviation of a feature, is below its smallest
    number. In int8 the file would hold the weights twice, quantised for one direction alone."""
    command = "generate {slug} --runtime {back_end} --model THIS_FOLDER"

    def contract(self, pipeline: ControlMMPipeline) -> PipelineContract:
        """As `Export.contract`, for clips of up to 196 frames."""
        if pipeline.text_encoder is None:
            raise ValueError("this pipeline has no text encoder: an export needs it.")
        return PipelineContract(
            slug="controlmm",
            components=_components(pipeline),
            scheduler={},
            loop=_loop(pipeline),
            constants=_constants(pipeline),
            parts={"tokenizer": ("transformers", "AutoTokenizer")},
            configs={"pipeline": {}, **_configs(pipeline)},
        )

    def modules(self, pipeline: ControlMMPipeline) -> dict[str, nn.Module]:
        """As `Export.modules`."""
        transformer = explicit_twin(pipeline.transformer)
        found = {
            "text_encoder": PromptEncoder(pipeline.text_encoder),
            "length_estimator": pipeline.length_estimator,
            "transformer": FirstLayer(transformer),
            "controlled_transformer": None,
            "residual_transformer": FurtherLayers(explicit_twin(pipeline.residual_transformer)),
            "codebooks": Codebooks(pipeline.autoencoder),
            "motion_decoder": MotionDecoder(pipeline.autoencoder),
            "motion_pull": MotionPull(pipeline.autoencoder),
        }
        if pipeline.control_branch is not None:
            found["controlled_transformer"] = FirstLayer(transformer, explicit_twin(pipeline.control_branch))
        return {name: module.eval() for name, module in found.items() if module is not None}

    def assemble(
        self, contract: PipelineContract, runners: Mapping[str, Runner], parts: Mapping[str, Any]
    ) -> ControlMMPipeline:
        """As `Export.assemble`; gradients are those of the exported `motion_pull`."""
        configs, estimator, branch = contract.configs, None, None
        if "length_estimator" in runners:
            estimator = LengthEstimatorStandIn(runners["length_estimator"], configs["length_estimator"])
        if controlled := runners.get("controlled_transformer"):
            branch = ControlBranchStandIn(controlled, configs["control_branch"])
        return ControlMMPipeline(
            AutoencoderStandIn(*(runners[name] for name in MOTION_NETWORKS), configs["autoencoder"]),
            TransformerStandIn(runners["transformer"], controlled, configs["transformer"]),
            ResidualTransformerStandIn(runners["residual_transformer"], configs["residual_transformer"]),
            branch,
            estimator,
            PromptEncoderStandIn(runners["text_encoder"], configs["text_encoder"]),
            parts["tokenizer"],
        )

    def rehearse(self, pipeline: ControlMMPipeline, samples: range) -> np.ndarray:
        """Joints [n, motions, 196, 22, 3] in metres, 0 behind the end of a clip: free and controlled."""
        prompts = [motion_prompt(sample) for sample in samples]
        free: dict[str, Any] = {}
        if pipeline.length_estimator is None:
            free = {"length": [SHORTEST + 7 * sample % (LONGEST - SHORTEST) for sample in samples]}
        held = {"controls": [_held(sample) for sample in samples], "optimization": REHEARSAL_OPTIMIZATION}
        made = []
        for call in (free, held):
            generator = [torch.Generator().manual_seed(sample) for sample in samples]
            joints = pipeline(prompts, num_inference_steps=REHEARSAL_STEPS, generator=generator, **call).joints
            made.append(torch.stack([F.pad(own, (0, 0, 0, 0, 0, LONGEST - len(own))) for own in joints]))
        return torch.stack(made, 1).numpy()


EXPORTS = {ControlMMPipeline: MotionExport()}


def _components(pipeline: ControlMMPipeline) -> tuple[ComponentContract, ...]:
    ratio, tokens = pipeline.autoencoder.frames_per_token, _tokens(pipeline)
    codes, width = pipeline.transformer.config.num_codes, pipeline.transformer.config.text_width
    layers, frames = pipeline.autoencoder.config.num_quantizers, tokens * ratio
    lengths = TensorSpec("lengths", ("batch",), "int32", 0, tokens, "tokens of the clip; those behind are padding")
    text = TensorSpec("text", ("batch", width), "float32", None, None, "embedding of the prompt, or zeros for none")
    scores = ("batch", tokens, codes)
    logits = TensorSpec("logits", scores, "float32", None, None, "of the codes of each token")

    def numbers(name: str, shape: tuple[int, ...], meaning: str) -> TensorSpec:
        return TensorSpec(name, ("batch", *shape), "float32", None, None, meaning)

    def whole(name: str, shape: tuple[int, ...], high: int, meaning: str) -> TensorSpec:
        return TensorSpec(name, ("batch", *shape), "int32", 0, high, meaning)

    masked = f"of each code of the first layer, and last of the mask; {codes + 1} numbers a token whose sum is 1"
    chances = TensorSpec("chances", ("batch", tokens, codes + 1), "float32", 0, 1, masked)
    config = pipeline.text_encoder.config
    said = f"tokens of tokenizer/, cut or padded on the right to {_prompt_tokens(pipeline)}"
    ids = whole("input_ids", (_prompt_tokens(pipeline),), config.vocab_size - 1, said)
    found = [
        ComponentContract("text_encoder", (ids,), (text,), "turns a prompt's tokens into its embedding, once a motion")
    ]
    if pipeline.length_estimator is not None:
        classes = pipeline.length_estimator.config.max_tokens + 1
        length = numbers("logits", (classes,), "of motions of 0, 1, 2 ... tokens")
        purpose = "says how long the motion of a prompt is, where the user does not"
        found.append(ComponentContract("length_estimator", (text,), (length,), purpose))
    purpose = "finds codes of the first layer, once a step, twice with guidance"
    found.append(ComponentContract("transformer", (chances, text, lengths), (logits,), purpose))
    if pipeline.control_branch is not None:
        joints = len(pipeline.control_branch.config.control_joints)
        meaning = "x, y and z in metres: the ways of joints to their targets, then the targets; 0 where there is none"
        control = numbers("control", (frames, 6 * joints), meaning)
        purpose = "does so where joints have targets"
        inputs = (chances, text, lengths, control)
        found.append(ComponentContract("controlled_transformer", inputs, (logits,), purpose))
    before = whole("codes", (tokens, layers - 1), codes - 1, "codes of all layers but the last; later ones may be any")
    layer = whole("layer", (), layers - 2, "of the codes that are asked for, counted from the second: 0 is that")
    purpose = "finds the codes of one further layer, twice with guidance"
    found.append(ComponentContract("residual_transformer", (before, layer, text, lengths), (logits,), purpose))
    of_first = "of each code of the first layer; 1 and 0 for one that is known"
    first = TensorSpec("chances", scores, "float32", 0, 1, of_first)
    others = whole("codes", (tokens, layers - 1), codes, f"codes of all layers but the first; {codes} is none")
    latents = numbers("latents", (tokens, pipeline.autoencoder.config.code_width), "of each token the sum of its codes")
    found.append(ComponentContract("codebooks", (first, others), (latents,), "turns codes into latents"))
    features = numbers("features", (frames, pipeline.autoencoder.config.features), "HumanML3D's, in metres and radians")
    meaning = "x, y and z in metres, Y up; the first frame is above the origin and faces +Z"
    joints = numbers("joints", (frames, len(JOINTS), 3), meaning)
    purpose = "turns latents into motion, once, and at every step where something is controlled; statistics are inside"
    found.append(ComponentContract("motion_decoder", (latents, lengths), (features, joints), purpose))
    given = [
        TensorSpec(f"{spec.name}_gradient", spec.shape, "float32", -SLOPE, SLOPE, _slope(spec.name))
        for spec in (features, joints)
    ]
    made = numbers("latents_gradient", latents.shape[1:], "of the same loss, by the latents")
    purpose = (
        "turns gradients of motion into those of latents (the vector-Jacobian product of motion_decoder); float32 "
    )
    purpose += "in every precision"
    found.append(ComponentContract("motion_pull", (latents, lengths, *given), (made,), purpose))
    return tuple(found)


def _loop(pipeline: ControlMMPipeline) -> str:
    codes, layers = pipeline.transformer.config.num_codes, pipeline.autoencoder.config.num_quantizers
    ratio, tokens = pipeline.autoencoder.frames_per_token, _tokens(pipeline)
    shared = {"ratio": ratio, "tokens": tokens, "padded": ratio * tokens, "codes": codes, "joints": len(JOINTS)}
    estimated = ""
    if pipeline.length_estimator is not None:
        estimated = ESTIMATED.format(least=SHORTEST // ratio, most=LONGEST // ratio, ratio=ratio)
    loop = LOOP.format(
        prompt_tokens=_prompt_tokens(pipeline),
        shortest=SHORTEST,
        longest=LONGEST,
        estimated=estimated,
        kept=math.ceil(LIKELIEST * codes),
        certain=CERTAIN,
        last_layer=layers - 1,
        seen_layer=layers - 2,
        **shared,
    )
    branch, transformer = "", "transformer"
    if pipeline.control_branch is not None:
        joints = ", ".join(map(str, pipeline.control_branch.config.control_joints))
        branch, transformer = BRANCH.format(control_joints=joints, **shared), "controlled_transformer"
    controlled = CONTROLLED.format(
        branch=branch,
        transformer=transformer,
        rate=LEARNING_RATE,
        kept=1 - LEARNING_RATE * WEIGHT_DECAY,
        beta1=BETAS[0],
        beta2=BETAS[1],
        one_less_beta1=1 - BETAS[0],
        one_less_beta2=1 - BETAS[1],
        **shared,
    )
    return loop + controlled


def _constants(pipeline: ControlMMPipeline) -> dict[str, Any]:
    call = inspect.signature(ControlMMPipeline.__call__).parameters
    return {
        "num_inference_steps": pipeline.defaults.num_inference_steps,
        "guidance_scale": pipeline.defaults.guidance_scale,
        "residual_guidance_scale": call["residual_guidance_scale"].default,
        "optimizations": {name: [steps.each, steps.last] for name, steps in OPTIMIZATIONS.items()},
        "learning_rate": LEARNING_RATE,
        "betas": list(BETAS),
        "weight_decay": WEIGHT_DECAY,
        "frames": [SHORTEST, LONGEST],
        "frames_per_second": FRAMES_PER_SECOND,
        "frames_per_token": pipeline.autoencoder.frames_per_token,
        "tokens": _tokens(pipeline),
        "codes": pipeline.transformer.config.num_codes,
        "layers": pipeline.autoencoder.config.num_quantizers,
        "kept_codes": math.ceil(LIKELIEST * pipeline.transformer.config.num_codes),
        "joints": list(JOINTS),
        "parents": list(PARENTS),
    }


def _configs(pipeline: ControlMMPipeline) -> dict[str, dict[str, Any]]:
    """What the pipeline reads of each component's config; the tokens and frames of an export beside it."""
    sizes = {"tokens": _tokens(pipeline), "frames_per_token": pipeline.autoencoder.frames_per_token}
    wanted = {
        "autoencoder": ("features", "num_codes", "num_quantizers"),
        "transformer": ("num_codes", "text_width", "width", "num_layers"),
        "residual_transformer": ("num_codes", "text_width", "num_quantizers"),
        "control_branch": ("control_joints", "width", "num_layers", "conv_stages"),
        "length_estimator": ("text_width",),
        "text_encoder": ("max_position_embeddings", "projection_dim"),
    }
    found = {name: getattr(pipeline, name) for name in wanted}
    configs = {
        name: {key: getattr(part.config, key) for key in wanted[name]}
        for name, part in found.items()
        if part is not None
    }
    for name in ("autoencoder", "transformer", "residual_transformer"):
        configs[name] |= sizes
    return configs


def _held(sample: int) -> MotionControls:
    """A joint, another from sample to sample, at a few places of a way ahead."""
    frames = SHORTEST + 37 * sample % (LONGEST - SHORTEST)
    joint = list(CONTROL_JOINTS)[sample % len(CONTROL_JOINTS)]
    targets, mask = torch.zeros(frames, len(JOINTS), 3), torch.zeros(frames, len(JOINTS), dtype=torch.bool)
    at = torch.arange(sample % 5, frames, 2 + sample % 9)
    share = at / frames
    ways = torch.stack([(sample % 7 - 3) * 0.2 * share, 0.9 + 0.1 * torch.sin(9 * share), 2.0 * share], -1)
    targets[at, joint], mask[at, joint] = ways, True
    return MotionControls(targets, mask)


def _tokens(pipeline: ControlMMPipeline) -> int:
    return LONGEST // pipeline.autoencoder.frames_per_token


def _prompt_tokens(pipeline: ControlMMPipeline) -> int:
    return pipeline.text_encoder.config.max_position_embeddings


def _slope(name: str) -> str:
    return f"of a loss, by the {name}; 0 behind the end of the clip, and of any size: what comes out grows with it"


def _lengths(padding: Tensor) -> Tensor:
    return (~padding).sum(1, dtype=torch.int32)


def _extended(values: Tensor, length: int) -> Tensor:
    """With zeros behind, as long as an export takes them."""
    return F.pad(values, (0, 0, 0, length - values.shape[1]))
