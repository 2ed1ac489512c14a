"""What is kept of a real run: evenly from first to last, some to calibrate on and others to compare on."""

import pytest
import torch

from pocket_diffusers.pipelines.export import rehearsal


def numbered(count: int) -> rehearsal.Rows:
    return [(torch.tensor([index]),) for index in range(count)]


def numbers(rows: rehearsal.Rows) -> list[int]:
    return [int(row[0]) for row in rows]


def test_inputs_of_a_long_run_are_thinned_out_evenly():
    kept = numbers(rehearsal._spread(numbered(200), 96))
    assert len(kept) == 96 and kept[0] == 0 and kept[-1] == 199 and kept == sorted(set(kept))
    assert numbers(rehearsal._spread(numbered(95), 96)) == list(range(95))


def test_parity_is_compared_on_what_int8_never_saw():
    parted = rehearsal._parted("unet", numbered(96))
    taken, compared = set(numbers(parted.calibration)), set(numbers(parted.trials))
    assert (len(taken), len(compared)) == (64, 32) and taken | compared == set(range(96))


@pytest.mark.parametrize(("count", "kept"), [(5, 4), (7, 5), (94, 63)])
def test_too_few_inputs_are_refused_with_their_number(count, kept):
    with pytest.raises(ValueError, match=f"unet needs 64 different inputs .*, but the rehearsal gave it {kept}\\."):
        rehearsal._parted("unet", numbered(count))
