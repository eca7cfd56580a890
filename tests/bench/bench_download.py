"""Downloading beside curl and both official clients, from one loopback hub, in one run.

``python -m tests.bench.bench_download [--size 1024] [--repeats 3] [--rate 0] [--streams 8]`` prints a table: medians of
alternating runs and the ratio to curl. The hub is a process of its own that sends with ``sendfile``. Each client is a
process too: its seconds are those of the download call alone, without interpreter start and imports, and its memory is
the peak of the process. curl checks no hash; it fetches the same ranges that vlmchat cuts, as many at once. ``--rate``
(MB/s over all streams) makes the line the limit, as it is for people; without it the processors are.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from tests.hub.loopback import MIB, HubFile, Hubs, hub_file
from vlmchat.hub.download import Limits

REPOSITORY = "Own/Bench-1B"
SHARDS = 4
CLIENTS = ("vlmchat", "curl", "huggingface_hub", "modelscope-hub")
MEMORY_MB = 100


def serve(pipe: Connection, folder: Path, size: int, rate: int) -> None:
    """Be the hubs until the pipe says otherwise; answer "bytes" with what was sent."""
    with Hubs(folder) as hubs:
        files = {file.path: file for file in _files(folder, size)}
        for hub in hubs.both:
            hub.send_buffer = 4 * MIB
            hub.rate = rate
            hub.publish(REPOSITORY, files)
        links = [hubs.huggingface.link(files[name]) for name in files if name.endswith(".safetensors")]
        pipe.send((hubs.environment, links))
        while pipe.recv() == "bytes":
            pipe.send(hubs.bytes)


def _files(folder: Path, size: int) -> list[HubFile]:
    block = os.urandom(MIB)
    names = [f"model-{n:05}-of-{SHARDS:05}.safetensors" for n in range(1, SHARDS + 1)]
    for number, name in enumerate(names):
        with (folder / name).open("wb") as file:
            for _ in range(size // SHARDS // MIB):
                file.write(block)
            file.write(b"%d" % number)
    index = json.dumps({"weight_map": {str(number): name for number, name in enumerate(names)}})
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}" if name != "config.json" else '{"architectures": []}', encoding="utf-8")
    return [hub_file(path.name, path) for path in sorted(folder.iterdir())]


def measured(client: str, streams: int) -> None:
    """Download in this process and print the seconds of that and the peak of the memory in MB."""
    call = {"vlmchat": _ours, "huggingface_hub": _huggingface, "modelscope-hub": _modelscope}[client]
    seconds = call(streams)
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def _ours(streams: int) -> float:
    from vlmchat.hub.download import download, make_plan
    from vlmchat.hub.plan import Wanted

    limits = replace(Limits(), streams=streams)
    plan = make_plan(Wanted(REPOSITORY, REPOSITORY, REPOSITORY), "huggingface", limits=limits)
    start = time.perf_counter()
    for _ in download(plan, limits=limits):
        pass
    return time.perf_counter() - start


def _huggingface(_: int) -> float:
    from huggingface_hub import snapshot_download

    start = time.perf_counter()
    snapshot_download(REPOSITORY)
    return time.perf_counter() - start


def _modelscope(_: int) -> float:
    from modelscope_hub import HubApi

    api = HubApi()
    start = time.perf_counter()
    api.download_repo(REPOSITORY, "model")
    return time.perf_counter() - start


def by_curl(links: list[str], size: int, streams: int, folder: Path) -> tuple[float, float]:
    """Fetch the same ranges with curl; seconds and MB."""
    piece = Limits().piece_bytes
    lines = []
    for number, link in enumerate(links):
        for start in range(0, size // SHARDS + 1, piece):
            lines += [f'url = "{link}"', f"range = {start}-{min(start + piece - 1, size // SHARDS)}"]
            lines += [f'output = "{folder / f"{number}-{start}"}"', "next"]
    config = folder / "curl.config"
    config.write_text("\n".join(lines[:-1]), encoding="utf-8")
    start_s = time.perf_counter()
    at_once = ["-Z", "--parallel-immediate", "--parallel-max", str(streams)]
    done = subprocess.Popen(["curl", "--no-progress-meter", *at_once, "-K", str(config)])
    _, status, usage = os.wait4(done.pid, 0)
    seconds = time.perf_counter() - start_s
    done.returncode = os.waitstatus_to_exitcode(status)
    fetched = sum(path.stat().st_size for path in folder.iterdir() if path != config)
    assert (done.returncode, fetched) == (0, len(links) * (size // SHARDS + 1)), "curl did not fetch everything"
    return seconds, usage.ru_maxrss / 1024


def one_run(client: str, environment: dict[str, str], links: list[str], size: int, streams: int) -> tuple[float, float]:
    """Run one client over empty caches; seconds and MB."""
    with tempfile.TemporaryDirectory() as folder:
        if client == "curl":
            return by_curl(links, size, streams, Path(folder))
        quiet = {"TQDM_DISABLE": "1", "MODELSCOPE_LOG_LEVEL": "ERROR", "HF_HUB_DISABLE_XET": "1"}
        places = {
            name: f"{folder}/{name}" for name in ("HF_HOME", "MODELSCOPE_CACHE", "MODELSCOPE_HOME", "VLMCHAT_HOME")
        }
        finished = subprocess.run(
            [sys.executable, "-m", "tests.bench.bench_download", "--client", client, "--streams", str(streams)],
            env={**os.environ, **environment, **quiet, **places, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
        seconds, memory = json.loads(finished.stdout)
        return seconds, memory


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=1024, help="MiB of all shards")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0, help="MB/s over all streams; 0: no limit")
    parser.add_argument("--streams", type=int, default=Limits().streams)
    arguments = parser.parse_args()
    if arguments.client:
        measured(arguments.client, arguments.streams)
        return
    size = arguments.size * MIB
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with tempfile.TemporaryDirectory() as folder:
        rate = round(arguments.rate * 1e6 / arguments.streams)
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, Path(folder), size, rate), daemon=True
        )
        process.start()
        environment, links = ours.recv()
        runs: dict[str, list[tuple[float, float]]] = {
            client: [] for client in CLIENTS if client != "curl" or shutil.which("curl")
        }
        for _ in range(arguments.repeats):
            for client, measurements in runs.items():
                measurements.append(one_run(client, environment, links, size, arguments.streams))
        ours.send("end")
        process.join()
    _print(runs, size, arguments.streams)


def _print(runs: dict[str, list[tuple[float, float]]], size: int, streams: int) -> None:
    medians = {client: statistics.median(seconds for seconds, _ in of) for client, of in runs.items()}
    peer = medians.get("curl", medians["vlmchat"])
    machine = f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{size / 1e6:,.0f} MB in {SHARDS} files, {streams} streams, {machine}")
    print("\n| | s | MB/s | beside curl | peak MB |\n| --- | ---: | ---: | ---: | ---: |")
    for client, of in runs.items():
        memory = max(peak for _, peak in of)
        speed = size / 1e6 / medians[client]
        print(f"| {client} | {medians[client]:.2f} | {speed:,.0f} | {peer / medians[client]:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
