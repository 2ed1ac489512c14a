"""What pipelines that show one scene share: cameras in, pictures out."""

from collections.abc import Callable
from typing import Any, Never

import torch
from diffusers.image_processor import VaeImageProcessor

from ..hub_models.rendering.gaussian_rasterizer import Rendering
from .inputs import check_cameras, check_choice, check_count
from .outputs import RenderingOutput
from .scene_cameras import Cameras

OUTPUT_TYPES = ("pil", "np", "pt")


class SceneMixin:
    """For a `DiffusionPipeline` that holds one scene."""

    def prompt_arguments(self, prompt: str, **options: Any) -> Never:
        """Refuses a text: there is no call that draws it.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{type(self).__name__} draws no texts, it shows one scene: use `pocket render`.")

    def check_inputs(self, cameras: Cameras | None, output_type: str) -> None:
        """Refuses a call, before anything is computed.

        Raises:
            ValueError: naming the argument.
        """
        check_choice("output_type", output_type, OUTPUT_TYPES)
        if cameras is None:
            return
        if not isinstance(cameras, Cameras):
            raise ValueError(f"cameras must be `Cameras`, not {type(cameras).__name__}.")
        check_cameras(cameras.viewmats, cameras.Ks)
        for side in ("width", "height"):
            check_count(side, getattr(cameras, side))

    def rendered(self, cameras: Cameras, draw: Callable[[int], Rendering], output_type: str) -> RenderingOutput:
        """One picture a camera, drawn one after the other.

        Args:
            cameras: from where.
            draw: number of a camera -> what it sees.
            output_type: one of `OUTPUT_TYPES`.
        """
        views = []
        with self.progress_bar(total=len(cameras)) as bar:
            for camera in range(len(cameras)):
                views.append(draw(camera))
                bar.update()
        images, depths, alphas = (
            torch.cat([getattr(view, name) for view in views]).float().cpu() for name in ("rgb", "depth", "alpha")
        )
        processor = VaeImageProcessor(do_normalize=False)
        shown = processor.postprocess(images.clamp(0, 1), output_type=output_type)
        return RenderingOutput(images=shown, depths=depths, alphas=alphas)
