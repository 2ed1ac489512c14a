import pytest
import torch

from pocket_diffusers.hub_models.layers.padding import check_padding, padding_behind, padding_bias


def test_padding_is_behind_the_last_token():
    expected = [[False, False, True], [False, False, False], [True, True, True]]
    assert padding_behind(torch.tensor([2, 3, 0]), 3).tolist() == expected


def test_bias_keeps_padding_out_and_nothing_in_front_of_it():
    padding = torch.tensor([[False, False, True], [False, True, True]])
    bias = padding_bias(padding, 2, torch.float32)
    assert bias.shape == (2, 1, 1, 5)
    weights = bias[:, 0, 0].softmax(-1)
    torch.testing.assert_close(weights, torch.tensor([[0.25] * 4 + [0], [1 / 3] * 3 + [0, 0]]))
    assert padding_bias(None, 2, torch.float32) is None


@pytest.mark.parametrize(
    ("padding", "found"),
    [(torch.zeros(2, 3), r"torch.float32 \[2, 3\]"), (torch.zeros(2, 4, dtype=torch.bool), r"torch.bool \[2, 4\]")],
)
def test_padding_that_does_not_fit_raises(padding, found):
    with pytest.raises(ValueError, match=rf"padding must be booleans \[batch, tokens\] = \[2, 3\], not {found}"):
        check_padding(padding, 2, 3)
    check_padding(torch.zeros(2, 3, dtype=torch.bool), 2, 3)
    check_padding(None, 2, 3)
