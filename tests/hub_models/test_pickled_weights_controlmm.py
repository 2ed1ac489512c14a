"""Pickles of weights: read exactly, or refused in one sentence, and nothing in them is run."""

import os
import pickle
import random
import re
import zipfile

import pytest
import torch

from pocket_diffusers.hub_models.pickled_weights_controlmm import read_pickled_weights

WANTED = {"encoder": {"weight": (3, 4), "bias": (3,)}, "decoder": {"scale": ()}}
REFUSED = r"'.*finest\.tar' must be a file of state dicts that torch\.save has written, but [^\n]+\.$"


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    encoder = {"weight": torch.randn(3, 4, generator=generator), "bias": torch.randn(3, generator=generator)}
    return {
        "encoder": encoder,
        "decoder": {"scale": torch.tensor(2.5)},
        "epoch": 3,
        "opt": {"state": {0: torch.ones(2)}},
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "finest.tar"


def saved(path, content):
    torch.save(content, path)
    return path


def repacked(path, change, compression=zipfile.ZIP_STORED):
    """The same archive with other contents: `change(name, data)`."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, change(name.rpartition("/")[2], data))
    return path


def equal(found, expected):
    return all(torch.equal(found[part][name], expected[part][name]) for part in WANTED for name in WANTED[part])


def refuses(path, reason):
    with pytest.raises(ValueError, match=REFUSED) as error:
        read_pickled_weights(path, WANTED)
    assert re.search(reason, str(error.value)), error.value


def test_weights_come_back_as_tensors_of_their_own(path):
    found = read_pickled_weights(saved(path, weights()), WANTED)
    assert equal(found, weights()) and found.keys() == WANTED.keys()
    path.write_bytes(bytes(path.stat().st_size))
    assert equal(found, weights()), "the file may go"


def test_half_precision_views_and_parameters_become_plain_float32(path):
    content = weights()
    content["encoder"] = {
        "weight": torch.nn.Parameter(torch.arange(12.0).view(4, 3).half()).T,
        "bias": torch.arange(9.0, dtype=torch.float64)[::3],
    }
    found = read_pickled_weights(saved(path, content), WANTED)["encoder"]
    assert torch.equal(found["weight"], torch.arange(12.0).view(4, 3).T) and found["weight"].is_contiguous()
    assert torch.equal(found["bias"], torch.tensor([0.0, 3.0, 6.0]))
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "it holds no state dict 'encoder'"),
        ({**weights(), "decoder": 5}, "it holds no state dict 'decoder'"),
        ({**weights(), "decoder": {}}, "decoder.scale is missing"),
        ({**weights(), "decoder": {"scale": torch.ones(()), "shift": torch.ones(())}}, "decoder.shift is unknown"),
        ({**weights(), "decoder": {"scale": torch.ones(1)}}, r"decoder.scale is \[1\] and not \[\]"),
        (
            {**weights(), "decoder": {"scale": torch.ones((), dtype=torch.long)}},
            "decoder.scale is no tensor of floating",
        ),
        ({**weights(), "decoder": {"scale": 2.5}}, "decoder.scale is no tensor of floating"),
        ({**weights(), "decoder": {"scale": torch.tensor(torch.nan)}}, "decoder.scale holds NaN or infinity"),
        ({**weights(), "decoder": {"scale": torch.ones(1).expand(10**9, 10**9)}}, "decoder.scale is "),
    ],
)
def test_other_contents(path, content, reason):
    refuses(saved(path, content), reason)


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Calls(os.system, "exit 1"), "its pickle asks for (posix|nt).system, which is no tensor"),
        (Calls(bytearray, 10**12), "its pickle asks for (__builtin__|builtins).bytearray, which is no tensor"),
        (Calls(torch.Size, (10**6,)), "its pickle asks for torch.Size"),
        (Calls(torch._utils._rebuild_sparse_tensor, 1, 2), "its pickle asks for torch._utils._rebuild_sparse_tensor"),
    ],
)
def test_a_pickle_that_calls_something_else_is_not_even_begun(path, call, reason):
    refuses(saved(path, {**weights(), "other": call}), reason)


def test_names_that_are_put_together_are_refused(path):
    saved(path, weights())
    pickled = pickle.dumps({**weights(), "other": Calls(os.getcwd)}, protocol=4)
    refuses(repacked(path, lambda name, data: pickled if name == "data.pkl" else data), "asks for STACK_GLOBAL")


def test_a_pickle_that_claims_more_numbers_than_there_are(path):
    """12 numbers become 2 * 10^9, in the storage alone and in the tensor too."""
    many = b"\x8a\x05" + (2 * 10**9).to_bytes(5, "little")
    for old, new in ((b"K\x0ct", many + b"t"), (b"K\x03K\x04\x86", many + many + b"\x86")):
        saved(path, weights())

        def changed(name, data, old=old, new=new):
            assert name != "data.pkl" or old in data
            return data.replace(old, new) if name == "data.pkl" else data

        repacked(path, changed)
        if old == b"K\x0ct":
            assert equal(read_pickled_weights(path, WANTED), weights()), "no more is mapped than the file has"
        else:
            refuses(path, "torch cannot read it")


def test_an_archive_that_unpacks_to_more_than_it_is(path):
    bomb = bytes(10**7)
    repacked(saved(path, weights()), lambda name, data: bomb if name == "0" else data, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    refuses(path, "its entries are compressed or encrypted")


def test_damaged_numbers_are_noticed(path):
    data = bytearray(saved(path, weights()).read_bytes())
    place = data.index(weights()["encoder"]["weight"].numpy().tobytes())
    data[place + 1] ^= 1
    path.write_bytes(data)
    refuses(path, "its entry '[^']+/data/0' is damaged|its entry '[^']+' is damaged")


def test_two_entries_of_one_name(path):
    saved(path, weights())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"")
    refuses(path, "two of its entries have one name")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), pickle.dumps({"encoder": 1})])
def test_what_is_no_archive(path, content):
    path.write_bytes(content)
    refuses(path, "it is no whole zip archive")


def test_older_files_are_refused(path):
    torch.save(weights(), path, _use_new_zipfile_serialization=False)
    refuses(path, "it is no whole zip archive")


def test_an_archive_without_a_pickle(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("finest/data/0", b"1234")
    refuses(path, "it holds 0 entries data.pkl and not 1")


def test_no_file(path):
    with pytest.raises(FileNotFoundError, match="there is no file at '.*finest.tar'"):
        read_pickled_weights(path, WANTED)


def mutated(data, chance):
    """A copy that is damaged in one of the ways that files are."""
    data, place = bytearray(data), chance.randrange(len(data))
    kind = chance.choice(("flip", "flip", "byte", "cut", "drop", "insert", "zero", "repeat"))
    if kind == "flip":
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "byte":
        data[place] = chance.choice((0, 255, chance.randrange(256)))
    elif kind == "cut":
        del data[place:]
    elif kind == "drop":
        del data[place : place + chance.randint(1, 64)]
    elif kind == "insert":
        data[place:place] = chance.randbytes(chance.randint(1, 64))
    elif kind == "zero":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    else:
        data[place:place] = data[place : place + 200]
    return bytes(data)


def read_or_refuse(path):
    """Whether the file was read; what was read is right, and a refusal is one clear sentence."""
    try:
        found = read_pickled_weights(path, WANTED)
    except ValueError as error:
        assert re.fullmatch(REFUSED, str(error)), error
        return False
    assert equal(found, weights())
    return True


def test_a_mutated_file_is_read_right_or_refused(path):
    data, refused = saved(path, weights()).read_bytes(), 0
    for seed in range(200):
        path.write_bytes(mutated(data, random.Random(seed)))
        refused += not read_or_refuse(path)
    assert 100 < refused < 200


def test_a_mutated_pickle_in_a_whole_archive_is_read_or_refused(path):
    """Checksums fit, so that the pickle itself is looked at; numbers may be others, but not their shapes."""
    whole, refused = saved(path, weights()).read_bytes(), 0
    for seed in range(200):
        chance = random.Random(seed)
        path.write_bytes(whole)
        repacked(path, lambda name, data, chance=chance: mutated(data, chance) if name == "data.pkl" else data)
        try:
            found = read_pickled_weights(path, WANTED)
        except ValueError as error:
            refused += 1
            assert re.fullmatch(REFUSED, str(error)), error
        else:
            for part, shapes in WANTED.items():
                assert {name: tuple(tensor.shape) for name, tensor in found[part].items()} == shapes
                assert all(tensor.isfinite().all() for tensor in found[part].values())
    assert 100 < refused < 200
