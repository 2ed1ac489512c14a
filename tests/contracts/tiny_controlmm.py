"""ControlMM's models and pipeline, tiny and real."""

from typing import Any

import torch
from contract_cases import ModelCase, MotionCase
from little_texts import MOTION_WORDS, make_tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE
from pocket_diffusers.hub_models.control_branch_controlmm import ControlMMControlBranch
from pocket_diffusers.hub_models.evaluator_controlmm import MotionTextEvaluator
from pocket_diffusers.hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from pocket_diffusers.hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from pocket_diffusers.pipelines.motion.motion_optimization import OptimizationSteps
from pocket_diffusers.pipelines.pipeline_controlmm import ControlMMPipeline

TEXT_WIDTH = 12
TRUNK = {"width": 16, "num_layers": 2, "num_heads": 2, "ff_width": 32}
CODES = {"num_codes": 20, "code_width": 8, "text_width": TEXT_WIDTH, "dropout": 0.0}
TOKENIZER = {"width": 16, "depth": 1, "dropout": 0.0, "num_quantizers": 3, "num_codes": 20, "code_width": 8}


def make_components() -> dict[str, Any]:
    """Every component by name: 20 codes in each of 3 layers."""
    torch.manual_seed(0)
    autoencoder = MotionRVQVAE(**TOKENIZER)
    for parameter in autoencoder.decoder.parameters():  # so that codes move a body about
        parameter.data *= 1.5
    std = torch.full((263,), 0.3)
    std[0], std[1:3] = 0.02, 0.1
    mean = torch.zeros(263)
    mean[3] = 0.9
    autoencoder.set_statistics(mean, std)
    transformer = ControlMMTransformer(**CODES, **TRUNK)
    residual = ControlMMResidualTransformer(num_quantizers=3, **CODES, **TRUNK)
    for model in (transformer, residual):  # of new weights every token is alike
        fill(model)
    branch = ControlMMControlBranch.from_transformer(transformer, conv_width=8, conv_depth=1)
    fill(branch)
    components = {
        "autoencoder": autoencoder,
        "transformer": transformer,
        "residual_transformer": residual,
        "control_branch": branch,
        "length_estimator": ControlMMLengthEstimator(text_width=TEXT_WIDTH, width=16),
        "text_encoder": make_text_encoder(),
    }
    return {name: model.eval() for name, model in components.items()} | {"tokenizer": tokenizer()}


def fill(model: nn.Module) -> None:
    """Noise on the weights, so that every input shows in the result."""
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)


def tokenizer():
    return make_tokenizer(16, vocabulary=MOTION_WORDS)


def make_text_encoder() -> CLIPTextModelWithProjection:
    words = tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=TEXT_WIDTH, pad_token_id=0, bos_token_id=1,
        eos_token_id=words.eos_token_id, initializer_factor=5.0,
    )  # fmt: skip
    return CLIPTextModelWithProjection(config)


def make_pipeline(**components: Any) -> ControlMMPipeline:
    """Motions of 4 frames a token."""
    pipeline = ControlMMPipeline(**{**make_components(), **components})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


EMBEDS = torch.zeros(1, TEXT_WIDTH)
REFUSED_CALLS = [
    ({"prompt": None}, r"^pass either prompt or prompt_embeds\.$"),
    ({"prompt_embeds": EMBEDS}, r"^pass either prompt or prompt_embeds, not both\.$"),
    ({"prompt": None, "prompt_embeds": EMBEDS[:, :5]}, r"^prompt_embeds must be a tensor \[prompts, 12\], not"),
    ({"prompt": 3}, r"^prompt must be a string or a list of strings .*, not 3\.$"),
    ({"prompt": []}, "prompt must be a string or a list"),
    ({"prompt": ["a person waves", " "]}, r"^prompt \(entry 1\) is empty: describe the motion in words\.$"),
    ({"length": True}, r"^length must be int, a list of them or None, not True\.$"),
    ({"residual_guidance_scale": -1}, r"^residual_guidance_scale must be a number of at least 0, not -1\.$"),
    ({"output_type": "pil"}, r"^output_type must be one of np, pt, not 'pil'\.$"),
    (
        {"callback_on_step_end": print, "callback_on_step_end_tensor_inputs": ["latents"]},
        r"^callback_on_step_end_tensor_inputs must be one of logits, tokens, prompt_embeds, not 'latents'\.$",
    ),
]
PIPELINES = {
    "text-to-motion": MotionCase(
        make=make_pipeline,
        argument="prompt",
        values=("a person walks forward slowly", "someone jumps up two times", "a man waves with both hands"),
        copies="num_motions_per_prompt",
        watched={"prompt_embeds": 1, "logits": 1, "tokens": 1},
        short={"length": 20},
        refused=REFUSED_CALLS,
        misfits=[
            ({"tokenizer": None}, "text_encoder needs its tokenizer: pass both or neither"),
            (
                {"transformer": ControlMMTransformer(**CODES | {"num_codes": 9}, **TRUNK)},
                r"transformer\.num_codes must be 20 as the autoencoder's, not 9",
            ),
            (
                {"residual_transformer": ControlMMResidualTransformer(num_quantizers=4, **CODES, **TRUNK)},
                r"residual_transformer\.num_quantizers must be 3",
            ),
            (
                {"length_estimator": ControlMMLengthEstimator(text_width=9)},
                r"length_estimator\.text_width must be 12",
            ),
            (
                {"control_branch": ControlMMControlBranch(width=16, num_layers=3, num_heads=2)},
                r"control_branch\.num_layers must be 2",
            ),
            ({"autoencoder": MotionRVQVAE(**TOKENIZER, features=251)}, r"autoencoder\.features must be 263"),
        ],
    )
}

TOKENS = 5


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(0))


def tokenizer_outputs(model: MotionRVQVAE, sample: Tensor) -> list[Tensor]:
    return [model(sample, torch.Generator().manual_seed(0)).sample]


AUTOENCODER = ModelCase(
    cls=MotionRVQVAE,
    options={**TOKENIZER, "features": 7},
    inputs=lambda model, samples: {"sample": numbers(samples, 16, model.config.features)},
    outputs=tokenizer_outputs,
    presets={"paper": 19_436_807, "nano": 837_303},
    layouts={"defaults": {}, "one stage": {"stages": 1}, "one layer": {"num_quantizers": 1}},
    refused_inputs=[
        (
            {"sample": torch.zeros(2, 16, 8)},
            r"motion must be \[batch, frames, 7\] of 4 frames or more, not \[2, 16, 8\]",
        ),
        ({"sample": torch.zeros(2, 3, 7)}, r"of 4 frames or more, not \[2, 3, 7\]"),
        ({"sample": torch.zeros(16, 7)}, r"not \[16, 7\]"),
    ],
    refused_options=[
        ({"codebook_decay": 1.0}, "decay must be between 0 and 1, not 1"),
        ({"code_reset_below": 2.0}, "reset_below must be above 0 and at most 1, which new codes begin with, not 2"),
        ({"gumbel_temperature": -1.0}, "temperature must be at least 0, not -1"),
        ({"quantize_dropout": 1.5}, "dropout must be a chance from 0 to 1, not 1.5"),
    ],
)


def transformer_inputs(model: ControlMMTransformer, samples: int) -> dict[str, Tensor]:
    return {"tokens": codes(model.config.num_codes, samples, TOKENS), "text": numbers(samples, TEXT_WIDTH)}


TRANSFORMER = ModelCase(
    cls=ControlMMTransformer,
    options={**CODES, **TRUNK},
    inputs=transformer_inputs,
    outputs=lambda model, **inputs: [model(**inputs)],
    presets={"paper": 12_048_768, "nano": 670_464},
    fill=fill,
    refused_inputs=[
        ({"tokens": codes(20, 2, TOKENS, 3)}, r"tokens must be ids .* not torch\.int64 \[2, 5, 3\]"),
        ({"tokens": torch.zeros(2, TOKENS, 5)}, r"embeddings \[batch, tokens, 8\], not torch\.float32 \[2, 5, 5\]"),
        ({"text": torch.zeros(3, TEXT_WIDTH)}, r"text must be \[batch, text_width\] = \[2, 12\], not \[3, 12\]"),
        ({"padding": torch.zeros(2, 4, dtype=torch.bool)}, r"padding must be booleans .* = \[2, 5\], not"),
        ({"branch": nn.Identity()}, "branch and control must be given together"),
    ],
    refused_options=[({"width": 15}, "15 channels do not divide into 2 heads")],
)


def residual_inputs(model: ControlMMResidualTransformer, samples: int) -> dict[str, Tensor]:
    """Of all layers that there are."""
    layers = model.config.num_quantizers
    return {
        "ids": codes(model.config.num_codes, samples, TOKENS, layers),
        "layer": layers - 1 - torch.arange(samples) % (layers - 1),
        "text": numbers(samples, TEXT_WIDTH),
    }


RESIDUAL = ModelCase(
    cls=ControlMMResidualTransformer,
    options={"num_quantizers": 3, **CODES, **TRUNK},
    inputs=residual_inputs,
    outputs=lambda model, **inputs: [model(**inputs)],
    presets={"paper": 13_364_224, "nano": 456_352},
    fill=fill,
    refused_inputs=[
        ({"ids": codes(20, 2, TOKENS)}, r"ids must be \[batch, tokens, 2 layers or more\], not \[2, 5\]"),
        ({"ids": codes(20, 2, TOKENS, 1)}, r"2 layers or more\], not \[2, 5, 1\]"),
        ({"layer": 0}, r"layer must be from 1 to 2, not \[0\]"),
        ({"layer": torch.tensor([1, 3])}, r"layer must be from 1 to 2, not \[1, 3\]"),
        ({"text": torch.zeros(1, TEXT_WIDTH)}, r"text must be .* not \[1, 12\]"),
    ],
    refused_options=[({"num_quantizers": 1}, "num_quantizers must be at least 2, or nothing is left to predict")],
)


def branch_inputs(model: ControlMMControlBranch, samples: int) -> dict[str, Tensor]:
    channels = 6 * len(model.config.control_joints)
    return {
        "x": numbers(samples, 1 + TOKENS, model.config.width),
        "control": numbers(samples, 4 * TOKENS, channels, seed=1),
    }


def branch_outputs(model: ControlMMControlBranch, **inputs: Tensor) -> list[Tensor]:
    start, residuals = model(**inputs)
    return [start, *residuals]


BRANCH = ModelCase(
    cls=ControlMMControlBranch,
    options={"control_joints": (0, 2), "conv_width": 8, "conv_depth": 2, **TRUNK},
    inputs=branch_inputs,
    outputs=branch_outputs,
    presets={"paper": 21_418_240, "paper-pelvis": 21_372_160, "nano": 743_104},
    fill=fill,
    layouts={
        "defaults": {},
        "pelvis": {"control_joints": (0,)},
        "into the frozen input": {"control_into_frozen_input": True},
    },
    refused_inputs=[
        ({"control": torch.zeros(2, 20, 6)}, r"= \[2, 20, 12\], not \[2, 20, 6\]"),
        ({"control": torch.zeros(2, 19, 12)}, r"control must be \[batch, frames, controls\] = .*, not \[2, 19, 12\]"),
        ({"padding": torch.zeros(2, 4, dtype=torch.bool)}, r"padding must be booleans .* \[2, 5\], not"),
    ],
    refused_options=[
        ({"control_joints": ()}, r"control_joints must be one or more different joints, not \(\)"),
        ({"control_joints": (0, 0)}, r"different joints, not \(0, 0\)"),
    ],
)

LENGTHS = ModelCase(
    cls=ControlMMLengthEstimator,
    options={"text_width": TEXT_WIDTH, "width": 16, "dropout": 0.0},
    inputs=lambda model, samples: {"text": numbers(samples, TEXT_WIDTH)},
    outputs=lambda model, **inputs: [model(**inputs)],
    presets={"paper": 435_122, "nano": 28_946},
    refused_inputs=[({"text": torch.zeros(2, 13)}, r"text must be \[batch, 12\], not \[2, 13\]")],
)


def evaluator_inputs(model: MotionTextEvaluator, samples: int) -> dict[str, Tensor]:
    config = model.config
    vocabulary, parts = config.vocabulary_size, config.pos_dim
    inputs = {
        "features": numbers(samples, config.max_frames, config.num_features),
        "lengths": 8 + 4 * torch.arange(samples),
        "words": numbers(samples, 9, config.word_dim) if vocabulary is None else codes(vocabulary, samples, 9),
        "word_counts": 9 - torch.arange(samples),
    }
    return inputs | ({"parts_of_speech": torch.eye(parts)[codes(parts, samples, 9)]} if parts else {})


def evaluator_outputs(model: MotionTextEvaluator, **inputs: Tensor) -> list[Tensor]:
    made = model(**inputs)
    return [made.motion, made.text]


EVALUATOR = ModelCase(
    cls=MotionTextEvaluator,
    options={
        "word_dim": 6, "pos_dim": 3, "movement_dim": 8, "motion_hidden_dim": 10, "text_hidden_dim": 7,
        "embedding_dim": 5, "num_features": 12, "max_frames": 24, "dropout": 0.0,
    },
    inputs=evaluator_inputs,
    outputs=evaluator_outputs,
    presets={"paper": 21_690_560, "nano": 588_384},
    layouts={"vectors of words": {}, "words": {"vocabulary_size": 11, "pos_dim": 0}},
    refused_inputs=[
        ({"features": torch.zeros(2, 24, 11)}, "features must have 12 a frame, not 11"),
        ({"lengths": torch.tensor([8, 3])}, "lengths must be from 4 to 24, not"),
        ({"lengths": torch.tensor([8, 25])}, "lengths must be from 4 to 24, not"),
        ({"lengths": torch.tensor([8])}, r"lengths must be 2 whole numbers, not torch\.int64 \[1\]"),
        ({"lengths": torch.full((2,), 8.0)}, "lengths must be 2 whole numbers, not torch.float32"),
        ({"word_counts": torch.zeros(2, dtype=torch.long)}, "word_counts must be from 1 to 9, not"),
        ({"words": torch.zeros(2, 9, 7)}, r"words must be vectors \[batch, words, 6\], not torch\.float32 \[2, 9, 7\]"),
        ({"words": codes(9, 2, 9)}, r"words must be vectors .*, not torch\.int64 \[2, 9\]"),
        ({"parts_of_speech": None}, r"parts_of_speech must be \[2, 9, 3\], not None"),
        ({"parts_of_speech": torch.zeros(2, 9, 4)}, r"parts_of_speech must be \[2, 9, 3\], not \[2, 9, 4\]"),
    ],
    refused_options=[
        ({"num_features": 4}, "num_features must be at least 5, not 4"),
        ({"vocabulary_size": 0}, "vocabulary_size must be None or at least 1, not 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), not 1\.0"),
    ],
)  # fmt: skip

MODELS = {
    "autoencoder": AUTOENCODER,
    "transformer": TRANSFORMER,
    "residual_transformer": RESIDUAL,
    "control_branch": BRANCH,
    "length_estimator": LENGTHS,
    "evaluator": EVALUATOR,
}

# What its benchmark measures in the contract: how much less than it does by itself, and what not at all

MEASURED = {
    "model": "nano", "repeats": 2, "threads": 1, "condition_clips": 3, "ablated_clips": 5,
    "ablated_optimization": OptimizationSteps(1, 1),
}  # fmt: skip
NOT_MEASURED = {
    "quality": "diversity needs 101 clips: tests/eval/claims/controlmm/test_quality.py has a judge who says numbers",
    "control": "it makes 37 batches: tests/eval/claims/controlmm/test_control.py moves true clips in place of them",
}
LACKING: dict[str, set[str]] = {}
"""Measurement -> rows that `MEASURED` leaves out."""
