"""Lets DiffusionPipeline.from_pretrained(..., trust_remote_code=True) load this repository."""

try:
    import pocket_diffusers.hub_models.field_lightspeed
    from pocket_diffusers.pipelines.pipeline_lightspeed import LightSpeedPipeline  # noqa: F401
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("pocket_diffusers"):
        raise
    raise ImportError(
        "This repository needs the package pocket-diffusers, in a version that has LightSpeedPipeline: "
        "install the wheel pocket_diffusers-*.whl that `pocket push` puts beside this file, and no package of that "
        "name from an index."
    ) from error
