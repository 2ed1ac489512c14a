import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.rendering import entropy_coding
from pocket_diffusers.hub_models.rendering.entropy_coding import Decoder, decode, encode, frequencies_of, weight_bytes


def _one_context(symbols):
    return [(symbols, np.zeros(len(symbols), np.int64))]


def _entropy_bytes(symbols, contexts):
    """The empirical conditional entropy, from its definition."""
    bits = 0.0
    for context in np.unique(contexts):
        counts = np.bincount(symbols[contexts == context])
        counts = counts[counts > 0]
        bits -= (counts * np.log2(counts / counts.sum())).sum()
    return bits / 8


@given(
    st.integers(1, 4096).flatmap(
        lambda alphabet: st.tuples(st.just(alphabet), st.lists(st.integers(0, alphabet - 1), max_size=200))
    )
)
@settings(max_examples=100, deadline=None)
def test_any_sequence_comes_back(drawn):
    alphabet, symbols = drawn
    symbols = np.array(symbols, np.int64)
    assert decode(encode(_one_context(symbols), 1, alphabet)).tolist() == symbols.tolist()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_parts_in_any_contexts_come_back(data):
    seed, num_contexts = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(1, 40))
    counts = data.draw(st.lists(st.sampled_from([0, 1, 2, 7, 100, 9000]), max_size=5))
    random = np.random.default_rng(seed)
    parts = [(random.integers(0, 30, count), random.integers(0, num_contexts, count)) for count in counts]
    decoder = Decoder(encode(parts, num_contexts, 30))
    for symbols, contexts in parts:
        assert (decoder.decode(contexts) == symbols).all()
    decoder.finish()


@pytest.mark.parametrize("symbols", [[], [0], [4095], [7] * 100_000, [0] * 99_999 + [1], list(range(4096)) * 3])
def test_degenerate_sequences_come_back(symbols):
    symbols = np.array(symbols, np.int64)
    assert (decode(encode(_one_context(symbols))) == symbols).all()


@pytest.mark.parametrize("alphabet", [2, 16, 256, 1000])
@pytest.mark.parametrize("skew", [0.0, 0.5, 2.0, 6.0])
def test_length_is_the_entropy(alphabet, skew):
    random = np.random.default_rng(alphabet)
    weights = np.arange(1, alphabet + 1) ** -skew
    symbols = random.choice(alphabet, 200_000, p=weights / weights.sum())
    coded = encode(_one_context(symbols), 1, alphabet)
    entropy = _entropy_bytes(symbols, np.zeros(len(symbols), int))
    assert entropy <= len(coded) <= 1.01 * entropy + 100 + alphabet + 2.5 * (len(symbols) // 4096)  # two bytes a lane


def test_length_is_the_entropy_given_the_context():
    random = np.random.default_rng(0)
    contexts = random.integers(0, 20, 200_000)
    symbols = np.minimum(random.poisson(contexts), 63)
    coded = encode([(symbols, contexts)], 20, 64)
    assert len(coded) <= 1.01 * _entropy_bytes(symbols, contexts) + 100 + 20 * 64
    assert len(coded) < 0.85 * len(encode(_one_context(symbols), 1, 64))


def test_certain_symbols_cost_only_the_lanes():
    assert len(encode(_one_context(np.full(100_000, 3)), 1, 8)) < 150


def test_a_plain_decoder_of_the_documented_layout_agrees():
    """A loop over symbols written from the docstring alone, as a page in JavaScript would have it."""
    import zlib

    random = np.random.default_rng(3)
    contexts, symbols = random.integers(0, 3, 9000), random.geometric(0.2, 9000).clip(max=40) - 1
    data = encode([(symbols, contexts)], 3, 40)
    count, num_contexts, alphabet, lanes, packed = struct.unpack_from("<IHHHI", data)
    assert (count, num_contexts, alphabet, lanes) == (9000, 3, 40, 2)
    weights = zlib.decompress(data[14 : 14 + packed], wbits=-15)
    intervals = []
    for context in range(num_contexts):
        row = [
            0 if b == 0 else ((8 + (b - 1) % 8) << ((b - 1) // 8)) >> 3
            for b in weights[context * alphabet : (context + 1) * alphabet]
        ]
        spare = 2**15 - sum(weight > 0 for weight in row)
        frequency = [(weight > 0) + weight * spare // sum(row) for weight in row]
        frequency[frequency.index(max(frequency))] += 2**15 - sum(frequency)
        intervals.append([sum(frequency[:symbol]) for symbol in range(alphabet + 1)])
    at = 14 + packed
    states = list(struct.unpack_from(f"<{lanes}I", data, at))
    words = iter(struct.unpack(f"<{(len(data) - at - 4 * lanes) // 2}H", data[at + 4 * lanes :]))
    for i in range(count):
        x, start = states[i % lanes], intervals[contexts[i]]
        slot = x % 2**15
        symbol = next(s for s in range(alphabet) if start[s] <= slot < start[s + 1])
        x = (start[symbol + 1] - start[symbol]) * (x // 2**15) + slot - start[symbol]
        states[i % lanes] = x * 65536 + next(words) if x < 2**16 else x
        assert symbol == symbols[i]
    assert states == [2**16] * lanes and next(words, None) is None


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=300))
@settings(max_examples=200, deadline=None)
def test_frequencies_sum_to_the_total_and_spare_what_occurs(counts):
    counts = np.array([counts])
    frequencies = frequencies_of(weight_bytes(counts))
    assert frequencies.sum() == entropy_coding.TOTAL
    assert (frequencies >= 0).all()
    if counts.any():
        assert ((frequencies > 0) == (counts > 0)).all()


def test_weight_bytes_keep_four_significant_bits():
    counts = np.array([[0, 1, 2, 15, 16, 17, 100, 32768]])
    codes = weight_bytes(counts).astype(int)[0] - 1
    values = [((8 + code % 8) << (code // 8)) >> 3 for code in codes[1:]]
    assert codes[0] == -1 and values == [1, 2, 15, 16, 18, 104, 32768]


@pytest.mark.parametrize(
    ("symbols", "contexts", "message"),
    [
        ([5], [0], "symbols must be from 0 to 4"),
        ([-1], [0], "symbols must be"),
        ([0], [2], "contexts must be from 0 to 1"),
    ],
)
def test_encode_refuses_what_is_out_of_range(symbols, contexts, message):
    with pytest.raises(ValueError, match=message):
        encode([(np.array(symbols), np.array(contexts))], 2, 5)


def test_encode_refuses_alphabets_and_contexts_that_are_too_many():
    with pytest.raises(ValueError, match="alphabet of 1 to 4096"):
        encode(_one_context(np.array([5000])))
    with pytest.raises(ValueError, match="contexts"):
        encode(_one_context(np.array([0])), 70_000)


def test_finish_tells_a_sequence_read_in_wrong_contexts():
    random = np.random.default_rng(0)
    symbols = random.integers(0, 8, 1000)
    contexts = (symbols > 3).astype(int)
    decoder = Decoder(encode([(symbols, contexts)], 2, 8))
    with pytest.raises(ValueError, match="A coded sequence must"):
        decoder.decode(1 - contexts)
        decoder.finish()


def test_hostile_sequences_are_refused_in_one_sentence():
    random = np.random.default_rng(0)
    whole = encode(_one_context(random.geometric(0.3, 150).clip(max=15)), 1, 16)
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            data[random.integers(0, len(data) if random.random() < 0.5 else 60)] = random.integers(0, 256)
        data = bytes(data[: random.integers(0, len(data))]) if random.random() < 0.3 else bytes(data)
        try:
            decode(data)
        except ValueError as error:
            assert str(error).endswith(".") and "\n" not in str(error)
            refused += 1
    assert refused > 900


def test_a_count_far_beyond_the_bytes_is_refused_before_it_is_believed():
    header = struct.pack("<IHHHI", 1 << 27, 1, 1, 1, 0)
    with pytest.raises(ValueError, match="lanes for 134217728 symbols"):
        Decoder(header + bytes(100))


def test_no_table_is_unfolded_before_a_symbol_is_wanted():
    """Deflate packs a million frequencies into some kilobytes, and a file may hold many sequences."""
    data = encode([(np.arange(3), np.arange(3))], 256, 4096)
    assert len(data) < 1 << 12
    tracemalloc.start()
    decoder = Decoder(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 << 20
    assert decoder.decode(np.arange(3)).tolist() == [0, 1, 2]
