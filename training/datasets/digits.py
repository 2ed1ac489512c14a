"""Real handwriting: the 1,797 digits of 8 x 8 pixels that scikit-learn ships (UCI, Alpaydin and Kaynak 1998)."""

import torch

from .labelled_images import LabelledImages

TEST_COUNT = 360
DIGITS_SIZE = 32


def load_digits(split: str, seed: int = 0) -> LabelledImages:
    """Digits as 1 x 32 x 32 pictures, each pixel of the 8 x 8 interpolated (bilinear).

    Args:
        split: "train" (1,437 digits) or "test" (360, as many of each class as a random split of the seed gives).
        seed: of the split.

    Raises:
        ValueError: another split.
        ModuleNotFoundError: scikit-learn is missing.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}.")
    from sklearn.datasets import load_digits as read

    stored = read()
    order = torch.randperm(len(stored.target), generator=torch.Generator().manual_seed(seed))
    chosen = order[:TEST_COUNT] if split == "test" else order[TEST_COUNT:]
    pictures = torch.from_numpy(stored.images)[chosen, None].float() / 8 - 1
    pictures = torch.nn.functional.interpolate(pictures, (DIGITS_SIZE,) * 2, mode="bilinear", align_corners=False)
    return LabelledImages(pictures, torch.from_numpy(stored.target)[chosen].long(), tuple(map(str, range(10))))
