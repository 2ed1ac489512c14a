"""How large ControlMM's networks are at the paper's size, beside what is known of the authors'."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn

from ....hub_models.autoencoder_controlmm import MotionRVQVAE
from ....hub_models.control_branch_controlmm import ControlMMControlBranch
from ....hub_models.length_estimator_controlmm import ControlMMLengthEstimator
from ....hub_models.transformer_controlmm import ControlMMResidualTransformer, ControlMMTransformer
from ...benchmark import Run
from ...results import Row, band
from ...timing.cost_rows import EXACT
from .settings import Settings

TOLERANCE = 0.005


class Network(NamedTuple):
    """A network whose parameters are counted: its class, preset and words, and how many the authors' has, if known."""

    kind: type[nn.Module]
    preset: str
    words: str
    published: int | None


NETWORKS = {
    "autoencoder": Network(MotionRVQVAE, "paper", "the motion tokenizer, without its codebooks", 19_436_807),
    "transformer": Network(ControlMMTransformer, "paper", "the masked transformer", 12_048_768),
    "branch-pelvis": Network(ControlMMControlBranch, "paper-pelvis", "the control branch of the pelvis", 21_372_160),
    "branch": Network(ControlMMControlBranch, "paper", "the control branch of six joints", 21_418_240),
    "residual": Network(ControlMMResidualTransformer, "paper", "the residual transformer", 13_400_000),
    "length": Network(ControlMMLengthEstimator, "paper", "the length estimator", None),
}
"""The published numbers are counts of the authors' released networks; the residual transformer's is rounded."""


def measure_parameters(settings: Settings, run: Run) -> Iterator[Row]:
    """Parameters of each network at the paper's size, within half a percent of the authors'."""
    for name, network in NETWORKS.items():
        expected = {}
        if network.published is not None:
            expected = {
                "published": network.published / 1e6, "target": band(network.published / 1e6, TOLERANCE),
                "better": "within",
            }  # fmt: skip
        yield run.row(
            f"parameters-{name}", f"Parameters of {network.words} at the paper's size.",
            measured=count(network) / 1e6, unit="million parameters", **{**EXACT, **expected},
        )  # fmt: skip


def count(network: Network) -> int:
    """Parameters of a network, which is made on the meta device."""
    with torch.device("meta"):
        return sum(value.numel() for value in network.kind.from_preset(network.preset).parameters())
