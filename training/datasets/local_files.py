"""Which files on this disk are a split of a source. Names may hold brackets, stars and words such as "train"."""

import glob
import re
from pathlib import Path

from PIL import Image

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words of which the name of a split's folder holds one, as in "train" and "val-2017"; `datasets` has the same."""


def picture_files(folder: str | Path, split: str) -> dict[str, list[str]]:
    """Split -> patterns of its files, as `datasets` takes it, for a folder of pictures.

    A folder that holds nothing but folders of splits has these splits, as in "pictures/train" and "pictures/test";
    the folders may also lie one after the other in lone folders, as in "pictures/data/train". Any other folder is
    wholly the split that is asked for: words such as "train" in names of files, or of a few folders, mean nothing.

    Raises:
        FileNotFoundError: the folder is empty.
        ValueError: it has splits, but not this one.
    """
    folder = Path(folder).resolve()
    if not any(path.is_file() for path in folder.rglob("*")):
        raise FileNotFoundError(f"source {str(folder)!r} holds no files; give a folder with pictures in it")
    splits = _split_folders(folder) or {split: [folder]}
    if split not in splits:
        raise ValueError(f"split is {split!r}, but folder {str(folder)!r} has the splits {', '.join(sorted(splits))}")
    return {name: [f"{glob.escape(str(place))}/**" for place in places] for name, places in splits.items()}


def shard_files(source: str) -> list[str]:
    """Paths of shards: one file, or a glob in a folder whose name is taken as it is.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(source)
    if path.is_file():
        return [source]
    pattern = str(Path(glob.escape(str(path.parent))) / path.name) if path.parent.is_dir() else source
    files = sorted(glob.glob(pattern))
    if not files:
        raise FileNotFoundError(f"source {source!r} matches no file; give webdataset shards such as 'shards/*.tar'")
    return files


def _split_folders(folder: Path) -> dict[str, list[Path]]:
    """Split -> its folders, in a folder with no other pictures; empty where there are others."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith((".", "__"))]
    if any(entry.is_file() and _is_data(entry) for entry in entries):
        return {}
    folders = [entry for entry in entries if entry.is_dir()]
    splits = {split: [each for each in folders if _is_named(each, words)] for split, words in SPLIT_FOLDERS.items()}
    if folders and all(any(each in named for named in splits.values()) for each in folders):
        return {split: named for split, named in splits.items() if named}
    return _split_folders(folders[0]) if len(folders) == 1 else {}


def _is_data(file: Path) -> bool:
    return file.stem == "metadata" or file.suffix.lower() in (".zip", *Image.registered_extensions())


def _is_named(folder: Path, words: tuple[str, ...]) -> bool:
    return not set(words).isdisjoint(re.split("[-._ 0-9]", folder.name))
