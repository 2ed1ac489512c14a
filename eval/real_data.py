"""Real data, which are never part of the repository: where they lie, and what to do where they do not."""

import os
from pathlib import Path

from .benchmark import MissingData

BESIDE_THE_REPOSITORY = Path(__file__).parents[2] / "shared" / "data"


def real_data(place: str, owner: str) -> Path:
    """A file below the folder that the environment variable POCKET_DATA names, by default `../shared/data` beside the
    repository.

    Args:
        place: of the file in that folder.
        owner: whose file it is.

    Raises:
        MissingData: it is not there.
    """
    path = Path(os.environ.get("POCKET_DATA", BESIDE_THE_REPOSITORY)) / place
    if not path.is_file():
        raise MissingData(f"{path} is missing: set POCKET_DATA to a folder with {place} of {owner}.")
    return path
