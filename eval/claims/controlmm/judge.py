"""How motions are judged: an evaluator that embeds texts and motions, trained apart from everything that makes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from jaxtyping import Float
from transformers import AutoTokenizer

from ....hub_models.evaluator_controlmm import MotionTextEvaluator
from ....pipelines.motion.motion_features import MotionStatistics
from ...scores.diversity import diversity
from ...scores.fid import FidScore, fid
from ...scores.foot_skating import foot_skating
from ...scores.jerk import jerk
from ...scores.r_precision import RPrecision, r_precision
from .motions import CaptionedClips, Motions

JUDGE = "controlmm-nano-judge"
AT_ONCE = 128

Embeddings = Float[np.ndarray, "count dim"]


@dataclass(frozen=True)
class Scores:
    """What motions of captions score.

    Attributes:
        fid: to the true motions of the same captions, or of others for true ones.
        precision: how often a caption finds its motion, and how near it lies.
        diversity: distance of pairs.
        skating: mean share of steps in which a foot skates.
        peak_jerk: mean over clips of the largest jerk, in m/s^3.
        n: motions.
    """

    fid: FidScore
    precision: RPrecision
    diversity: float
    skating: float
    peak_jerk: float
    n: int


class Judge:
    """The evaluator of a folder, with its tokenizer and the statistics by which it sees motions.

    Args:
        folder: as stage `judge` of the recipe leaves it.
    """

    def __init__(self, folder: Path) -> None:
        self.evaluator = MotionTextEvaluator.from_pretrained(folder, torch_dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.statistics = MotionStatistics.load(folder / "Mean.npy", folder / "Std.npy")
        self.name = folder.name

    @torch.inference_mode()
    def embed_motions(self, motions: Motions) -> Embeddings:
        """Where motions lie."""
        rows = []
        for start in range(0, len(motions), AT_ONCE):
            part = motions[start : start + AT_ONCE]
            seen = (part.padded_features - self.statistics.mean) / self.statistics.std
            rows.append(self.evaluator.embed_motion(seen, torch.tensor(part.lengths)))
        return torch.cat(rows).double().numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Embeddings:
        """Where texts lie."""
        rows = []
        for start in range(0, len(texts), AT_ONCE):
            tokens = self.tokenizer(
                list(texts[start : start + AT_ONCE]), padding=True, truncation=True, return_tensors="pt"
            )
            rows.append(self.evaluator.embed_text(tokens.input_ids, tokens.attention_mask.sum(1)))
        return torch.cat(rows).double().numpy()

    def fid(self, motions: Motions, reference: Motions) -> FidScore:
        """Distance of two sets of motions."""
        return fid(self.embed_motions(motions), self.embed_motions(reference), self.name)

    def scores(self, motions: Motions, clips: CaptionedClips, reference: Motions | None = None) -> Scores:
        """All scores of motions of the captions of clips; FID to `reference`, by default the clips' true motions."""
        embedded = self.embed_motions(motions)
        others = self.embed_motions(clips.motions if reference is None else reference)
        return Scores(
            fid(embedded, others, self.name),
            r_precision(self.embed_texts(clips.captions), embedded),
            diversity(embedded),
            mean_skating(motions),
            mean_peak_jerk(motions),
            len(motions),
        )


def mean_skating(motions: Motions) -> float:
    """Share of steps in which a foot skates, mean over clips."""
    return foot_skating(motions.padded_joints, motions.lengths).mean().item()


def mean_peak_jerk(motions: Motions) -> float:
    """Largest jerk of each clip in m/s^3, mean over clips."""
    return fmean(jerk(motions.padded_joints, motions.lengths).peak.tolist())
