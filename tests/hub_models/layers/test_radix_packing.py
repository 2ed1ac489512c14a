"""Digits in 64-bit words against Python's whole numbers, and words that nobody packed."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.layers.radix_packing import (
    check_words,
    digits_per_word,
    pack_digits,
    unpack_digits,
    words_for,
)

LEVEL_COUNTS = (3, 5, 9, 17, 33, 65, 129, 256)


def packed_by_hand(digits: list[int], base: int) -> list[int]:
    per_word, words = digits_per_word(base), []
    for first in range(0, len(digits), per_word):
        word = sum(digit * base**place for place, digit in enumerate(digits[first : first + per_word]))
        words.append(word - 2**64 if word >= 2**63 else word)
    return words


def test_digits_a_word():
    assert [digits_per_word(base) for base in LEVEL_COUNTS] == [40, 27, 20, 15, 12, 10, 9, 8]
    assert all(base ** digits_per_word(base) <= 2**64 < base ** (digits_per_word(base) + 1) for base in range(2, 257))


@settings(deadline=None, max_examples=150)
@given(base=st.sampled_from(LEVEL_COUNTS) | st.integers(2, 256), count=st.integers(0, 130), seed=st.integers(0, 999))
def test_packing_is_that_by_hand_and_comes_back(base, count, seed):
    digits = torch.randint(0, base, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    words = pack_digits(digits, base)
    assert words.tolist() == packed_by_hand(digits.tolist(), base)
    check_words(words, count, base)
    assert torch.equal(unpack_digits(words, count, base), digits)


@pytest.mark.parametrize("base", LEVEL_COUNTS)
def test_the_largest_words_come_back(base):
    digits = torch.full((3 * digits_per_word(base) + 1,), base - 1, dtype=torch.uint8)
    words = pack_digits(digits, base)
    check_words(words, len(digits), base)
    assert torch.equal(unpack_digits(words, len(digits), base), digits)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            torch.zeros(2, dtype=torch.int64),
            r"words must be torch.int64 of shape \(1,\) for 27 digits, not torch.int64",
        ),
        (torch.zeros(1, dtype=torch.int32), r"not torch.int32 of shape \(1,\)"),
        (torch.zeros(1, 1, dtype=torch.int64), r"not torch.int64 of shape \(1, 1\)"),
        (torch.tensor([-1]), r"words of 27 digits must be below 5\*\*27, not 18446744073709551615"),
        (torch.tensor([5**27]), r"below 5\*\*27, not 7450580596923828125"),
    ],
)
def test_words_of_another_size_or_with_larger_digits_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        check_words(words, 27, 5)


def test_digits_beyond_the_count_are_refused():
    words = pack_digits(torch.ones(30, dtype=torch.uint8), 5)
    check_words(words, 30, 5)
    with pytest.raises(ValueError, match=r"words of 2 digits must be below 5\*\*2, not 31"):
        check_words(words, 29, 5)


def test_words_changed_by_chance_are_refused_or_are_those_of_other_digits():
    chance, refused = random.Random(0), 0
    for _ in range(1000):
        base = chance.choice(LEVEL_COUNTS)
        count = chance.randrange(1, 100)
        words = [
            chance.getrandbits(64) - 2**63 for _ in range(words_for(count, base) + chance.choice((-1, 0, 0, 0, 1)))
        ]
        if words and chance.random() < 0.5:
            words[-1] = chance.randrange(base ** ((count - 1) % digits_per_word(base) + 1) + 1) % 2**63
        tensor = torch.tensor(words, dtype=torch.int64)
        try:
            check_words(tensor, count, base)
        except ValueError:
            refused += 1
        else:
            assert torch.equal(pack_digits(unpack_digits(tensor, count, base), base), tensor)
    assert 300 < refused < 900


def test_digits_and_bases_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="digits must be below the base 3, not 3"):
        pack_digits(torch.tensor([0, 3], dtype=torch.uint8), 3)
    for base in (1, 257, 2.0, True):
        with pytest.raises(ValueError, match="base must be a whole number from 2 to 256"):
            digits_per_word(base)
