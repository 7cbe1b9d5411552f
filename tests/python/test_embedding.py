# SPDX-License-Identifier: Apache-2.0
"""What docs/how-to/embedding.md says about processes: fork, spawn, gunicorn and uvicorn.

The services are the page's own, copied from it; servers listen on a free port of 127.0.0.1.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import inventory
from inventory import StoreClosed
from inventory.errors import StoreLocked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "embedding.md"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory with a stocked store and the services of the page."""
    with inventory.open(tmp_path / "shop.inv", segment_bytes=4 << 20) as inv:
        inv.receive("TEE", "LON", 100)
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / name).write_text(code)
    return tmp_path


class Service:
    """A server process: what it says, line by line, and where it listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read its log until a line matches; the end of the log fails the test."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"no {pattern!r} in:\n{self.said}")

    def listening(self) -> str:
        return self.wait_for(r"(http://127\.0\.0\.1:\d+)").group(1)

    def rest(self) -> str:
        assert self.process.stderr is not None
        self.said += self.process.stderr.read()
        return self.said


@contextmanager
def serving(where: Path, module: str, *arguments: str) -> Iterator[Service]:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=where, stderr=subprocess.PIPE, text=True) as process:
        service = Service(process)
        try:
            yield service
        finally:
            process.terminate()
            service.rest()


def reserve(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{url}/TEE") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def held(shop: Path) -> int:
    with inventory.open(shop / "shop.inv") as inv:
        assert inv.recovery.clean_shutdown
        return inv.availability("TEE", "LON").held


GUNICORN = ("gunicorn", "--bind", "127.0.0.1:0", "shop_wsgi:create_app()")


def test_gunicorn_with_one_worker_and_threads(shop: Path) -> None:
    with serving(shop, *GUNICORN, "--workers", "1", "--threads", "16") as service:
        url = service.listening()
        assert [reserve(url)[0] for _ in range(3)] == [201, 201, 201]
    assert held(shop) == 3


def test_gunicorn_with_two_workers_says_who_has_the_store(shop: Path) -> None:
    with serving(shop, *GUNICORN, "--workers", "2") as service:
        said = service.rest()  # it gives up by itself
        workers = re.findall(r"Booting worker with pid: (\d+)", said)
        assert len(workers) == 2
        holder = re.search(r"StoreLocked: .* in use by process (\d+)", said)
        assert holder is not None, said
        assert holder.group(1) in workers
        assert service.process.wait() != 0


def test_gunicorn_with_preload_gives_workers_a_closed_store(shop: Path) -> None:
    with serving(shop, *GUNICORN, "--preload") as service:
        status, text = reserve(service.listening())
        assert status == 503
        assert "closed" in text
    assert held(shop) == 0


UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "0", "--lifespan", "on", "shop_asgi:app")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_with_one_worker(shop: Path, loop: str) -> None:
    if importlib.util.find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed")
    with serving(shop, *UVICORN, "--loop", loop) as service:
        url = service.listening()
        assert [reserve(url)[0] for _ in range(3)] == [201, 201, 201]
    assert held(shop) == 3


def test_uvicorn_with_two_workers_says_who_has_the_store(shop: Path) -> None:
    with serving(shop, *UVICORN, "--workers", "2") as service:
        holder = service.wait_for(r"StoreLocked: .* in use by process (\d+)").group(1)
        service.wait_for(r"Application startup failed|Child process .* died")
    assert re.search(rf"Started server process \[{holder}\]", service.said), service.said


def open_elsewhere(path: Path, found: multiprocessing.Queue[str]) -> None:
    try:
        inventory.open(path).close()
        found.put("opened")
    except StoreLocked as error:
        found.put(str(error))


def test_a_spawned_process_is_told_who_has_the_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with inventory.open(tmp_path / "shop", segment_bytes=4 << 20):
        with pytest.raises(StoreLocked, match=f"in use by process {os.getpid()}, this one"):
            inventory.open(tmp_path / "shop")
        found: multiprocessing.Queue[str] = context.Queue()
        child = context.Process(target=open_elsewhere, args=(tmp_path / "shop", found))
        child.start()
        assert f"in use by process {os.getpid()}" in found.get()
        child.join()
        found.close()
        found.join_thread()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_store_locked(tmp_path: Path) -> None:
    """The parent closes while a child still has copies of its descriptors: others may open."""
    inv = inventory.open(tmp_path / "shop", segment_bytes=4 << 20)
    inv.receive("TEE", "LON", 1)
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: what we test
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(write_end)
            with pytest.raises(StoreClosed):
                inv.reserve("TEE", 1)
            os.read(read_end, 1)  # until the parent has closed and opened again
            status = 0
        finally:
            os._exit(status)
    os.close(read_end)
    inv.close()
    with inventory.open(tmp_path / "shop") as again:
        assert again.availability("TEE", "LON").on_hand == 1
    os.close(write_end)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
