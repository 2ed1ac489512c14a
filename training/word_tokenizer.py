"""A tokenizer of whole words, for models that read words by their numbers."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .objectives.contrastive import SPECIAL_TOKENS


def train_word_tokenizer(captions: Iterable[str], words: int, vocabulary: int) -> PreTrainedTokenizerFast:
    """A lower-case tokenizer whose tokens are the words of captions, framed by markers of start and end.

    A word that no caption has is the one token for unknown words; punctuation counts as words.

    Args:
        captions: texts to learn from.
        words: longest text, with its start and end.
        vocabulary: most tokens it may have, the 4 special ones among them; the commonest words stay.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = list(SPECIAL_TOKENS.values())
    tokenizer.train_from_iterator(
        captions, trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    )
    bos, eos = SPECIAL_TOKENS["bos_token"], SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        special_tokens=[(bos, tokenizer.token_to_id(bos)), (eos, tokenizer.token_to_id(eos))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=words, padding_side="right", **SPECIAL_TOKENS
    )
