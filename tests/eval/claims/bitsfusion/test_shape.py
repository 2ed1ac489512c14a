import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel

from pocket_diffusers.eval.claims.bitsfusion.shape import FULL, empty_unet, recipe, shape_folder


def test_a_folder_that_plain_diffusers_loads_and_that_keeps_the_scale_of_activations():
    with shape_folder("nano") as folder:
        unet = UNet2DConditionModel.from_pretrained(folder / FULL / "unet", torch_dtype=torch.float32).requires_grad_(
            False
        )
        weights = {name: value for name, value in unet.state_dict().items() if value.ndim > 1}
        for name, value in weights.items():
            assert abs(float(value.std()) * value[0].numel() ** 0.5 - 1) < 0.1, name
            assert torch.equal(value, value.half().float()), name
        assert float(unet.conv_norm_out.weight.mean()) == 1 and not unet.conv_in.bias.any()
        with torch.no_grad():
            sample, texts = torch.randn(1, 16, 8, 8), torch.randn(1, 7, 128)
            assert 0.1 < float(unet(sample, 501, texts).sample.std()) < 10
        assert DiffusionPipeline.load_config(folder / FULL)["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert not folder.exists()


def test_the_shape_is_the_published_one_and_its_recipe_fits():
    unet = empty_unet("sd15")
    assert sum(value.numel() for value in unet.parameters()) == 859_520_964
    assert len(recipe("sd15").layer_bits(unet)) == 258
