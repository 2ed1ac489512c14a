"""A tokenizer and text encoders that know the words of a rehearsal, for the pipelines of tests."""

import re
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from pocket_diffusers.pipelines.export.methods.motion_prompts import motion_prompt
from pocket_diffusers.pipelines.export.methods.prompts import prompt

FIRST = (
    "<pad>", "<s>", "</s>", "<unk>", "a", "the", "red", "green", "blue", "cube", "sphere", "cone", "of", "left",
    "right", "and", "two",
)  # fmt: skip
"""Words with numbers that tests know; behind them stand the others that a rehearsal says."""
WORDS = dict.fromkeys([*FIRST, *(word for index in range(200) for word in re.findall(r"\w+", prompt(index)))])
MOTION_WORDS = dict.fromkeys(
    ["<pad>", "<s>", "<unk>", "</s>", *(w for i in range(200) for w in re.findall(r"\w+|,", motion_prompt(i)))]
)
"""Those of motions. CLIP takes an end of text with the number 2 for one of early files, and pools elsewhere."""


def make_tokenizer(
    max_length: int = 8, padding_side: str = "right", vocabulary: Iterable[str] = WORDS
) -> PreTrainedTokenizerFast:
    numbers = {word: i for i, word in enumerate(vocabulary)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(word, numbers[word]) for word in ("<s>", "</s>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=max_length,
        padding_side=padding_side,
    )


def make_clip(width: int, projected: bool = False) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_factor=5.0,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()
