"""LPGS (arXiv 2406.19434): a splat scene of which parent points are stored and the rest is predicted."""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor

from ..hub_models.container_lpgs import (
    LPGSSteps,
    decode_scene,
    encode_scene,
    storage_report,
    stored_circle,
    stored_steps,
)
from ..hub_models.gaussians_lpgs import LPGSGaussians
from ..hub_models.rendering.gaussians import Gaussians
from ..hub_models.rendering.splat_codec import unit_length
from ..hub_models.rendering.splat_files import suffix_of
from .files import whole_file
from .fitting.scene_folder_lpgs import fit_splats
from .fitting.scene_lpgs import POSITION_SHARE, LPGSFit, fit_scene_to_pictures
from .fitting.splat_views import SplatViews
from .inputs import PosedImages, check_count, check_number, require
from .outputs import RenderingOutput
from .repository import RepositoryMixin
from .scene import SceneMixin
from .scene_cameras import UP, Cameras, Circle, circle_of
from .splat_conversion import check_target, read_source, save_splats
from .splat_rendering import background_color


class LPGSPipeline(RepositoryMixin, SceneMixin, DiffusionPipeline):
    """Shows an LPGS scene from any camera, and writes it as plain splats or as a file of its own.

    Args:
        scene: the parents and the predictor.
        position_step: what positions of parents are rounded to in a file, in scene units; a share of a typical splat's
            size if None.
        scale_step: likewise the natural logarithms of parents' scales.
        grid_step: likewise the numbers of the hash grid.
        circle: from where it is shown where a call names no cameras: the fields of `Circle`; around all of it, with
            -y up, if None.

    Raises:
        ValueError: for a step or a circle that is not as it must be.
    """

    model_cpu_offload_seq = "scene"

    def __init__(
        self,
        scene: LPGSGaussians,
        position_step: float | None = None,
        scale_step: float = LPGSSteps.scale_step,
        grid_step: float = LPGSSteps.grid_step,
        circle: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        LPGSSteps(1.0 if position_step is None else position_step, scale_step, grid_step)
        circle = None if circle is None else asdict(circle_of(circle))
        self.register_modules(scene=scene)
        self.register_to_config(position_step=position_step, scale_step=scale_step, grid_step=grid_step, circle=circle)

    @torch.no_grad()
    def __call__(
        self,
        cameras: Cameras | None = None,
        num_frames: int = 36,
        height: int = 512,
        width: int = 512,
        background: str = "black",
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> RenderingOutput | tuple[Any, ...]:
        """Renders the scene.

        Args:
            cameras: from where; from the pipeline's circle if None.
            num_frames, height, width: of that circle: pictures, and their sides in pixels.
            background: a colour by its name or as #rrggbb.
            output_type: "pil", "np" or "pt".
            return_dict: False returns a tuple.

        Returns:
            `RenderingOutput`, or `(images, depths, alphas)`.

        Raises:
            ValueError: for every input that cannot be used, before anything is computed.
        """
        self.check_inputs(cameras, output_type)
        for name, value in (("num_frames", num_frames), ("height", height), ("width", width)):
            check_count(name, value)
        color, device = background_color(background), self._execution_device
        gaussians = self.gaussians()
        if cameras is None:
            cameras = self.circle(gaussians, width / height).cameras(num_frames, width, height)
        placed, color = cameras.to(device), color.to(device)
        output = self.rendered(placed, lambda camera: placed.draw(gaussians, camera, color), output_type)
        self.maybe_free_model_hooks()
        return output if return_dict else output.to_tuple()

    def circle(self, gaussians: Gaussians, aspect: float = 1.0) -> Circle:
        """From where the scene is shown: the stored circle, or one around all of it for pictures of an aspect."""
        stored = self.config.circle
        return Circle.around(gaussians.to("cpu"), aspect=aspect) if stored is None else circle_of(stored)

    @torch.no_grad()
    def gaussians(self) -> Gaussians:
        """The scene as plain Gaussians, predicted in single precision whatever the weights are stored in."""
        scene = self.scene
        if scene.dtype != torch.float32:
            scene = copy.deepcopy(scene).float()
        return scene.expand()

    # Files

    @classmethod
    def from_container(cls, path: str | Path) -> Self:
        """Reads a file that `to_container` wrote.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or no such file.
        """
        data = Path(path).read_bytes()
        return cls(decode_scene(data), **vars(stored_steps(data)), circle=stored_circle(data))

    def to_container(self, path: str | Path, overwrite: bool = False) -> dict[str, int]:
        """Writes the scene into one file: parents and grid rounded and entropy-coded, networks in half precision.

        Returns:
            the file's bytes by what they hold.

        Raises:
            FileExistsError: there is such a file, and it is not to be replaced.
            OSError: it cannot be written.
            ValueError: the name does not end in .lpgs, or the scene holds what such a file cannot.
        """
        path = Path(path)
        require(suffix_of(path) == ".lpgs", "path", str(path), "a name that ends in .lpgs")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already: choose another name, or overwrite=True to replace it.")
        data = self.container()
        with whole_file(path) as draft:
            draft.write_bytes(data)
        return storage_report(data)

    def container(self) -> bytes:
        """What `to_container` writes."""
        scene, config = self.scene, self.config
        if not isinstance(scene, LPGSGaussians):
            raise ValueError("scene must be LPGSGaussians to be encoded, not an exported one: save its splats instead.")
        position_step = config.position_step or POSITION_SHARE * unit_length(self.gaussians())
        return encode_scene(scene, LPGSSteps(position_step, config.scale_step, config.grid_step), config.circle)

    def storage_report(self) -> dict[str, int]:
        """Bytes of `container` by what they hold."""
        return storage_report(self.container())

    def to_ply(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes all splats as a 3DGS PLY, or as a compressed one if the name ends in .compressed.ply.

        Raises:
            FileExistsError: there is such a file, and it is not to be replaced.
            OSError: it cannot be written.
            ValueError: the name has another ending.
        """
        self._save(path, (".ply", ".compressed.ply"), overwrite)

    def to_spz(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes all splats as SPZ; raises as `to_ply` does."""
        self._save(path, (".spz",), overwrite)

    def to_sog(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes all splats as SOG, whose pictures many viewers stream; raises as `to_ply` does."""
        self._save(path, (".sog",), overwrite)

    def _save(self, path: str | Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
        require(suffix_of(path) in suffixes, "path", str(path), f"a name that ends in {' or '.join(suffixes)}")
        check_target(path, overwrite)
        save_splats(self.gaussians().to("cpu"), path, overwrite)

    # Fitting

    @classmethod
    def fit(
        cls,
        source: PosedImages | Gaussians | str | Path,
        budget_mb: float = 1.0,
        points: Float[Tensor, "points 3"] | None = None,
        cameras: Cameras | None = None,
        up: str = UP,
        output: str | Path | None = None,
        resume: bool = True,
        progress: bool = True,
        **settings: Any,
    ) -> Self:
        """Fits a scene to pictures, or to splats that exist.

        Args:
            source: pictures with their cameras; or splats, or their file.
            budget_mb: of the scene's file, in megabytes of 10^6 bytes.
            points: of structure from motion, where parents begin; needed for pictures.
            cameras: from where splats are looked at; circles around them if None.
            up: which axis points up, for the circles; kept with a scene that is fitted to pictures.
            output: folder of checkpoints, metrics and previews; a run that was stopped there goes on. None keeps none.
            resume: whether to go on with what an earlier run left.
            progress: whether to show a bar.
            settings: other arguments of `LPGSFit`, such as `steps` and `seed`.

        Raises:
            ValueError: an argument is not as it must be.
            FileNotFoundError: there is no such file of splats.
            OSError: the folder cannot be written to.
        """
        how = LPGSFit(max_bytes=round(check_number("budget_mb", budget_mb, 0) * 1e6), **settings)
        running = {"output": output, "resume": resume, "progress": progress}
        circle = None
        if isinstance(source, PosedImages):
            if cameras is not None:
                raise ValueError("cameras are for splats, and must be left out with pictures, which have their own.")
            if points is None:
                raise ValueError("points are needed with pictures: parents begin where structure from motion saw any.")
            circle = asdict(Circle.of_cameras(source.viewmats, up))
            made = fit_scene_to_pictures(SplatViews.of_pictures(source), points, how, **running)
        else:
            if points is not None:
                raise ValueError("points are for pictures, and must be left out with splats, which say where they are.")
            splats = source if isinstance(source, Gaussians) else read_source(source)
            made, _ = fit_splats(splats, how, cameras=cameras, up=up, **running)
        return cls(decode_scene(made.data), **vars(made.steps), circle=circle)
