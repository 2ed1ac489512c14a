"""The real scenes that are compressed and drawn: splats that PlayCanvas publishes with its engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ....hub_models.rendering.gaussians import Gaussians
from ....pipelines.splat_conversion import read_source
from ...real_data import real_data

FOLDER, OWNER = "splats/playcanvas_engine", "PlayCanvas"


@dataclass(frozen=True)
class SplatScene:
    """A file of splats, and how it is compressed.

    Attributes:
        name: in rows; lower case letters.
        words: what it is, in a sentence after "splats of".
        place: of the file below `FOLDER`.
        level: of detail, for a streamed scene.
        fits: bytes that LPGS may take -> steps of the fit.
        bytes: that codecs which need no fit may take besides.
    """

    name: str
    words: str
    place: str
    level: int = 0
    fits: Mapping[int, int] = field(default_factory=dict)
    bytes: tuple[int, ...] = ()

    def read(self) -> Gaussians:
        """The splats.

        Raises:
            MissingData: the file is not here.
        """
        return read_source(real_data(f"{FOLDER}/{self.place}", OWNER), self.level)


BIKER = SplatScene(
    "biker", "a scanned biker", "biker.compressed.ply", fits={300_000: 1200, 897_000: 1000},
    bytes=(200_000, 450_000, 650_000, 1_300_000),
)  # fmt: skip
PLAYBOT = SplatScene(
    "playbot", "a robot, of whose streamed levels of detail 3 is the finest here", "playbot/lod-meta.json", level=3,
    fits={150_000: 1000}, bytes=(100_000, 250_000, 400_000),
)  # fmt: skip
