"""The motion world as a Hugging Face dataset."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ....pipelines.inputs import check_count
from ....pipelines.motion.skeleton import JOINTS
from ..pocketworld.loading import import_datasets, world_version
from .records import check_world, clips

BLOCK = 64
"""Clips that one process makes at once."""


def load_motionworld(split: str = "train", num_samples: int = 1000, seed: int = 0, num_proc: int | None = None):
    """The first `num_samples` clips of a split of the motion world.

    Args:
        split: "train", "validation" or "test".
        num_samples: clips, at least 1. Clip i is the same whatever `num_samples`.
        seed: a whole number of at least 0; another seed is another world of the same kind.
        num_proc: processes that make the clips; by default one for each of torch's threads.

    Returns:
        `datasets.Dataset`, made once and cached, that gives numpy arrays, with the columns

        - `index`: i;
        - `caption`: English, such as "a person walks forward, then waves with the left hand";
        - `joints`: float32 [length, 22, 3], metres, Y up, 20 frames a second; the pelvis starts over the origin and the
          person faces +Z;
        - `length`: frames, 40 to 196;
        - `contacts`: bool [length, 2], where the toes of the left and of the right foot are planted;
        - `plan`: JSON, the actions and the frames at which they have ended.

    Raises:
        ValueError: an argument out of range, naming it.
        ImportError: without the `train` extra.
    """
    check_world(split, seed)
    check_count("num_samples", num_samples)
    datasets = import_datasets()
    value = datasets.Value
    features = datasets.Features(
        {
            "index": value("int64"),
            "caption": value("string"),
            "joints": datasets.Array3D((None, len(JOINTS), 3), "float32"),
            "length": value("int64"),
            "contacts": datasets.Array2D((None, 2), "bool"),
            "plan": value("string"),
        }
    )
    blocks = [range(start, min(start + BLOCK, num_samples)) for start in range(0, num_samples, BLOCK)]
    processes = torch.get_num_threads() if num_proc is None else check_count("num_proc", num_proc)
    key = repr((world_version(Path(__file__).parent), split, num_samples, seed))
    made = datasets.Dataset.from_generator(
        _rows,
        features=features,
        gen_kwargs={"split": split, "seed": seed, "blocks": blocks},
        num_proc=min(processes, len(blocks)),
        split=split,
        fingerprint=hashlib.sha256(key.encode()).hexdigest()[:32],
    )
    return made.with_format("numpy")


def _rows(split: str, seed: int, blocks: Sequence[range]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        for clip in clips(split, block, seed):
            yield {
                "index": clip.index,
                "caption": clip.caption,
                "joints": clip.joints.numpy(),
                "length": len(clip.joints),
                "contacts": clip.contacts.numpy(),
                "plan": clip.plan_json(),
            }
