"""Digits of any base packed into 64-bit words: as near to log2(base) bits a digit as words of that size come."""

import functools

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

WORD_BITS = 64
SIGN = -(2**63)
LARGEST_TABLE = 2**16  # rows of a table from a word's part to digits


def digits_per_word(base: int) -> int:
    """The most digits that 64 bits hold: 40, 27, 20, 15, 12, 10, 9 and 8 for 3, 5, 9, 17, 33, 65, 129 and 256."""
    if type(base) is not int or not 2 <= base <= 256:
        raise ValueError(f"base must be a whole number from 2 to 256, not {base!r}.")
    return _digits_within(base, 2**WORD_BITS)


def words_for(count: int, base: int) -> int:
    """Words that `count` digits take."""
    return -(-count // digits_per_word(base))


def pack_digits(digits: UInt8[Tensor, " count"], base: int) -> Int64[Tensor, " words"]:
    """Words of digits, the first of a word being its lowest; what the last word has room for beyond them is 0.

    A word is an unsigned number below `base ** digits_per_word(base)`, kept in the bits of an int64.

    Raises:
        ValueError: a digit is not below the base.
    """
    per_word = digits_per_word(base)
    if len(digits) and int(digits.max()) >= base:
        raise ValueError(f"digits must be below the base {base}, not {int(digits.max())}.")
    padded = digits.new_zeros(words_for(len(digits), base) * per_word)
    padded[: len(digits)] = digits
    columns = padded.view(-1, per_word)
    words = torch.zeros(len(columns), dtype=torch.int64, device=digits.device)
    for place in reversed(range(per_word)):
        words = words * base + columns[:, place]  # wraps around as unsigned numbers do
    return words


def unpack_digits(words: Int64[Tensor, " words"], count: int, base: int) -> UInt8[Tensor, " count"]:
    """The digits that `pack_digits` was given, by tables of several digits at once; `words` must have been checked."""
    per_word, at_once = digits_per_word(base), _digits_within(base, LARGEST_TABLE)
    parts = words.new_empty(len(words), -(-per_word // at_once))  # each of at_once digits, the lowest first
    for place in range(parts.shape[1]):
        words, parts[:, place] = _divide_unsigned(words, base**at_once)
    digits = _digit_table(base, at_once, words.device).index_select(0, parts.view(-1))
    return digits.view(len(words), parts.shape[1] * at_once)[:, :per_word].reshape(-1)[:count]


def check_words(words: Tensor, count: int, base: int) -> None:
    """Refuses words that `pack_digits` cannot have made of `count` digits, before anything is decoded.

    Raises:
        ValueError: another type or number of words, or one that holds a digit beyond the base or the count.
    """
    needed, per_word = words_for(count, base), digits_per_word(base)
    if words.dtype != torch.int64 or words.shape != (needed,):
        found = f"{words.dtype} of shape {tuple(words.shape)}"
        raise ValueError(f"words must be torch.int64 of shape ({needed},) for {count} digits, not {found}.")
    if words.device.type == "meta" or needed == 0:
        return
    in_last = count - (needed - 1) * per_word
    for part, digits in ((words[:-1], per_word), (words[-1:], in_last)):
        largest = int((part ^ SIGN).max()) - SIGN if len(part) else 0  # by its unsigned value
        if largest >= base**digits:
            raise ValueError(f"words of {digits} digits must be below {base}**{digits}, not {largest}.")


def _digits_within(base: int, limit: int) -> int:
    return max(digits for digits in range(1, WORD_BITS + 1) if base**digits <= limit)


@functools.lru_cache(maxsize=16)
def _digit_table(base: int, digits: int, device: torch.device) -> Tensor:
    numbers = torch.arange(base**digits, device=device)
    return torch.stack([numbers // base**place % base for place in range(digits)], 1).to(torch.uint8)


def _divide_unsigned(words: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of the unsigned numbers in the bits of int64s, which torch divides as signed ones."""
    half = (words >> 1) & (2**63 - 1)
    quotient = torch.div(half, by, rounding_mode="trunc") << 1
    remainder = words - quotient * by  # at most 2 * by - 1
    over = (remainder >= by).to(torch.int64)
    return quotient + over, remainder - over * by
