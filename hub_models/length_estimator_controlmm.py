"""How long a prompt's motion is: MoMask's length estimator (arXiv 2312.00063)."""

from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from .presets import PresetMixin

NEGATIVE_SLOPE = 0.2


class ControlMMLengthEstimator(ModelMixin, ConfigMixin, PresetMixin):
    """Classifier of prompts by the number of tokens of their motion.

    Args:
        text_width: channels of the prompt's embedding, CLIP ViT-B/32's 512.
        width: of the first hidden layer; the second has half and the third a quarter of it.
        max_tokens: longest motion; class i stands for i tokens, 0 to `max_tokens`.
        dropout: of each hidden layer, in training.
    """

    _supports_gradient_checkpointing = True
    presets = {
        "paper": {},
        "nano": {"text_width": 128, "width": 128, "dropout": 0.1},
    }

    @register_to_config
    def __init__(self, text_width: int = 512, width: int = 512, max_tokens: int = 49, dropout: float = 0.2) -> None:
        super().__init__()
        self.gradient_checkpointing = False  # diffusers asks every model for it; this one has nothing worth sparing
        self.layers = nn.Sequential(
            *_hidden(text_width, width, dropout),
            *_hidden(width, width // 2, dropout),
            *_hidden(width // 2, width // 4, dropout),
            nn.Linear(width // 4, max_tokens + 1),
        )

    def forward(self, text: Float[Tensor, "batch text_width"]) -> Float[Tensor, "batch classes"]:
        """Logits of the number of tokens; a length is drawn from their softmax.

        Raises:
            ValueError: for embeddings of another shape.
        """
        if text.ndim != 2 or text.shape[1] != self.config.text_width:
            raise ValueError(f"text must be [batch, {self.config.text_width}], not {list(text.shape)}.")
        return self.layers(text)


def _hidden(in_channels: int, out_channels: int, dropout: float) -> tuple[nn.Module, ...]:
    return (
        nn.Linear(in_channels, out_channels),
        nn.LayerNorm(out_channels),
        nn.LeakyReLU(NEGATIVE_SLOPE),
        nn.Dropout(dropout),
    )
