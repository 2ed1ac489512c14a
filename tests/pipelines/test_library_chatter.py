import subprocess
import sys

PROGRAM = """
from pocket_diffusers.pipelines.library_chatter import silence_imports

{call}
import logging

for name in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(name).warning("as while importing")
    logging.getLogger(name).error("serious")
logging.getLogger("other").warning("as while importing")
"""


def said(call: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)], capture_output=True, text=True, check=True
    )
    return result.stderr.splitlines()


def test_chatter_is_silent_and_errors_show():
    assert said("") == ["as while importing", "serious"] * 3 + ["as while importing"]
    assert said("silence_imports()") == ["serious"] * 3 + ["as while importing"]


def test_the_command_says_nothing_but_its_result(tmp_path):
    words = ["generate", "snapgen", "--prompt", "a red cube", "--steps", "1", "--output", str(tmp_path / "made")]
    command = [sys.executable, "-m", "pocket_diffusers.cli", *words]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == "" and result.stdout.startswith("Made 1 picture in ")
