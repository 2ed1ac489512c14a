"""Which files of a repository are fetched, from a Hub on this machine, and what is said where none are."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from huggingface_hub import constants

from pocket_diffusers import checkpoint
from pocket_diffusers.pipelines.hub_files import fetch_folder, needed_files
from pocket_diffusers.pipelines.quantization_bitsfusion import quantize_folder

COMMIT = "a" * 40


class FakeHub(ThreadingHTTPServer):
    """The few addresses of the Hub that a download asks for; keeps files by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files: dict[str, bytes] = {}
        self.fetched: set[str] = set()
        self.refuse: tuple[int, str] | None = None


class _Answers(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        if self.server.refuse:
            status, code = self.server.refuse
            return self.answer(status, b"{}", {"X-Error-Code": code})
        if self.path.startswith("/api/models/me/net/tree/"):
            tree = [{"type": "file", "path": n, "size": len(d), "oid": "0"} for n, d in self.server.files.items()]
            return self.answer(200, json.dumps(tree).encode(), {})
        if self.path.startswith("/api/models/me/net"):
            names = [{"rfilename": name} for name in self.server.files]
            return self.answer(200, json.dumps({"id": "me/net", "sha": COMMIT, "siblings": names}).encode(), {})
        name = self.path.replace("/main/", f"/{COMMIT}/").removeprefix(f"/me/net/resolve/{COMMIT}/")
        if name not in self.server.files:
            return self.answer(404, b"{}", {})
        data = self.server.files[name]
        if self.command == "GET":
            self.server.fetched.add(name)
        self.answer(200, data, {"ETag": f'"{hash(data):x}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    server = FakeHub()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, add_attention=False,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    DDIMPipeline(unet, DDIMScheduler()).save_pretrained(tmp_path / "local")
    return tmp_path / "local"


def test_a_repository_is_fetched_and_packed(hub, pipeline, tmp_path, monkeypatch):
    hub.files = {p.relative_to(pipeline).as_posix(): p.read_bytes() for p in pipeline.rglob("*") if p.is_file()}
    needed = set(hub.files)
    hub.files |= dict.fromkeys(["all.safetensors", "unet/old.bin", "README.md", "other/config.json"], b"x")
    quantize_folder("me/net", tmp_path / "out", 3)
    assert hub.fetched == needed
    quantize_folder(pipeline, tmp_path / "oracle", 3)
    for path in (tmp_path / "oracle").rglob("*"):
        if path.is_file() and path.name != "run.json":
            assert (tmp_path / "out" / path.relative_to(tmp_path / "oracle")).read_bytes() == path.read_bytes()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]["source"] == "me/net"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert (fetch_folder("me/net") / "unet" / "config.json").is_file()  # of the cache


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ((404, "RepoNotFound"), "model 'me/net' is no folder here and cannot be fetched from the Hub: check the name"),
        ((403, "GatedRepo"), "model 'me/net' is for those alone who have accepted its terms: do so on its page"),
    ],
)
def test_what_the_hub_refuses(hub, tmp_path, refuse, message):
    hub.refuse = refuse
    with pytest.raises(OSError, match=message):
        quantize_folder("me/net", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_connection(monkeypatch, tmp_path, offline):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    with pytest.raises(OSError, match="model 'me/net' is no folder here and cannot be fetched from the Hub"):
        fetch_folder("me/net")


def test_names_of_weights_that_come_with_the_package(tmp_path):
    assert quantize_folder("snapgen-nano", tmp_path / "out").loader == "SnapGenPipeline"
    assert fetch_folder(checkpoint("snapgen-nano")) == checkpoint("snapgen-nano")
    with pytest.raises(ValueError, match="nearest: 'snapgen-nano'"):
        quantize_folder("snapgen-nan", tmp_path / "none")


def test_variants_are_left_where_there_are_plain_weights():
    names = ["model_index.json", "unet/config.json", "LICENSE.txt", "tokenizer/vocab.txt", "x.py", "unet/x.onnx"]
    plain = ["unet/w-00001-of-00002.safetensors", "unet/w-00002-of-00002.safetensors"]
    half = ["unet/w.fp16.safetensors", "vae/w.fp16-00001-of-00001.safetensors"]
    found = needed_files("me/net", names + plain + half, ["unet", "vae", "tokenizer"])
    assert set(found) == {*names, *plain, half[1]} - {"unet/x.onnx"}
    assert needed_files("me/net", ["config.json", "w.fp16.safetensors", "a/w.safetensors"], None) == [
        "config.json",
        "w.fp16.safetensors",
    ]


@pytest.mark.parametrize(
    ("names", "components"), [(["unet/a.safetensors", "vae/b.bin"], ["unet", "vae"]), (["b.ckpt"], None)]
)
def test_pickles_are_refused_by_name(names, components):
    with pytest.raises(ValueError, match=rf"me/net/{names[-1]} is a pickle, .*: only safetensors is accepted"):
        needed_files("me/net", names, components)
