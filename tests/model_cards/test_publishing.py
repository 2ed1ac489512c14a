"""Publishing: what is put together loads elsewhere, and what is sent arrives, at a Hub on this machine."""

import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants, parse_eval_result_entries

from pocket_diffusers import checkpoint
from pocket_diffusers.cli import main
from pocket_diffusers.model_cards import publishing
from pocket_diffusers.model_cards.own_weights import read_own_weights
from pocket_diffusers.model_cards.publishing import Part, assemble_model, assemble_space, check_repo, publish, push
from pocket_diffusers.model_cards.render import render_card
from pocket_diffusers.model_cards.wheel import WHEEL
from pocket_diffusers.pipelines.weights import weights_digest
from pocket_diffusers.spaces import build_static as build
from pocket_diffusers.training.training_chain import KEYS

REPO = "me/snapgen"


class FakeHub(ThreadingHTTPServer):
    """The few addresses of the Hub that an upload asks for; keeps files by (kind, repository)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.created: list[dict] = []
        self.tokens: set[str | None] = set()
        self.refuse: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: FakeHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.server.refuse:
            return self.answer({"error": "no"}, self.server.refuse)
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        kind, repo, verb = re.fullmatch(r"/api/(model|space)s/(.+/.+)/(preupload|commit)/main", self.path).groups()
        if verb == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            return self.answer(
                {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
            )
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                self.server.files[kind, repo][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.server.files[kind, repo][value["path"]]
        self.answer({"commitUrl": f"{self.server.address}/{repo}/commit/1", "commitOid": "1", "success": True})

    def do_GET(self) -> None:
        found = re.match(r"/api/(model|space)s/([^/]+/[^/]+)/tree/main", self.path)
        if found is None:
            return self.answer({"error": f"no such address: {self.path}"}, 404)
        names = self.server.files[found[1], found[2]]
        self.answer([{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in names.items()])

    def create(self, request: dict) -> None:
        self.server.created.append(request)
        kind, repo = request.get("type", "model"), f"{request['organization']}/{request['name']}"
        self.server.files.setdefault((kind, repo), {})
        prefix = "spaces/" if kind == "space" else ""
        self.answer({"url": f"{self.server.address}/{prefix}{repo}", "name": repo})

    def answer(self, content: dict | list, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    server = FakeHub()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def parts(tmp_path: Path) -> list[Part]:
    for name, content in {
        "model/README.md": b"---\nlicense: mit\n---\n# x\n",
        "model/unet/weights.safetensors": bytes(range(256)),
        "model/.eval_results/snapgen.yaml": b"[]\n",
        "space/app.py": b"print()\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return [Part(tmp_path / "model", REPO, "model"), Part(tmp_path / "space", REPO, "space", "gradio")]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Sending


def test_all_files_arrive(hub, parts):
    addresses = push(parts)
    assert addresses == [f"{hub.address}/me/snapgen", f"{hub.address}/spaces/me/snapgen"]
    for part in parts:
        assert hub.files[part.kind, REPO] == content(part.folder)
    assert hub.created[1]["sdk"] == "gradio" and "private" not in str(hub.created)
    assert hub.tokens == {"Bearer hf_secret"}


def test_second_push_takes_old_samples_away_and_leaves_the_rest(hub, parts):
    push(parts)
    hub.files["model", REPO] |= {"samples/old.png": b"old", "notes.txt": b"the user's own"}
    push(parts, private=True)
    assert hub.files["model", REPO] == content(parts[0].folder) | {"notes.txt": b"the user's own"}
    assert hub.created[-1].get("visibility") == "private" or hub.created[-1].get("private") is True


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "model 'me/snapgen' at http.* refused the token: log in again"),
        (403, "may not be written with this token: it needs write access to 'me'"),
        (400, "was not uploaded: the Hub answered 400, no"),
    ],
)
def test_refusal_is_one_sentence(hub, parts, status, message):
    hub.refuse = status
    with pytest.raises(OSError, match=message) as error:
        push(parts)
    assert "\n" not in str(error.value)


def test_nobody_answers(hub, parts, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"cannot be reached: .*refused"):
        push(parts)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="cannot be reached: HF_HUB_OFFLINE is set"):
        push(parts)


def test_without_a_token_nothing_is_even_put_together(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(publishing, "get_token", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert main(["push", "snapgen", REPO]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "log in with `hf auth login` or set HF_TOKEN" in error and "--dry-run" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "repo", ["snapgen", "me/../snapgen", "../snapgen", "me/snap..gen", "me/a/b", "/me/snapgen", "me/", "me/x y", ""]
)
def test_repo_must_be_an_id(repo):
    with pytest.raises(ValueError, match=r"REPO must be OWNER/NAME.*not .*"):
        check_repo(repo)
    with pytest.raises(ValueError, match="REPO must be OWNER/NAME"):
        publish("snapgen", repo, dry_run=True)


def test_private_space_is_refused_with_its_reason():
    with pytest.raises(ValueError, match="--private needs --no-space"):
        publish("snapgen", REPO, dry_run=True, private=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"license": "mit"}, "--license is for weights of your own: those of snapgen"),
        ({"license": "mitt"}, "license 'mitt' is unknown: use one of .*nearest: 'mit'"),
    ],
)
def test_licence_of_what_is_not_ones_own(arguments, message):
    with pytest.raises(ValueError, match=message):
        publish("snapgen", REPO, dry_run=True, **arguments)


# Putting together


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push") / "model"
    wheel = tmp_path_factory.mktemp("wheel") / WHEEL
    wheel.write_bytes(b"wheel")
    assemble_model("snapgen-nano", REPO, folder, wheel)
    return folder


def test_model_repository_is_complete(model):
    found = content(model)
    original = content(checkpoint("snapgen-nano"))
    kept = {name for name in original if name != "README.md" and not name.startswith("samples/")}
    assert {name: found[name] for name in kept} == {name: original[name] for name in kept}
    assert {"README.md", "LICENSE", "samples/sheet.png", "eval/snapgen.json", "pipeline_snapgen.py"} <= found.keys()
    assert found[WHEEL] == b"wheel"
    assert found["README.md"].decode() == render_card("snapgen-nano", REPO)
    contract = json.loads(found["export/contract.json"])
    assert contract["slug"] == "snapgen" and {"unet", "vae_decoder"} <= {
        part["name"] for part in contract["components"]
    }
    entries = parse_eval_result_entries(yaml.safe_load(found[".eval_results/snapgen.yaml"]))
    rows = {row["id"]: row["measured"] for row in json.loads(found["eval/snapgen.json"])}
    assert entries and all(rows[entry.task_id] == entry.value for entry in entries)


def test_every_card_of_a_private_push_says_how_to_install(space, world, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(publishing, "assemble_model", lambda *given: (given[2].mkdir(), asked.append(given[-1])))
    publish("snapgen", REPO, tmp_path / "out", dry_run=True, space=False, private=True)
    assert asked == [True]
    monkeypatch.undo()
    assemble_model("snapgen-nano", REPO, tmp_path / "model", make_wheel(tmp_path), private=True)
    text = (tmp_path / "model" / "README.md").read_text()
    assert f"# hf download {REPO} {WHEEL} --local-dir .\n" in text and "pip install https" not in text


def make_wheel(folder: Path) -> Path:
    (folder / WHEEL).write_bytes(b"wheel")
    return folder / WHEEL


def test_plain_diffusers_loads_and_draws(model, tmp_path):
    code = """
import sys
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
picture = pipeline("a red cube", num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
picture.save("cube.png")
print(type(pipeline).__module__)
"""
    run = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("pocket_diffusers.pipelines.pipeline_snapgen")
    assert (tmp_path / "cube.png").stat().st_size > 500


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Space to publish, and a wheel that is quickly made."""
    source = tmp_path / "spaces" / "snapgen"
    (source / "static").mkdir(parents=True)
    (source / "static" / "index.html").touch()
    (source / "app.py").write_text("import gradio\n")
    (source / "requirements.txt").write_text("# ours\npocket-diffusers[demo] @ WHEEL\npillow\n")
    (source / "README.md").write_text(
        "---\ntitle: S\nemoji: x\ncolorFrom: red\ncolorTo: blue\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\n"
        'license: apache-2.0\n---\n# S\n\n`Client("OWNER/NAME")`, `WHEEL`\n'
    )

    def build_wheel(folder: Path) -> Path:
        (folder / WHEEL).touch()
        return folder / WHEEL

    monkeypatch.setattr(publishing, "_SPACES", source.parent)
    monkeypatch.setattr(publishing, "build_wheel", build_wheel)
    return source


def test_space_names_its_wheel_and_its_model(space, tmp_path):
    assemble_space("snapgen", REPO, tmp_path / "out", publishing.build_wheel(tmp_path))
    found = content(tmp_path / "out")
    assert found.keys() == {"app.py", "README.md", "requirements.txt", WHEEL}
    lines = found["requirements.txt"].decode().splitlines()
    wheel = "https://huggingface.co/spaces/me/snapgen/resolve/main/" + WHEEL
    assert lines == ["# ours", f"pocket-diffusers[demo] @ {wheel}", "pillow"]
    front = yaml.safe_load(found["README.md"].decode().split("---")[1])
    assert f"`{wheel}`" in found["README.md"].decode()
    assert front["models"] == [REPO] and 'Client("me/snapgen")' in found["README.md"].decode()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("requirements.txt", "torch\n", "must ask for pocket-diffusers in one line"),
        ("README.md", "---\ntitle: S\n---\n# S\n", "sdk is missing from the front matter"),
    ],
)
def test_faulty_space(space, tmp_path, name, text, message):
    (space / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        assemble_space("snapgen", REPO, tmp_path / "out", publishing.build_wheel(tmp_path))


def test_method_without_a_space(space, tmp_path):
    with pytest.raises(FileNotFoundError, match="atom has no Space"):
        assemble_space("atom", REPO, tmp_path / "out", tmp_path / WHEEL)


@pytest.mark.parametrize(
    ("slug", "model"), [("snapgen", "me/thing"), ("ascan", "me/thing-digits"), ("lpgs", "me/thing")]
)
def test_a_static_space_names_the_model_that_its_page_runs(monkeypatch, tmp_path, slug, model):
    def build_static(slug: str, folder: Path) -> Path:
        folder.mkdir()
        build.copy_pages(slug, folder)
        return folder

    monkeypatch.setattr(build, "build_static", build_static)
    built = publishing.assemble_static(slug, "me/thing", tmp_path / "out")
    front = yaml.safe_load((built / "README.md").read_text().split("---")[1])
    assert front["models"] == [model]
    assert (checkpoint(build.weights_of_page(slug)) / "model_index.json").is_file()


def test_every_weights_of_a_method_get_a_repository(space, world, monkeypatch, tmp_path):
    for name in ("snapgen-nano-judge", "clip-nano"):
        (world.sources.checkpoints / name).mkdir()
    made = []

    def assemble_model(name: str, repo: str, folder: Path, wheel: Path, *options: object) -> None:
        folder.mkdir(parents=True)
        made.append((name, repo, folder.name))

    monkeypatch.setattr(publishing, "assemble_model", assemble_model)
    parts = publishing.assemble("snapgen", REPO, tmp_path / "out", sources=world.sources)
    assert made == [("snapgen-nano", REPO, "model"), ("snapgen-nano-judge", f"{REPO}-judge", "model-judge")]
    assert [(part.repo, part.kind) for part in parts] == [
        (REPO, "model"),
        (f"{REPO}-judge", "model"),
        (REPO, "space"),
    ]
    front = yaml.safe_load((parts[-1].folder / "README.md").read_text().split("---")[1])
    assert front["models"] == [REPO, f"{REPO}-judge"]


# Weights of a user's own


def put_together(folder: Path, **options: object) -> tuple[dict[str, bytes], list[str]]:
    """Files of the model repository, and what was said."""
    said: list[str] = []
    target = folder.parent / "put-together"
    publishing.assemble_own_model(read_own_weights(folder), "me/mine", target, say=said.append, **options)
    return content(target), said


def test_only_what_belongs_to_the_pipeline_leaves_the_machine(reader):
    for name in ("checkpoint-5/optimizer.bin", "model/log.txt", "wandb/run.log", ".git/config", "samples/00.png"):
        (reader / name).parent.mkdir(exist_ok=True)
        (reader / name).write_text("mine")
    (reader / "wandb" / "latest").symlink_to("/etc/hostname")
    (reader / "LICENSE").write_text("do as you like")
    found, said = put_together(reader)
    assert found.keys() == {
        "model_index.json", "model/config.json", "model/diffusion_pytorch_model.safetensors", "LICENSE", "README.md",
        "pipeline_ascan_classification.py",
    }  # fmt: skip
    assert said == ["leaving out what is no part of the pipeline: checkpoint-5, model/log.txt, samples, wandb"]


def test_ones_own_record_is_published_without_places_and_ours_never(reader):
    record = dict.fromkeys(KEYS) | {
        "command": "pocket train ascan --set source=/home/me/cats", "stage": "digits", "settings": {"steps": 7},
        "digest_out": weights_digest(reader),
    }  # fmt: skip
    (reader / "training.json").write_text(json.dumps([record]))
    found, _ = put_together(reader)
    assert json.loads(found["training.json"]) == [record | {"command": "pocket train ascan --set source=cats"}]
    assert b"| 1 | digits |" in found["README.md"] and b"source=cats" in found["README.md"]


def test_a_readme_of_ones_own_is_kept_with_the_pictures_that_it_shows(reader):
    (reader / "pictures").mkdir()
    for name in ("00.png", "pictures/b.JPG", ".hidden.png", "notes.txt"):
        (reader / name).write_bytes(name.encode())
    shown = "![a](./00.png) ![b](pictures/b.JPG)"
    (reader / "README.md").write_text(f"# Mine\n{shown}\n")
    found, said = put_together(reader, license="mit")
    assert said[0] == f"keeping {reader / 'README.md'} as the card"
    assert found["README.md"].endswith(f"# Mine\n{shown}\n".encode()) and b"license: mit" in found["README.md"]
    assert found["00.png"] == b"00.png" and found["pictures/b.JPG"] == b"pictures/b.JPG" and "notes.txt" not in found


@pytest.mark.parametrize("shown", [".hidden.png", "../secret.png", "linked/secret.png", "notes.txt", "gone.png"])
def test_a_readme_brings_nothing_else_along(reader, shown):
    (reader.parent / "secret.png").touch()
    (reader / "linked").symlink_to(reader.parent)
    (reader / ".hidden.png").touch()
    (reader / "notes.txt").touch()
    (reader / "README.md").write_text(f"# Mine\n![a]({shown})\n")
    with pytest.raises(ValueError, match="me/mine/README.md: '.*' is linked, but is not there"):
        put_together(reader)
    assert not [path for path in (reader.parent / "put-together").rglob("*") if path.name == Path(shown).name]


def test_a_picture_that_is_a_link_is_refused(reader):
    (reader / "a.png").symlink_to("/etc/hostname")
    (reader / "README.md").write_text("# Mine\n![a](a.png)\n")
    with pytest.raises(ValueError, match=r"a\.png is a link to /etc/hostname"):
        put_together(reader)


def test_damaged_weights_are_not_published(reader):
    weights = reader / "model" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.safetensors is truncated"):
        put_together(reader)


def test_ones_own_weights_arrive_at_the_hub(hub, reader, monkeypatch, tmp_path):
    monkeypatch.setattr(publishing, "build_wheel", make_wheel)
    hub.files["model", "me/mine"] = {"training.json": b"of an earlier push", "more.txt": b"the user's own"}
    addresses = publish(str(reader), "me/mine", tmp_path / "out", license="mit")
    assert addresses == [f"{hub.address}/me/mine", f"{hub.address}/spaces/me/mine"]
    assert hub.files["model", "me/mine"] == content(tmp_path / "out" / "model") | {"more.txt": b"the user's own"}
    assert hub.files["space", "me/mine"] == content(tmp_path / "out" / "space")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["command"] == "pocket push my-reader" and record["inputs"]["method"] == "ascan"
    assert str(tmp_path) not in json.dumps(record)


def test_static_page_of_ones_own_is_refused(reader):
    with pytest.raises(ValueError, match="--static is for the package's own weights"):
        publish(str(reader), "me/mine", dry_run=True, static=True)


def test_links_and_climbing_names_are_refused(tmp_path):
    (tmp_path / "a..b").touch()
    with pytest.raises(ValueError, match=r"'a\.\.b' must not be uploaded"):
        publishing._refuse_odd_names(tmp_path)
    (tmp_path / "a..b").unlink()
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="'link' must not be uploaded"):
        publishing._refuse_odd_names(tmp_path)


def test_failed_dry_run_leaves_nothing(monkeypatch, tmp_path):
    def fail(name: str, repo: str, folder: Path, wheel: Path, *options: object) -> None:
        folder.mkdir()
        raise ValueError("the card names 0.9, which nobody measured.")

    monkeypatch.setattr(publishing, "build_wheel", lambda folder: folder / WHEEL)
    monkeypatch.setattr(publishing, "assemble_model", fail)
    with pytest.raises(ValueError, match="nobody measured"):
        publish("snapgen", REPO, tmp_path / "out", dry_run=True)
    assert not list(tmp_path.iterdir())
