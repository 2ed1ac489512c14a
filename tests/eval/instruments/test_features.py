import numpy as np
from PIL import Image

from pocket_diffusers.eval.instruments.clip import ClipPictures
from pocket_diffusers.eval.instruments.features import clip_features


def test_features_carry_the_model_s_name():
    extractor = clip_features("clip-nano-judge")
    rng = np.random.default_rng(0)
    made = [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for height, width in ((64, 64), (70, 80))
    ]
    assert extractor.name == "clip-nano-judge"
    assert np.allclose(extractor(made), ClipPictures().encode_pictures(made).numpy(), atol=1e-6)
    assert extractor(made).dtype == np.float64
