"""`optimum-cli export pocket`."""

import importlib.util
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

import pocket_diffusers

pytest.importorskip("optimum", reason="needs the extra 'export'")
FILE = Path(pocket_diffusers.__file__).parent / "pipelines" / "export" / "optimum_register" / "register_pocket.py"


@pytest.fixture(scope="module")
def command():
    if not FILE.is_file():  # in a wheel it is installed as part of optimum's namespace only
        return importlib.import_module("optimum.commands.register.register_pocket").PocketExportCommand
    spec = importlib.util.spec_from_file_location("register_pocket", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from optimum.commands.export.base import ExportCommand

    assert [parent for _, parent in module.REGISTER_COMMANDS] == [ExportCommand]
    return module.PocketExportCommand


def test_it_takes_the_options_of_pocket_export(command, monkeypatch, capsys, tmp_path):
    calls = []

    def export(*arguments):
        calls.append(arguments)
        return tmp_path

    monkeypatch.setattr("pocket_diffusers.pipelines.export.export_bundle.export_pipeline", export)
    parser = ArgumentParser()
    command(parser.add_subparsers())
    line = "pocket snapgen --to executorch --precision int8 --model mine -o there --overwrite"
    arguments = parser.parse_args(line.split())
    arguments.func(arguments).run()
    assert calls == [("snapgen", "mine", "executorch", "int8", "there", True)]
    assert "README.md says how to call it" in capsys.readouterr().out


def test_what_a_user_can_mend_is_one_sentence(command, capsys):
    parser = ArgumentParser()
    command(parser.add_subparsers())
    arguments = parser.parse_args(["pocket", "snapgen", "--to", "tflite"])
    with pytest.raises(SystemExit) as stop:
        arguments.func(arguments).run()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "Error: back end 'tflite' is unknown: use one of onnx, executorch, coreml.\n"


def test_optimum_finds_the_command():
    if importlib.util.find_spec("optimum.commands.register") is None:
        pytest.skip("the package was installed before this command existed: install it again")
    line = [Path(sys.executable).with_name("optimum-cli"), "export", "pocket", "--help"]
    result = subprocess.run(line, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--precision" in result.stdout and "SLUG" in result.stdout
