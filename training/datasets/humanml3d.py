"""HumanML3D as its authors' scripts lay it out in a folder: features of motions, with what people wrote about them.

Files of the folder: `new_joint_vecs/<clip>.npy` [frames, 263]; `texts/<clip>.txt` with lines
`caption#word/TAG word/TAG ...#start#end` (seconds; 0 and 0 are the whole clip); lists of clips `train.txt`, `val.txt`
and `test.txt`; `Mean.npy` and `Std.npy`, which `MotionStatistics.load` reads. The motions come from AMASS and
HumanAct12 and are not handed out here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ...pipelines.inputs import check_choice
from ...pipelines.motion.motion_features import NUM_FEATURES
from ...pipelines.motion.skeleton import FRAMES_PER_SECOND
from ...pipelines.npy_file import floats_shape, read_floats

SHORTEST, LONGEST = 40, 199
"""Frames of a clip that is used, as by all who measure on this set."""

LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
MOST_LIST_BYTES, MOST_TEXT_BYTES = 10_000_000, 100_000
MOST_SECONDS = 3600


@dataclass(frozen=True)
class Caption:
    """One sentence about a clip.

    Attributes:
        text: as it was written.
        tokens: its words with their parts of speech, such as "walk/VERB"; the evaluator of Guo et al. reads them.
        start, stop: frames it is about, the last one excluded; None for the whole clip.
    """

    text: str
    tokens: tuple[str, ...]
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class _Record:
    name: str
    clip: str
    start: int
    length: int
    captions: tuple[Caption, ...]


class HumanML3D(Sequence[dict[str, Any]]):
    """The records of a split; motions are read when a record is asked for.

    A record is a dict:

    - `index`: its place in the split;
    - `name`: the clip, or `A_<clip>`, `B_<clip>`, ... for its spans that have a sentence of their own;
    - `features`: float32 [length, 263] as HumanML3D has them, not normalised;
    - `length`: frames, 40 to 199 at 20 a second;
    - `captions`: all sentences about it, at least one; `caption`: the first of them;
    - `tokens`: for each sentence its words with their parts of speech.

    Attributes:
        left_out: names of clips and spans that are shorter or longer than that, as everybody leaves them out.
    """

    def __init__(self, folder: str | Path, split: str = "train"):
        """Reads the list of the split, all its texts, and the headers of its motions.

        Args:
            folder: with the layout above.
            split: "train", "validation" or "test".

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged or is not what the layout says, naming it and the line.
        """
        self._folder = Path(folder)
        self._records: list[_Record] = []
        left_out = []
        for clip in _clips(self._folder / LISTS[check_choice("split", split, tuple(LISTS))]):
            for record in self._records_of(clip):
                inside = SHORTEST <= record.length <= LONGEST
                self._records.append(record) if inside else left_out.append(record.name)
        self.left_out = tuple(left_out)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record `index`.

        Raises:
            ValueError: its file changed, or holds a number that is not finite.
        """
        record = self._records[index]
        file = self._motion_file(record.clip)
        features = read_floats(file, (None, NUM_FEATURES))[record.start : record.start + record.length]
        if len(features) < record.length:
            raise ValueError(f"{file} must have as many frames as when the split was opened, but has become shorter.")
        return {
            "index": index,
            "name": record.name,
            "features": features,
            "length": record.length,
            "caption": record.captions[0].text,
            "captions": [caption.text for caption in record.captions],
            "tokens": [list(caption.tokens) for caption in record.captions],
        }

    def _motion_file(self, clip: str) -> Path:
        return self._folder / "new_joint_vecs" / f"{clip}.npy"

    def _text_file(self, clip: str) -> Path:
        return self._folder / "texts" / f"{clip}.txt"

    def _records_of(self, clip: str) -> list[_Record]:
        """The clip, and each span of it that a sentence is about; none of these where its own length is not used."""
        shape = floats_shape(self._motion_file(clip))
        if len(shape) != 2 or shape[1] != NUM_FEATURES:
            wanted = f"[frames, {NUM_FEATURES}]"
            raise ValueError(f"{self._motion_file(clip)} must have the shape {wanted}, not {list(shape)}.")
        captions, frames = read_captions(self._text_file(clip)), shape[0]
        whole = tuple(caption for caption in captions if caption.stop is None)
        used = SHORTEST <= frames <= LONGEST
        spans = [caption for caption in captions if caption.stop is not None and used]
        if len(spans) > len(ascii_uppercase):
            raise ValueError(f"{self._text_file(clip)} must tell of at most 26 spans, not {len(spans)}.")
        records = [_Record(clip, clip, 0, frames, whole)] if whole or not used else []
        for letter, span in zip(ascii_uppercase, spans, strict=False):
            length = max(0, min(span.stop, frames) - span.start)
            records.append(_Record(f"{letter}_{clip}", clip, span.start, length, (span,)))
        return records


def read_captions(path: str | Path) -> list[Caption]:
    """Sentences of a text file of HumanML3D.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: a line is none of `caption#tokens#start#end`, naming it.
    """
    captions = []
    for number, line in enumerate(_lines(Path(path), MOST_TEXT_BYTES), 1):
        if not line:
            continue
        try:
            text, tokens, *times = line.rsplit("#", 3)
            start, end = (0.0 if math.isnan(float(time)) else float(time) for time in times)
            if not (text.strip() and 0 <= start <= MOST_SECONDS and 0 <= end <= MOST_SECONDS):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"line {number} of {path} must be caption#words#start#end in seconds up to 3600, not {line[:80]!r}."
            ) from None
        span = (0, None) if start == end == 0 else (int(start * FRAMES_PER_SECOND), int(end * FRAMES_PER_SECOND))
        captions.append(Caption(text.strip(), tuple(tokens.split()), *span))
    if not captions:
        raise ValueError(f"{path} must hold at least one line caption#words#start#end, but is empty.")
    return captions


def _clips(path: Path) -> list[str]:
    clips = [line for line in _lines(path, MOST_LIST_BYTES) if line]
    for clip in clips:
        if not re.fullmatch(r"[A-Za-z0-9_]+", clip, re.ASCII):
            raise ValueError(f"{path} must list names of clips such as 000021, not {clip[:80]!r}.")
    if not clips or len(set(clips)) < len(clips):
        raise ValueError(f"{path} must list at least one clip and none twice.")
    return clips


def _lines(path: Path, most_bytes: int) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    if (size := path.stat().st_size) > most_bytes:
        raise ValueError(f"{path} must be at most {most_bytes} bytes, not {size}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8.") from None
    return [line.strip() for line in text.split("\n")]
