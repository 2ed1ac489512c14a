"""How ControlMM (arXiv 2410.10780) is trained: one stage after the other, each leaving `<output>/<stage>/model`.

| stage | learns |
|---|---|
| text | the text encoder of the nano model, from captions of motion |
| autoencoder | motion as six layers of codes, and the statistics by which it is normalised |
| base | the codes of the first layer, from text, masked |
| residual | the codes of the other layers |
| length | how long a prompt's motion is |
| control | the branch that tells the base of wanted joints; leaves the whole pipeline |
| judge | an evaluator of motions and texts, which measures and never trains anything |

Preset `nano` learns the motion world on two CPU cores; `paper` reads a folder of HumanML3D's layout and takes CLIP's
text encoder. Four stages take MoMask's released weights in place of learning: `--set init_from_momask=FILE`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

from ..hub_models.autoencoder_controlmm import MotionRVQVAE
from ..hub_models.control_branch_controlmm import ControlMMControlBranch
from ..hub_models.evaluator_controlmm import MotionTextEvaluator, MotionTextOutput
from ..hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from ..hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from ..pipelines.files import whole_folder
from ..pipelines.inputs import require
from ..pipelines.motion.motion_features import MotionStatistics, joints_of_features
from ..pipelines.pipeline_controlmm import ControlMMPipeline
from .datasets.humanml3d import HumanML3D
from .datasets.motion_clips import FRAMES_PER_TOKEN, MotionClips
from .datasets.motionworld import load_motionworld
from .momask_weights_controlmm import (
    load_autoencoder,
    load_length_estimator,
    load_residual_transformer,
    load_transformer,
)
from .objectives.contrastive import train_tokenizer
from .objectives.controlled_tokens import ControlledMotion, ControlledTokens, random_control
from .objectives.length_estimation import LengthEstimation
from .objectives.masked_tokens import CodedMotion, MaskedTokens, ResidualTokens
from .objectives.matching import CaptionedMotions, Matching, numbered
from .objectives.motion_reconstruction import MotionReconstruction
from .preset import Preset
from .stages import Stage, StageRun, run_stage
from .word_tokenizer import train_word_tokenizer

WORLD = "motionworld"
TEXT_TOKENS = 32  # longest caption of the nano model
JUDGED_WORDS = 48  # longest caption of the judge, in whole words

# The numbers


@dataclass(frozen=True, kw_only=True)
class MotionPreset(Preset):
    """What every stage is told.

    Attributes:
        source: "motionworld", which is made in memory, or a folder of HumanML3D's layout.
        num_clips: of the motion world.
        model: preset of the stage's network.
        init_from_momask: file of MoMask's released weights of the stage's network, which are converted in place of
            learning; they fit the preset "paper".
    """

    source: str = WORLD
    num_clips: int = 10_000
    model: str = "nano"
    init_from_momask: str = ""
    warmup_steps: int = 200
    mixed_precision: str = "no"

    def __post_init__(self):
        super().__post_init__()
        require(self.num_clips >= 1, "num_clips", self.num_clips, "at least 1")


@dataclass(frozen=True, kw_only=True)
class AutoencoderPreset(MotionPreset):
    """Motion as codes.

    Attributes:
        window: frames of a piece that is encoded; shorter clips are left out.
    """

    window: int = 64

    def __post_init__(self):
        super().__post_init__()
        fits = self.window >= FRAMES_PER_TOKEN and self.window % FRAMES_PER_TOKEN == 0
        require(fits, "window", self.window, f"a multiple of {FRAMES_PER_TOKEN}")


@dataclass(frozen=True, kw_only=True)
class TokensPreset(MotionPreset):
    """Codes from text.

    Attributes:
        text_encoder: folder or Hub id of a CLIP; "" takes what stage `text` left in the same output.
        text_drop: chance that a clip is shown without its caption, in 0..1.
        everywhere: of the base: whether its loss counts codes that were not hidden, too.
        noise: of the base: see `MaskedTokens`.
    """

    text_encoder: str = ""
    text_drop: float = 0.1
    everywhere: bool = True
    noise: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.text_drop <= 1, "text_drop", self.text_drop, "in 0..1")
        require(self.noise >= 0, "noise", self.noise, "at least 0")


@dataclass(frozen=True, kw_only=True)
class ControlPreset(TokensPreset):
    """The branch of control.

    Attributes:
        cross: chance that a clip is controlled at cells of all joints, not at frames of one, in 0..1.
        code_weight, joint_weight: see `ControlledTokens`.
    """

    text_drop: float = 0.0
    cross: float = 0.5
    code_weight: float = 0.5
    joint_weight: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.cross <= 1, "cross", self.cross, "in 0..1")


CLIP = "openai/clip-vit-base-patch32"
PAPER = {"source": "", "model": "paper", "learning_rate": 2e-4, "warmup_steps": 2000}
CODES = {**PAPER, "text_encoder": CLIP, "batch_size": 64}

# fmt: off
TEXT = {
    "nano":  MotionPreset(seed=0, steps=1_500,   batch_size=128, learning_rate=1e-3),
}
JUDGE = {
    "nano":  MotionPreset(seed=1, steps=1_500,   batch_size=128, learning_rate=1e-3),
}
AUTOENCODER = {
    "nano":  AutoencoderPreset(seed=0, steps=4_500,   batch_size=64,  learning_rate=1e-3, window=40),
    "paper": AutoencoderPreset(seed=0, steps=250_000, batch_size=256, **PAPER),
}
BASE = {
    "nano":  TokensPreset(seed=0, steps=4_000,   batch_size=64, learning_rate=1e-3),
    "paper": TokensPreset(seed=0, steps=180_000, **CODES),
}
RESIDUAL = {
    "nano":  TokensPreset(seed=0, steps=3_000,   batch_size=64, learning_rate=1e-3, text_drop=0.2),
    "paper": TokensPreset(seed=0, steps=180_000, text_drop=0.2, **CODES),
}
LENGTH = {
    "nano":  TokensPreset(seed=0, steps=1_000,   batch_size=128, learning_rate=1e-3, text_drop=0.0),
    "paper": TokensPreset(seed=0, steps=50_000,  text_drop=0.0, **CODES),
}
CONTROL = {
    "nano":         ControlPreset(seed=0, steps=2_500,   batch_size=32, learning_rate=5e-4),
    "paper":        ControlPreset(seed=0, steps=180_000, **CODES),
    "paper-pelvis": ControlPreset(seed=0, steps=180_000, cross=0.0, code_weight=0.1, joint_weight=0.9,
                                  **{**CODES, "model": "paper-pelvis"}),
}
# fmt: on


STAGES_OF_MOMASK = "autoencoder, base, residual and length"


def has_no_momask(stage: str, preset: MotionPreset) -> None:
    """Refuses MoMask's weights for a stage whose network MoMask has not."""
    allowed = f"left out of stage {stage}: MoMask has networks of {STAGES_OF_MOMASK}"
    require(not preset.init_from_momask, "init_from_momask", preset.init_from_momask, allowed)


def converted(model: nn.Module, load: Callable[[nn.Module, str], None], preset: MotionPreset, run: StageRun) -> Path:
    """Saves a network with MoMask's weights, which `load` puts into it."""
    load(model, str(run.begins_with("init_from_momask", preset.init_from_momask)))
    return run.save(model)


# Data


def clips_of(preset: MotionPreset) -> MotionClips:
    if preset.source == WORLD:
        return MotionClips.of(load_motionworld(preset.split, preset.num_clips, 0))
    return MotionClips.of(HumanML3D(preset.source, preset.split))


class Texts:
    """Embeddings of all captions, made once.

    Args:
        clips: with the captions.
        source: folder or Hub id of a CLIP text encoder with its tokenizer.
        drop: chance that a clip is shown without, which is zeros.
    """

    def __init__(self, clips: MotionClips, source: str | Path, drop: float, device: torch.device) -> None:
        encoder, tokenizer = text_encoder(source)
        words = sorted(set(clips.every_caption()))
        self.rows = {text: row for row, text in enumerate(words)}
        self.table = torch.cat([
            embeddings(encoder.to(device), tokenizer, words[start : start + 256]).cpu()
            for start in range(0, len(words), 256)
        ])  # fmt: skip
        self.clips, self.drop = clips, drop

    def __call__(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        rows = [self.rows[text] for text in self.clips.texts(batch, generator)]
        dropped = torch.rand(len(batch), generator=generator) < self.drop
        return self.table[rows] * ~dropped[:, None]


def text_encoder(source: str | Path) -> tuple[CLIPTextModelWithProjection, Any]:
    """A CLIP text encoder that does not learn, and its tokenizer."""
    encoder = CLIPTextModelWithProjection.from_pretrained(source, dtype=torch.float32).eval().requires_grad_(False)
    return encoder, AutoTokenizer.from_pretrained(source)


@torch.no_grad()
def embeddings(encoder: CLIPTextModelWithProjection, tokenizer: Any, texts: list[str]) -> Tensor:
    ids, _ = token_ids(tokenizer, texts, encoder.config.max_position_embeddings)
    return encoder(ids.to(encoder.device)).text_embeds


class TokenIds(NamedTuple):
    ids: Tensor  # [texts, most], padded
    counts: Tensor  # of each text, with its start and end


def token_ids(tokenizer: Any, texts: list[str], most: int) -> TokenIds:
    """Numbers of the tokens of texts, of which what is beyond `most` is left out."""
    tokens = tokenizer(texts, padding="max_length", max_length=most, truncation=True, return_tensors="pt")
    return TokenIds(tokens.input_ids, tokens.attention_mask.sum(1))


# Stages of texts and motions in one space


class Captioned:
    """Clips with their captions as numbers: what the stages of one space for texts and motions are shown.

    Their motion is normalised without emphasis, so that no feature counts for more.
    """

    def __init__(self, clips: MotionClips, tokenizer: Any, words: int) -> None:
        self.clips, self.tokenizer, self.words = clips, tokenizer, words
        self.statistics = MotionStatistics.of([clips.frames])

    def __call__(self, batch: Tensor, generator: torch.Generator) -> CaptionedMotions:
        batch = batch.cpu()
        crops, texts = self.clips.crops(batch, generator), self.clips.texts(batch, generator)
        ids, counts = token_ids(self.tokenizer, texts, self.words)
        features = (crops.features - self.statistics.mean) / self.statistics.std
        return CaptionedMotions(features, crops.tokens * FRAMES_PER_TOKEN, ids, counts, numbered(texts))


class TextBesideMotion(nn.Module):
    """A text encoder in the place of an evaluator's own, called as an evaluator is.

    Args:
        encoder: learns; its projected embedding is where a text lies.
        evaluator: whose motion half learns beside it.
    """

    def __init__(self, encoder: CLIPTextModelWithProjection, evaluator: MotionTextEvaluator) -> None:
        super().__init__()
        self.encoder, self.evaluator = encoder, evaluator
        for replaced in (evaluator.word_vectors, evaluator.text_encoder):
            replaced.requires_grad_(False)

    def forward(self, features: Tensor, lengths: Tensor, words: Tensor, word_counts: Tensor) -> MotionTextOutput:
        motion = self.evaluator.embed_motion(features, lengths)
        return MotionTextOutput(motion=motion, text=self.encoder(words).text_embeds)


def train_text(preset: MotionPreset, run: StageRun) -> Path:
    has_no_momask("text", preset)
    clips = clips_of(preset)
    torch.manual_seed(preset.seed)
    tokenizer = train_tokenizer(clips.every_caption(), TEXT_TOKENS)
    width = ControlMMTransformer.presets[preset.model]["text_width"]
    encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=TEXT_TOKENS, projection_dim=width,
            pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    evaluator = MotionTextEvaluator.from_preset(preset.model, embedding_dim=width)
    towers = TextBesideMotion(encoder, evaluator).to(run.device)
    captioned = Captioned(clips, tokenizer, TEXT_TOKENS)
    run.learn(Matching(towers, captioned, preset.learning_rate), run.indices(len(clips)))
    return run.save(encoder, tokenizer)


def train_judge(preset: MotionPreset, run: StageRun) -> Path:
    has_no_momask("judge", preset)
    clips = clips_of(preset)
    evaluator = run.new_model(MotionTextEvaluator).to(run.device)
    vocabulary = evaluator.config.vocabulary_size
    captioned = Captioned(clips, train_word_tokenizer(clips.every_caption(), JUDGED_WORDS, vocabulary), JUDGED_WORDS)
    run.learn(Matching(evaluator, captioned, preset.learning_rate), run.indices(len(clips)))

    def write(folder: Path) -> None:
        with whole_folder(folder) as draft:
            evaluator.save_pretrained(draft)
            captioned.tokenizer.save_pretrained(draft)
            captioned.statistics.save(draft)

    return run.write(write)


# Stage autoencoder


def train_autoencoder(preset: AutoencoderPreset, run: StageRun) -> Path:
    clips = clips_of(preset)
    autoencoder = run.new_model(MotionRVQVAE, "autoencoder").to(run.device)
    statistics = MotionStatistics.of([clips.frames]).emphasised()
    autoencoder.set_statistics(statistics.mean, statistics.std)
    if preset.init_from_momask:
        return converted(autoencoder, load_autoencoder, preset, run)
    long_enough = clips.at_least(preset.window)

    def windows(batch: Tensor, generator: torch.Generator) -> Tensor:
        pieces = clips.windows(long_enough[batch.cpu()], preset.window, generator)
        return autoencoder.normalized(pieces.to(run.device))

    run.learn(MotionReconstruction(autoencoder, windows, preset.learning_rate), run.indices(len(long_enough)))
    return run.save(autoencoder)


# Stages of codes


class Coding:
    """Clips as codes, and their captions' embeddings: what the stages of codes are shown."""

    def __init__(self, preset: TokensPreset, run: StageRun) -> None:
        self.clips, self.device = clips_of(preset), run.device
        source = run.begins_with("text_encoder", preset.text_encoder or run.earlier("text"))
        self.texts = Texts(self.clips, source, preset.text_drop, run.device)
        folder = run.begins_with("autoencoder", run.earlier("autoencoder"))
        self.autoencoder = MotionRVQVAE.from_pretrained(folder).to(run.device).eval().requires_grad_(False)

    def __call__(self, batch: Tensor, generator: torch.Generator) -> CodedMotion:
        return self.controlled(batch, generator)[0]

    def controlled(self, batch: Tensor, generator: torch.Generator) -> tuple[CodedMotion, Tensor, Tensor]:
        """Codes, joints in metres, and which frames are no padding."""
        batch = batch.cpu()
        crops = self.clips.crops(batch, generator)
        text, padding = self.texts(batch, generator), crops.padding
        features = crops.features.to(self.device)
        ids = self.autoencoder.encode(self.autoencoder.normalized(features), padding.to(self.device))
        coded = CodedMotion(ids.cpu(), padding, text)
        return coded, joints_of_features(crops.features), ~padding.repeat_interleave(FRAMES_PER_TOKEN, 1)

    def __len__(self) -> int:
        return len(self.clips)


def train_base(preset: TokensPreset, run: StageRun) -> Path:
    if preset.init_from_momask:
        return converted(ControlMMTransformer.from_preset(preset.model), load_transformer, preset, run)
    coding = Coding(preset, run)
    transformer = run.new_model(ControlMMTransformer, "transformer").to(run.device)
    objective = MaskedTokens(transformer, coding, preset.learning_rate, preset.noise, preset.everywhere)
    run.learn(objective, run.indices(len(coding)))
    return run.save(transformer)


def train_residual(preset: TokensPreset, run: StageRun) -> Path:
    if preset.init_from_momask:
        return converted(ControlMMResidualTransformer.from_preset(preset.model), load_residual_transformer, preset, run)
    coding = Coding(preset, run)
    transformer = run.new_model(ControlMMResidualTransformer, "residual_transformer").to(run.device)
    run.learn(ResidualTokens(transformer, coding, preset.learning_rate), run.indices(len(coding)))
    return run.save(transformer)


def train_length(preset: TokensPreset, run: StageRun) -> Path:
    if preset.init_from_momask:
        return converted(ControlMMLengthEstimator.from_preset(preset.model), load_length_estimator, preset, run)
    clips = clips_of(preset)
    source = run.begins_with("text_encoder", preset.text_encoder or run.earlier("text"))
    texts = Texts(clips, source, 0.0, run.device)
    estimator = run.new_model(ControlMMLengthEstimator, "length_estimator").to(run.device)

    def told(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        batch = batch.cpu()
        return texts(batch, generator), clips.lengths[batch] // FRAMES_PER_TOKEN

    run.learn(LengthEstimation(estimator, told, preset.learning_rate), run.indices(len(clips)))
    return run.save(estimator)


# Stage control


def train_control(preset: ControlPreset, run: StageRun) -> Path:
    has_no_momask("control", preset)
    coding = Coding(preset, run)
    transformer = frozen(ControlMMTransformer, run, "base")
    torch.manual_seed(preset.seed)
    options = ControlMMControlBranch.presets[preset.model]
    branch = ControlMMControlBranch.from_transformer(transformer, **options).to(run.device)
    joints = tuple(branch.config.control_joints)

    def controlled(batch: Tensor, generator: torch.Generator) -> ControlledMotion:
        coded, places, valid = coding.controlled(batch, generator)
        return ControlledMotion(coded, places, random_control(valid, joints, preset.cross, generator))

    objective = ControlledTokens(
        branch, transformer, coding.autoencoder, controlled, preset.learning_rate, preset.code_weight,
        preset.joint_weight,
    )  # fmt: skip
    run.learn(objective, run.indices(len(coding)))
    encoder, tokenizer = text_encoder(run.begins_with("text_encoder", preset.text_encoder or run.earlier("text")))
    pipeline = ControlMMPipeline(
        coding.autoencoder, transformer, frozen(ControlMMResidualTransformer, run, "residual"), branch,
        frozen(ControlMMLengthEstimator, run, "length"), encoder, tokenizer,
    )  # fmt: skip
    return run.save_pipeline(pipeline)


def frozen(kind: type, run: StageRun, stage: str) -> Any:
    """What an earlier stage left, which does not learn any more."""
    folder = run.begins_with(stage, run.earlier(stage))
    return kind.from_pretrained(folder).to(run.device).eval().requires_grad_(False)


HUMANML3D = "a folder of HumanML3D's layout"
STAGES = {
    "text": Stage(train_text, TEXT, "controlmm-nano/text_encoder", HUMANML3D),
    "autoencoder": Stage(train_autoencoder, AUTOENCODER, "controlmm-nano/autoencoder", HUMANML3D),
    "base": Stage(train_base, BASE, "controlmm-nano/transformer", HUMANML3D),
    "residual": Stage(train_residual, RESIDUAL, "controlmm-nano/residual_transformer", HUMANML3D),
    "length": Stage(train_length, LENGTH, "controlmm-nano/length_estimator", HUMANML3D),
    "control": Stage(train_control, CONTROL, "controlmm-nano", HUMANML3D),
    "judge": Stage(train_judge, JUDGE, "controlmm-nano-judge", HUMANML3D),
}
run: Callable[..., Path] = partial(run_stage, "controlmm", STAGES)
