import pytest
import torch
from safetensors.torch import save_file

from pocket_diffusers import checkpoint
from pocket_diffusers.eval.scores.storage import measure_storage


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    save_file({"a": torch.zeros(30, 10, dtype=torch.float16)}, folder / "unet" / "model.safetensors", {"format": "pt"})
    save_file({"b": torch.zeros(100), "c": torch.zeros(())}, folder / "vae.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def test_bytes_and_bits_of_a_repository(repository):
    found = measure_storage(repository)
    sizes = {path.name: path.stat().st_size for path in repository.rglob("*") if path.is_file()}
    assert found.bytes == sum(sizes.values()) and found.files == 3
    assert found.weight_bytes == found.bytes - 2
    assert found.parameters == 300 + 100 + 1
    assert found.bits_per_parameter == pytest.approx(8 * found.weight_bytes / 401)
    assert measure_storage(repository, parameters=802).bits_per_parameter == found.bits_per_parameter / 2
    assert measure_storage(repository / "vae.safetensors").parameters == 101


def test_half_precision_weights_take_sixteen_bits():
    found = measure_storage(checkpoint("snapgen-nano"))
    assert 16 <= found.bits_per_parameter < 16.5


def test_parameters_are_not_guessed(repository, tmp_path):
    (repository / "decoder.onnx").write_bytes(bytes(1000))
    found = measure_storage(repository)
    assert found.parameters is None and found.bits_per_parameter is None and found.weight_bytes > 1000
    package = tmp_path / "decoder.mlpackage" / "Data"
    package.mkdir(parents=True)
    (package / "weight.bin").write_bytes(bytes(10))
    assert measure_storage(tmp_path / "decoder.mlpackage", parameters=5).bits_per_parameter == 16


def test_what_cannot_be_measured_is_said(repository, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file at '.*nowhere'"):
        measure_storage(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="parameters must be at least 1.*not 0"):
        measure_storage(repository, parameters=0)
    for damage in (b"", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]"):
        (repository / "vae.safetensors").write_bytes(damage)
        with pytest.raises(ValueError, match="vae.safetensors (is truncated|has a damaged header)"):
            measure_storage(repository)
