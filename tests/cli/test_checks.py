"""What the doctor finds: each fault provoked, each told with its fix; nothing where all is well."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.harness import call, on_terminal, process
from tests.conftest import png
from tests.hub.test_local import WHOLE, fill
from vlmchat.cli.checks import machine
from vlmchat.conversation import user
from vlmchat.engine import machine as hardware
from vlmchat.media.image import read_picture
from vlmchat.store import schema
from vlmchat.store.chats import ChatStore

Patch = pytest.MonkeyPatch
Provoke = Callable[[Patch, Path], None]
pytestmark = pytest.mark.usefixtures("healthy")


def no_disk(patch: Patch, home: Path) -> None:
    patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))


def no_memory(patch: Patch, home: Path) -> None:
    home.mkdir()
    (home / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 900 kB\n", encoding="ascii")
    patch.setattr(hardware, "_MEMINFO", home / "meminfo")


def wrong_clock(patch: Patch, home: Path) -> None:
    patch.setattr(time, "time", lambda: 0.0)


def file_for_folder(patch: Patch, home: Path) -> None:
    home.write_text("in the way", encoding="utf-8")


def sealed_folder(patch: Patch, home: Path) -> None:
    home.mkdir()
    # A test may run as root, who may write everywhere.
    patch.setattr(os, "access", lambda path, mode: False)


def open_chats(patch: Patch, home: Path) -> None:
    ChatStore().create_chat("demo")
    ChatStore().database.chmod(0o644)


def locked_chats(patch: Patch, home: Path) -> None:
    store = ChatStore()
    store.create_chat("demo")
    store.close()
    other = sqlite3.connect(store.database, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    patch.setattr(schema, "BUSY_S", 0.01)
    patch.setattr(schema, "_held_by_a_test", other, raising=False)  # it lives until the test ends


def damaged_chats(patch: Patch, home: Path) -> None:
    fill(home / "data", {"chats.db": "rubbish" * 100})


def lost_picture(patch: Patch, home: Path) -> None:
    store = ChatStore()
    picture = store.keep_picture(read_picture(png()))
    store.add_turn(store.create_chat("demo").id, None, user("look", picture))
    assert picture.path is not None
    picture.path.unlink()


def package(name: str, found: str | None) -> Provoke:
    def provoke(patch: Patch, home: Path) -> None:
        real = metadata.version

        def version(asked: str) -> str:
            if asked == name and found is None:
                raise metadata.PackageNotFoundError(name)
            return str(found) if asked == name else real(asked)

        patch.setattr(machine, "version", version)

    return provoke


def variable(name: str, value: str) -> Provoke:
    return lambda patch, home: patch.setenv(name, value)


def config_file(name: str, text: str) -> Provoke:
    def provoke(patch: Patch, home: Path) -> None:
        path = home / "config" / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")

    return provoke


def torch_of(cuda: str, driver: str = "") -> Provoke:
    """A torch with this ``cuda`` in its version file, and one GPU where there is a driver."""

    def provoke(patch: Patch, home: Path) -> None:
        metadata_text = "Metadata-Version: 2.1\nName: torch\nVersion: 2.9.0\n"
        fill(home / "lib" / "torch-2.9.0.dist-info", {"METADATA": metadata_text})
        fill(home / "lib" / "torch", {"version.py": f"cuda: Optional[str] = {cuda}\n"})
        patch.syspath_prepend(str(home / "lib"))
        fill(home / "bin", {"nvidia-smi": f"#!/bin/sh\necho 'NVIDIA Toy, 8192 MiB, {driver}'\n"})
        (home / "bin" / "nvidia-smi").chmod(0o755)
        patch.setenv("PATH", str(home / "bin"))

    return provoke


def hidden_gpu(patch: Patch, home: Path) -> None:
    torch_of("'12.8'", "580.1")(patch, home)
    patch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def card_without_driver(patch: Patch, home: Path) -> None:
    fill(home / "pci" / "0000:01:00.0", {"vendor": "0x10de\n", "class": "0x030000\n"})
    patch.setattr(machine, "_PCI", home / "pci")


def other_executable(patch: Patch, home: Path) -> None:
    fill(home / "bin", {"vlmchat": "#!/bin/sh\n", "python": ""})
    fill(home / "venv", {"vlmchat": "#!/bin/sh\n"})
    (home / "bin" / "vlmchat").chmod(0o755)
    patch.setenv("PATH", str(home / "bin"))
    patch.setattr("sys.executable", str(home / "venv" / "python"))


def begun_download(patch: Patch, home: Path) -> None:
    own = Path(os.environ["HF_HOME"]) / "hub" / "models--OpenGVLab--InternVL2-2B" / ".vlmchat"
    fill(own, {"abc.part": "x" * 5000})


def cache_is_a_file(patch: Patch, home: Path) -> None:
    Path(os.environ["HF_HOME"]).write_text("in the way", encoding="utf-8")


def token(text: str, mode: int) -> Provoke:
    def provoke(patch: Patch, home: Path) -> None:
        file = fill(Path(os.environ["HF_HOME"]), {"token": text}) / "token"
        file.chmod(mode)

    return provoke


def dead_proxy(patch: Patch, home: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        patch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}")


def open_mirror(patch: Patch, home: Path) -> None:
    patch.setenv("HF_ENDPOINT", "http://mirror.test")
    patch.setenv("HF_TOKEN", "hf_abc")


FAULTS: dict[str, tuple[Provoke, str, str]] = {
    "disk": (no_disk, "disk", "Only 1.0 MB are free at"),
    "memory": (no_memory, "memory", "demo, the default model, is too large"),
    "clock": (wrong_clock, "clock", "The clock says 1970-01-01"),
    "file": (file_for_folder, "no-folder", "is a file where a folder should be."),
    "sealed": (sealed_folder, "not-writable", "cannot be written. Change its permissions"),
    "privacy": (open_chats, "not-private", "Close it with: chmod go-rwx"),
    "chats-locked": (locked_chats, "chats", "are locked by another program. Wait for it to finish"),
    "chats-damaged": (damaged_chats, "chats", "are damaged"),
    "picture-lost": (lost_picture, "chats", "missing in"),
    "missing": (package("av", None), "package-missing", "av is not installed. Get it with: pip install 'av"),
    "old": (package("transformers", "4.37.0"), "package-version", "transformers 4.37.0 does not fit"),
    "locale": (variable("LC_ALL", "C"), "locale", "The locale C is not UTF-8"),
    "model": (variable("VLMCHAT_MODEL", "internvl2:9b"), "model", "There is no model 'internvl2:9b'."),
    "model-away": (variable("VLMCHAT_MODEL", "internvl2:1b"), "model", "InternVL2-1B is not on this machine."),
    "offline": (variable("HF_HUB_OFFLINE", "1"), "hub-offline", "HF_HUB_OFFLINE is set"),
    "prompt": (config_file("prompts/x.toml", "prompt ="), "kept-prompt", "x.toml cannot be used"),
    "row": (config_file("models/x.toml", "[[model]]\nname = 3"), "catalog-row", "models/x.toml"),
    "theme": (config_file("themes/x.toml", "name = 'x'"), "theme", "x.toml is no theme: dark must be"),
    "theme-unknown": (variable("VLMCHAT_THEME", "mud"), "unknown-theme", "There is no theme 'mud' (VLMCHAT_THEME)"),
    "key": (config_file("config.toml", "[keys]\ncpoy = 'f11'"), "key", "Mend that line; the other keys hold."),
    "setting": (config_file("config.toml", "modle = 'x'"), "settings", "modle is no setting. Did you mean model?"),
    "variable": (variable("VLMCHAT_MODLE", "x"), "unknown-variable", "VLMCHAT_MODLE is set but means nothing."),
    "torch": (torch_of("None", "580.1"), "torch-without-cuda", "Install torch's CUDA build."),
    "driver": (torch_of("'13.0'", "470.57"), "driver", "NVIDIA Toy has driver 470.57, too old for this torch"),
    "gpu-hidden": (hidden_gpu, "gpu-hidden", "which hides every GPU. Unset it."),
    "no-driver": (card_without_driver, "no-driver", "its driver does not answer. Install NVIDIA's driver"),
    "device": (variable("VLMCHAT_DEVICE", "cuda"), "device", "VLMCHAT_DEVICE chooses cuda, and no NVIDIA GPU"),
    "executable": (other_executable, "executable", "bin/vlmchat, not this one."),
    "partial": (begun_download, "partial-download", "Go on with `vlmchat pull internvl2:2b`"),
    "cache": (cache_is_a_file, "hub-cache", "Move it, or set HF_HOME."),
    "token": (variable("HF_TOKEN", "hf_a b"), "token", "HF_TOKEN holds no token of Hugging Face"),
    "token-open": (token("hf_abc\n", 0o644), "token-file", "Close it with: chmod 600"),
    "token-empty": (token("", 0o600), "token-file", "Log in again with: hf auth login"),
    "mirror": (variable("HF_ENDPOINT", "hf-mirror.test"), "mirror", "HF_ENDPOINT holds no address of a hub."),
    "mirror-open": (open_mirror, "mirror", "HF_ENDPOINT is not encrypted, and your token goes there."),
    "proxy": (dead_proxy, "proxy", "does not answer"),
    "certificates": (variable("SSL_CERT_FILE", "/nowhere.pem"), "certificates", "SSL_CERT_FILE names /nowhere.pem"),
}
"""Name -> what brings the fault about, its code, and a part of what is said."""


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_with_its_fix(fault: str, monkeypatch: Patch, home: Path) -> None:
    provoke, code, says = FAULTS[fault]
    provoke(monkeypatch, home)
    problems = call("doctor", "--json").json["problems"]
    told = [f"{problem['message']} {problem['hint']}" for problem in problems if problem["code"] == code]
    assert any(says in text for text in told), problems
    assert all(problem["hint"] for problem in problems), "each has its fix"
    assert "secret" not in str(problems)


def test_a_healthy_machine_has_none_of_them(home: Path) -> None:
    result = call("doctor", "--json")
    assert (result.code, result.json["problems"]) == (0, [])
    assert len(FAULTS) > 20
    assert not home.exists(), "looking leaves nothing behind"


def test_what_a_real_process_says_of_a_real_environment(monkeypatch: Patch, tmp_path: Path) -> None:
    fill(tmp_path / "model", WHOLE)
    monkeypatch.setenv("HF_TOKEN", "a b")
    monkeypatch.setenv("VLMCHAT_MODEL", str(tmp_path / "nothing"))
    result = process(None, "doctor")
    assert result.code == 0
    problems = result.out.split("problems\n")[1]
    assert "HF_TOKEN holds no token" in problems
    assert "The default model: There is no folder" in problems
    assert "a b" not in result.out, "a token is never shown"


@pytest.mark.parametrize(("kind", "says"), [("dumb", "can draw nothing"), ("xterm", "NO_COLOR is set")])
def test_a_terminal_without_colours(monkeypatch: Patch, kind: str, says: str) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    code, seen = on_terminal(None, "doctor", kind=kind)
    assert code == 0
    assert says in seen
