"""LightSpeed (arXiv 2310.16832): a neural light field of one scene, shown from where its pictures were taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from jaxtyping import Float
from torch import Tensor

from ..hub_models.field_lightspeed import LightSpeedField
from .fitting.field_lightspeed import LightSpeedFit, fit_field, range_of
from .fitting.slabs_lightspeed import SceneHints
from .inputs import PosedImages, check_choice, check_count, check_side, require
from .outputs import ImageOutput
from .repository import RepositoryMixin
from .scene import SceneMixin
from .scene_cameras import DIRECTIONS, UP, Cameras
from .view_ranges import GridViews, OrbitViews, check_focal_lengths, views_of


class LightSpeedPipeline(RepositoryMixin, SceneMixin, DiffusionPipeline):
    """Shows a light field from any camera near those that it was fitted to, a picture in one pass of a network.

    Args:
        field: the light field.
        views: from where it may be looked at, as `view_ranges.views_of` takes it; None does not say.

    Raises:
        ValueError: for views that are not as they must be.
    """

    model_cpu_offload_seq = "field"

    def __init__(self, field: LightSpeedField, views: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        views = None if views is None else views_of(views).to_config()
        self.register_modules(field=field)
        self.register_to_config(views=views)

    @property
    def view_range(self) -> GridViews | OrbitViews | None:
        """From where the field may be looked at; None where it does not say."""
        return None if self.config.views is None else views_of(self.config.views)

    @torch.no_grad()
    def __call__(
        self,
        cameras: Cameras | None = None,
        num_frames: int = 36,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImageOutput | tuple[Any, ...]:
        """Renders the field.

        Args:
            cameras: from where, with about the focal lengths of `views`, for a ray stands for 8 x 8 or 12 x 12 pixels
                of that size; along a path through `views` if None.
            num_frames: pictures of that path.
            output_type: "pil", "np" or "pt".
            return_dict: False returns a tuple.

        Returns:
            `ImageOutput`, or `(images,)`.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
        """
        self.check_inputs(cameras, output_type)
        check_count("num_frames", num_frames)
        cameras = (self.view_range.path(num_frames) if cameras is None else cameras).to(self._execution_device)
        pictures = []
        with self.progress_bar(total=len(cameras)) as bar:
            for camera in range(len(cameras)):
                pictures.append(self._picture(cameras, camera))
                bar.update()
        processor = VaeImageProcessor(do_normalize=False)
        shown = processor.postprocess(torch.cat(pictures), output_type=output_type)
        self.maybe_free_model_hooks()
        return ImageOutput(images=shown) if return_dict else (shown,)

    def check_inputs(self, cameras: Cameras | None, output_type: str) -> None:
        """Refuses a call, before anything is computed.

        Raises:
            ValueError: naming the argument.
        """
        super().check_inputs(cameras, output_type)
        seen = self.view_range
        if cameras is None:
            require(seen is not None, "cameras", None, "given, for this field does not say from where it may be seen")
            return
        for name in ("width", "height"):
            check_side(name, getattr(cameras, name), self.field.scale)
        if seen is not None:
            check_focal_lengths(cameras.Ks, seen.focal)

    def _picture(self, cameras: Cameras, camera: int) -> Float[Tensor, "1 3 height width"]:
        which = slice(camera, camera + 1)
        pictures = self.field.show(cameras.viewmats[which], cameras.Ks[which], cameras.height, cameras.width)
        return pictures.float().cpu()

    @classmethod
    def fit(
        cls,
        source: PosedImages,
        points: Float[Tensor, "points 3"] | None = None,
        nearest: float | None = None,
        up: str = UP,
        output: str | Path | None = None,
        resume: bool = True,
        progress: bool = True,
        **settings: Any,
    ) -> Self:
        """Fits a field to the pictures of a scene.

        Args:
            source: pictures with their cameras: a grid, a forward-facing capture, or from all around.
            points: on the scene's surfaces, as structure from motion gives them; they say where the planes are.
            nearest: the scene's smallest depth, in scene units; likewise.
            up: which axis points up, for a scene that is seen from all around.
            output: folder of checkpoints, metrics and previews; a run that was stopped there goes on. None keeps none.
            resume: whether to go on with what an earlier run left.
            progress: whether to show a bar.
            settings: arguments of `LightSpeedFit`, such as `steps`, `seed` and `options={"num_sub_scenes": 5}`.

        Raises:
            ValueError: an argument is not as it must be, or cameras to which no light slab can be given.
            OSError: the folder cannot be written to.
        """
        if not isinstance(source, PosedImages):
            kind = type(source).__name__
            raise ValueError(f"source must be PosedImages, as `read_captures` makes them of a folder, not {kind}.")
        check_choice("up", up, DIRECTIONS)
        how = LightSpeedFit(**settings)
        field = fit_field(source, how, SceneHints(points, nearest), output, resume=resume, progress=progress)
        return cls(field.eval(), range_of(field, source, up).to_config())
