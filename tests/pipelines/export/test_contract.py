"""The contract: written, read again, refused when it is another's or damaged."""

import json

import pytest

from pocket_diffusers.pipelines.export.contract import (
    CONTRACT,
    ComponentContract,
    PipelineContract,
    TensorSpec,
    read_contract,
)

TENSOR = TensorSpec("x", ("batch", 3), "float32", -1, None, "anything")
CONTRACT_OF_ONE = PipelineContract(
    slug="snapgen",
    components=(ComponentContract("net", (TENSOR,), (TENSOR,), "does something"),),
    scheduler={"class": "None"},
    loop="y = net(x)\n",
    constants={"steps": 3},
    parts={"tokenizer": ("transformers", "AutoTokenizer")},
    configs={"net": {"width": 3}},
)


def test_it_survives_json():
    record = json.loads(json.dumps(CONTRACT_OF_ONE.to_record()))
    assert PipelineContract.from_record(record) == CONTRACT_OF_ONE


def test_components_are_found_by_name():
    assert CONTRACT_OF_ONE.component("net").inputs == (TENSOR,)
    with pytest.raises(ValueError, match=r"component must be one of net, not 'unet'"):
        CONTRACT_OF_ONE.component("unet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "another"}, "must have the format 'pocket-diffusers export contract 1', not 'another'"),
        ({"components": [{"name": "net"}]}, "damaged: KeyError"),
        ({"components": "net"}, "damaged"),
        ({"parts": {"tokenizer": "transformers"}}, "damaged"),
        ({"surprise": 1}, "damaged"),
    ],
)
def test_what_is_no_contract_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        PipelineContract.from_record({**CONTRACT_OF_ONE.to_record(), **change})


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path.name}' is no export bundle: it has no contract.json"):
        read_contract(tmp_path)
    (tmp_path / CONTRACT).write_text('{"format": ')
    with pytest.raises(ValueError, match="contract.json cannot be read"):
        read_contract(tmp_path)
