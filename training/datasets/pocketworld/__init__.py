"""PocketWorld: a seeded, captioned 3D world with exact answers."""

from .loading import load_pocketworld
from .scene import COLORS, HELD_OUT_PAIRS, SHAPES, Scene, SceneObject

__all__ = ["COLORS", "HELD_OUT_PAIRS", "SHAPES", "Scene", "SceneObject", "load_pocketworld"]
