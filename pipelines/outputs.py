"""What pipelines and detectors return: shapes, units and ranges of each field."""

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from diffusers.utils import BaseOutput
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from .. import missing_package
from .contact_sheet import contact_sheet
from .files import whole_file, write_json
from .motion.bvh_file import write_bvh
from .motion.glb_file import write_glb
from .motion.joint_rotations import rig_of
from .motion.motion_controls import MotionControls
from .motion.motion_preview import moments, preview_frames
from .motion.skeleton import FRAMES_PER_SECOND
from .moving_picture import can_write_mp4, write_gif, write_mp4

SHEET = "sheet.png"

MIN_SCORE = 0.05
"""Detections are stored from this score up, so that any threshold above it can be replayed."""


class Output(BaseOutput):
    """What a pipeline returns: in each field one entry a sample, which is called a `noun`."""

    noun: ClassVar[str] = "picture"

    @classmethod
    def joined(cls, outputs: Sequence[Self]) -> Self:
        """The samples of several calls, one after the other, in lists."""
        return cls(**{name: [sample for output in outputs for sample in output[name]] for name in outputs[0]})

    def save(self, folder: Path, captions: Sequence[str]) -> list[str]:
        """Writes the samples into a folder that is there.

        Args:
            folder: where the files go.
            captions: what was asked for, one text a sample; file names tell them.

        Returns:
            The name of each sample's file.

        Raises:
            ValueError: for a caption too many or too few.
            OSError: when a file cannot be written.
        """
        raise NotImplementedError

    def pictures(self) -> list[Image.Image]:
        """A picture of each sample, where samples are something to look at."""
        raise NotImplementedError


@dataclass
class ImageOutput(Output):
    """Pictures of an image pipeline.

    Attributes:
        images: by `output_type`:
            "pil": list of RGB `PIL.Image.Image`, one for each sample;
            "np": float32 array [batch, height, width, 3] in [0, 1];
            "pt": float32 tensor [batch, 3, height, width] in [0, 1];
            "latent": float32 tensor [batch, channels, height, width] of scaled latents, about unit variance.
    """

    images: list[Image.Image] | np.ndarray | Tensor

    def save(self, folder: Path, captions: Sequence[str]) -> list[str]:
        """One PNG a picture and all of them with their captions on `SHEET`; for `output_type` "pil"."""
        files = [file_name(index, caption, ".png") for index, caption in enumerate(captions)]
        for image, file in zip(self.images, files, strict=True):
            image.save(folder / file)
        contact_sheet(self.images, captions).save(folder / SHEET)
        return files

    def pictures(self) -> list[Image.Image]:
        """The images, for `output_type` "pil"."""
        return list(self.images)


@dataclass
class RenderingOutput(ImageOutput):
    """Pictures of a scene.

    Attributes:
        images: as in `ImageOutput`, one a camera; never latents.
        depths: distances along the camera's z axis in scene units [cameras, height, width]; 0 = nothing there.
        alphas: how much of each pixel the scene covers, in [0, 1] [cameras, height, width].
    """

    depths: Float[Tensor, "cameras height width"]
    alphas: Float[Tensor, "cameras height width"]


@dataclass
class ImageClassificationOutput(Output):
    """Classes of pictures.

    Attributes:
        labels: for each picture the names of its likeliest classes, best first.
        scores: their probabilities in [0, 1], likewise; those of all classes add up to 1.
        logits: of every class, float32 [pictures, classes] on the CPU.
    """

    labels: list[tuple[str, ...]]
    scores: list[tuple[float, ...]]
    logits: Tensor

    def save(self, folder: Path, captions: Sequence[str]) -> list[str]:
        """One JSON file a picture: its labels and their scores, best first."""
        pairs = zip(self.labels, self.scores, strict=True)
        return _save_json(folder, captions, [{"labels": labels, "scores": scores} for labels, scores in pairs])


@dataclass(frozen=True)
class MaskRLE:
    """A binary mask as run lengths, in COCO's uncompressed form: column after column, zeros first.

    Attributes:
        height: rows in pixels, at least 1.
        width: columns in pixels, at least 1.
        counts: lengths of the runs, alternately of zeros and ones, starting with zeros (0 where the mask starts
            with a one); their sum is `height * width`.

    Raises:
        ValueError: for sides below 1, a negative length, or lengths that do not add up.
    """

    height: int
    width: int
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a mask must be at least 1 x 1 pixels, not {self.height} x {self.width}.")
        object.__setattr__(self, "counts", tuple(int(count) for count in self.counts))
        if min(self.counts, default=0) < 0:
            raise ValueError(f"counts must not be negative, but one is {min(self.counts)}.")
        if sum(self.counts) != self.height * self.width:
            raise ValueError(
                f"counts add up to {sum(self.counts)}, but a {self.height} x {self.width} mask has "
                f"{self.height * self.width} pixels."
            )

    @classmethod
    def encode(cls, mask: Bool[np.ndarray, "height width"] | Bool[Tensor, "height width"]) -> Self:
        """Run lengths of a boolean mask `[height, width]` (an array, or a tensor on the CPU).

        Raises:
            ValueError: when the mask is not boolean or has not two dimensions.
        """
        mask = np.asarray(mask)
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise ValueError(f"mask must be boolean [height, width], not {mask.dtype} {list(mask.shape)}.")
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        lengths = np.diff(np.concatenate([[0], changes, [flat.size]]))
        first = [0] if flat.size and flat[0] else []
        return cls(*mask.shape, (*first, *lengths.tolist()))

    def decode(self) -> Bool[np.ndarray, "height width"]:
        """The boolean mask `[height, width]`."""
        ones = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(ones, self.counts).reshape((self.height, self.width), order="F")

    @property
    def area(self) -> int:
        """Pixels that are set."""
        return sum(self.counts[1::2])

    def to_dict(self) -> dict[str, list[int]]:
        """COCO's form, ready for JSON: `{"size": [height, width], "counts": [...]}`."""
        return {"size": [self.height, self.width], "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Reads COCO's uncompressed form.

        Raises:
            ValueError: for a dictionary of another form.
        """
        try:
            (height, width), counts = stored["size"], stored["counts"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f'a mask must be {{"size": [height, width], "counts": [...]}}, not {stored!r}.') from None
        if isinstance(counts, str | bytes):
            raise ValueError("counts of a mask must be a list of run lengths, not COCO's compressed string.")
        return cls(height, width, counts)


@dataclass(frozen=True)
class Detections:
    """Objects found in one picture, best first or in any other order; every field has one entry an object.

    A detector is a function `images -> list[Detections]` that keeps everything from `MIN_SCORE` up.

    Attributes:
        labels: class names.
        scores: confidences in [0, 1].
        boxes: (x0, y0, x1, y1) in pixels, x to the right, y down, x0 <= x1, y0 <= y1.
        masks: masks of the picture's size, or None where the detector makes none.
        colors: colour names (None for an object whose colour was not read), or None where colours are not read.

    Raises:
        ValueError: for fields of different lengths or values out of their range.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    masks: tuple[MaskRLE, ...] | None = None
    colors: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "scores", tuple(float(score) for score in self.scores))
        object.__setattr__(self, "boxes", tuple(tuple(float(side) for side in box) for box in self.boxes))
        for name in ("masks", "colors"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_lengths()
        for score in self.scores:
            if not 0 <= score <= 1:
                raise ValueError(f"scores must lie in [0, 1], but one is {score}.")
        for box in self.boxes:
            if len(box) != 4 or not all(map(math.isfinite, box)) or box[0] > box[2] or box[1] > box[3]:
                raise ValueError(f"boxes must be finite (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, not {box}.")
        sizes = {(mask.height, mask.width) for mask in self.masks or ()}
        if len(sizes) > 1:
            raise ValueError(f"masks of one picture must have one size, not {sorted(sizes)}.")

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, score: float = MIN_SCORE) -> Self:
        """Only the objects whose score is at least `score`, in the same order."""
        kept = [index for index, value in enumerate(self.scores) if value >= score]

        def pick(field: tuple | None) -> tuple | None:
            return None if field is None else tuple(field[index] for index in kept)

        return type(self)(*map(pick, (self.labels, self.scores, self.boxes, self.masks, self.colors)))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; `from_dict` reads it back exactly."""
        return {
            "labels": list(self.labels),
            "scores": list(self.scores),
            "boxes": [list(box) for box in self.boxes],
            "masks": None if self.masks is None else [mask.to_dict() for mask in self.masks],
            "colors": None if self.colors is None else list(self.colors),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Self:
        """Reads what `to_dict` wrote.

        Raises:
            ValueError: for a missing field or one that is out of its range.
        """
        missing = [name for name in ("labels", "scores", "boxes") if name not in stored]
        if missing:
            raise ValueError(f"stored detections lack {', '.join(missing)}.")
        masks = stored.get("masks")
        return cls(
            stored["labels"],
            stored["scores"],
            stored["boxes"],
            None if masks is None else tuple(map(MaskRLE.from_dict, masks)),
            stored.get("colors"),
        )

    def _check_lengths(self) -> None:
        fields = ("labels", "scores", "boxes", "masks", "colors")
        lengths = {name: len(getattr(self, name)) for name in fields if getattr(self, name) is not None}
        if len(set(lengths.values())) > 1:
            listing = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise ValueError(f"every field of Detections needs one entry an object, but there are {listing}.")


@dataclass
class DetectionOutput(Output):
    """Objects in pictures.

    Attributes:
        detections: of each picture, best first.
    """

    detections: list[Detections]

    def save(self, folder: Path, captions: Sequence[str]) -> list[str]:
        """One JSON file a picture, which `Detections.from_dict` reads."""
        return _save_json(folder, captions, [found.to_dict() for found in self.detections])


@dataclass
class MotionOutput(Output):
    """Motions of a person: metres, Y up, 20 frames a second, the joints of `motion/skeleton.py`.

    Attributes:
        joints: places in the world, of each sample [frames, 22, 3], float32; by `output_type` tensors ("pt") or arrays
            ("np"), as the others.
        features: HumanML3D's description of it, not normalised, float32 [frames, 263].
        contacts: of left ankle, left toes, right ankle and right toes with the floor, in [0, 1], float32 [frames, 4].
        controls: targets that the joints were to reach, None for a sample that had none; the field is None where no
            sample had any.
    """

    noun: ClassVar[str] = "motion"

    joints: list[Float[Tensor, "frames 22 3"]] | Float[Tensor, "batch frames 22 3"]
    features: list[Float[Tensor, "frames 263"]] | Float[Tensor, "batch frames 263"]
    contacts: list[Float[Tensor, "frames 4"]] | Float[Tensor, "batch frames 4"]
    controls: list[MotionControls | None] | None = None

    def save(self, folder: Path, captions: Sequence[str]) -> list[str]:
        """What programs for animation, viewers and numpy read, under one name a sample.

        .glb: a figure with its skeleton; .bvh: the skeleton; .joints.npy and .features.npy: the arrays; .gif and, where
        imageio-ffmpeg is installed, .mp4: a preview with the controls as red dots. `SHEET` shows moments of all.

        Returns:
            The name of each sample's .glb.

        Warns:
            UserWarning: there are no .mp4, as imageio-ffmpeg is missing; names the extra that brings it.
        """
        controls = [None] * len(captions) if self.controls is None else self.controls
        if not can_write_mp4():
            warnings.warn(str(missing_package("an MP4 beside each GIF", "imageio-ffmpeg", "train")), stacklevel=2)
        files, pictures, samples = [], [], zip(self.joints, self.features, controls, captions, strict=True)
        for index, (joints, features, asked, caption) in enumerate(samples):
            places, described = (torch.as_tensor(part).detach().cpu() for part in (joints, features))
            frames = _save_motion(folder, index, caption, places, described, asked)
            pictures.append(moments(frames))
            files.append(file_name(index, caption, ".glb"))
        contact_sheet(pictures, captions).save(folder / SHEET)
        return files

    def pictures(self) -> list[Image.Image]:
        """Four moments of each motion, with its controls as red dots."""
        controls = [None] * len(self.joints) if self.controls is None else self.controls
        pairs = zip(self.joints, controls, strict=True)
        return [moments(preview_frames(torch.as_tensor(joints), controls=asked)) for joints, asked in pairs]


def file_name(index: int, caption: str, suffix: str) -> str:
    """Such as "002-a-blue-sphere.png": what sorts in order, and any file system takes."""
    words = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")[:48].rstrip("-")
    return f"{index:03d}-{words}{suffix}" if words else f"{index:03d}{suffix}"


def _save_json(folder: Path, captions: Sequence[str], records: Sequence[dict[str, Any]]) -> list[str]:
    files = [file_name(index, caption, ".json") for index, caption in enumerate(captions)]
    for record, file in zip(records, files, strict=True):
        write_json(folder / file, record)
    return files


def _save_motion(
    folder: Path, index: int, caption: str, joints: Tensor, features: Tensor, controls: MotionControls | None
) -> np.ndarray:
    """Writes the files of one motion and returns its preview."""

    def path(suffix: str) -> Path:
        return folder / file_name(index, caption, suffix)

    rig, frames = rig_of(joints), preview_frames(joints, controls=controls)
    write_glb(path(".glb"), rig, caption or "motion")
    write_bvh(path(".bvh"), rig)
    for name, array in (("joints", joints), ("features", features)):
        with whole_file(path(f".{name}.npy")) as draft, draft.open("wb") as file:
            np.save(file, array.float().numpy(), allow_pickle=False)
    write_gif(path(".gif"), frames, FRAMES_PER_SECOND)
    if can_write_mp4():
        write_mp4(path(".mp4"), frames, FRAMES_PER_SECOND)
    return frames
