"""A little world to make cards from: one method, two result rows, and weights of a few numbers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_ascan
import tiny_snapgen
from safetensors.numpy import save_file

from pocket_diffusers.model_cards.template import Sources
from pocket_diffusers.pipelines.weights import weights_digest

TEMPLATE = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
tags: [snapgen]
widget:
  - text: a red cube
  - text: a green cone
pocket:
  name: SnapGen
  makes: pictures from text
  paper: "2412.09619"
  status: "{{ named-right.measured:.2f }} named right"
  results: [named-right]
  dataset: {name: PocketWorld, type: pocketworld, split: test}
  samples: {guidance_scale: 7.0, seed: 0}
---

# {{ weights.repository }}

A re-implementation, weights trained on PocketWorld. {{ named-right.measured:.0%}} of objects are named right
({{ named-right.low }} to {{ named-right.high }}), {{ named-right.verdict }}. The UNet has {{ weights.unet.parameters }}
parameters.

{{ results.main }}

{{ results.paper }}

{{ training.table }}
"""

ROW = {
    "id": "named-right",
    "claim": "The judge names what was asked for.",
    "size": "nano",
    "published": None,
    "measured": 0.8125,
    "unit": "share",
    "better": "higher",
    "target": 0.9,
    "rival": "true pictures",
    "rival_measured": 0.975,
    "ratio": 0.8333333333,
    "interval": [0.75, 0.875],
    "n": 1600,
    "seed": 0,
    "hardware": "a processor, 2 cores",
    "command": "pocket eval snapgen --only naming",
    "date": "2025-01-31",
}
PAPER_ROW = ROW | {
    "id": "unet-parameters",
    "claim": "The UNet has 379 M parameters.",
    "size": "paper",
    "published": 379.0,
    "measured": 378.96,
    "unit": "million parameters",
    "better": "lower",
    "target": 380.137,
    "rival": None,
    "rival_measured": None,
    "ratio": None,
    "interval": None,
    "n": None,
    "hardware": None,
}
RUN = {
    "method": "snapgen",
    "stage": "base",
    "preset": "nano",
    "command": "pocket train snapgen --stage base",
    "seed": 3,
    "data": "PocketWorld",
    "settings": {"steps": 1200, "batch_size": 64},
    "seconds": 120,
    "hardware": "one core",
    "date": "2025-01-30T12:00:00+00:00",
    "versions": {"torch": "2.6.0"},
    "digest_in": {},
    "parts": {},
    "note": None,
}


class World:
    """The sources of a card in a scratch folder, and what tests change in them."""

    def __init__(self, root: Path) -> None:
        self.sources = Sources(root / "cards", root / "results", root / "checkpoints")
        self.weights = self.sources.checkpoints / "snapgen-nano"
        self.template = self.sources.cards / "snapgen.md"
        self.readme = self.weights / "README.md"
        for folder in (self.sources.cards / "training", self.sources.results, self.weights / "unet"):
            folder.mkdir(parents=True)
        self.set_weights(0.0)
        self.set_rows(ROW, PAPER_ROW)
        self.template.write_text(TEMPLATE)
        self.describe_training()
        (self.sources.cards / "planned.json").write_text("[]")

    def set_weights(self, value: float) -> None:
        tensors = {"conv.weight": np.full((4, 3, 2), value, np.float16), "conv.bias": np.zeros(1000, np.float16)}
        save_file(tensors, self.weights / "unet" / "diffusion_pytorch_model.safetensors")

    def set_rows(self, *rows: dict[str, Any]) -> None:
        (self.sources.results / "snapgen.json").write_text(json.dumps(rows))

    def edit_template(self, old: str, new: str) -> None:
        text = self.template.read_text()
        assert text.count(old) == 1
        self.template.write_text(text.replace(old, new))

    def describe_training(self, **changes: Any) -> None:
        runs = [RUN | {"digest_out": weights_digest(self.weights)} | changes]
        (self.sources.cards / "training" / "snapgen-nano.json").write_text(json.dumps(runs))

    def put_samples(self, **changes: Any) -> None:
        """Files as if the weights had drawn them."""
        inputs = {
            "weights_sha256": weights_digest(self.weights),
            "prompts": ["a red cube", "a green cone"],
            "arguments": {"guidance_scale": 7.0, "seed": 0},
        }
        folder = self.weights / "samples"
        folder.mkdir(exist_ok=True)
        for name in ("00.png", "01.png", "sheet.png"):
            (folder / name).write_bytes(b"png")
        (folder / "run.json").write_text(json.dumps({"inputs": inputs | changes}))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="session")
def row() -> Callable[..., dict[str, Any]]:
    """Makes a result row with some fields changed."""
    return lambda **changes: ROW | changes


@pytest.fixture(scope="session")
def saved_pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `save_pretrained` leaves of two tiny pipelines: `reader` is a classifier, `painter` draws texts."""
    root = tmp_path_factory.mktemp("saved")
    tiny_ascan.PIPELINES["image-classification"].make().save_pretrained(root / "reader")
    tiny_snapgen.make_pipeline("l").save_pretrained(root / "painter")
    return root


@pytest.fixture
def reader(saved_pipelines: Path, tmp_path: Path) -> Path:
    """A classifier's folder that a test may change."""
    return shutil.copytree(saved_pipelines / "reader", tmp_path / "my-reader")


@pytest.fixture
def painter(saved_pipelines: Path, tmp_path: Path) -> Path:
    """A text-to-image folder, tokenizer and all, that a test may change."""
    return shutil.copytree(saved_pipelines / "painter", tmp_path / "my-painter")
