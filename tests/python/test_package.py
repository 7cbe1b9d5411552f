# SPDX-License-Identifier: Apache-2.0
"""The package's face: names, stubs and types say the same as the compiled module."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

import inventory
import inventory.testing
from inventory import aio, errors, events, export, log, models, store

_core = sys.modules["inventory._core"]  # the compiled module, as the package loaded it

MODULES = [inventory, aio, errors, events, export, log, models, store, inventory.testing]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_all_is_sorted_and_true(module: ModuleType) -> None:
    names = module.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    for name in names:
        assert getattr(module, name) is not None


def test_every_public_name_of_the_models_and_errors_is_exported() -> None:
    for module in (errors, models):
        here = {
            name
            for name, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
        }
        assert here <= set(module.__all__)


def test_every_public_operation_is_documented() -> None:
    for name, value in inspect.getmembers(inventory.Inventory):
        if not name.startswith("_"):
            doc = inspect.getdoc(value) or ""
            assert ">>>" in doc or name in ("closed",), name
            if not isinstance(value, property) and name not in ("close", "metrics"):
                assert "Raises:" in doc, name


def stub_signatures() -> dict[str, list[tuple[str, str, str | None]]]:
    """Name of each method of the stub: its parameters as (name, kind, default)."""
    found = {}
    for node in ast.parse(Path(_core.__file__).with_name("_core.pyi").read_text()).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for method in node.body:
            if not isinstance(method, ast.FunctionDef) or method.name.startswith("__"):
                continue
            if any(
                getattr(deco, "id", "") in ("overload", "property")
                for deco in method.decorator_list
            ):
                continue
            positional = [a.arg for a in method.args.args]
            defaults: list[ast.expr | None] = [None] * (len(positional) - len(method.args.defaults))
            defaults += method.args.defaults
            parameters = [
                (name, "positional", ast.unparse(value) if value else None)
                for name, value in zip(positional, defaults, strict=True)
            ]
            parameters += [
                (a.arg, "keyword", ast.unparse(value) if value else None)
                for a, value in zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True)
            ]
            found[f"{node.name}.{method.name}"] = parameters
    return found


STUBS = stub_signatures()


@pytest.mark.parametrize("name", STUBS)
def test_stub_and_compiled_method_agree(name: str) -> None:
    owner, method = name.split(".")
    signature = inspect.signature(getattr(getattr(_core, owner), method))
    compiled = [
        (
            parameter.name,
            "keyword" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else "positional",
            None if parameter.default is inspect.Parameter.empty else repr(parameter.default),
        )
        for parameter in signature.parameters.values()
    ]
    assert compiled == STUBS[name]


def test_stub_names_every_compiled_method() -> None:
    for owner in ("Handle", "Store"):
        compiled = {
            name
            for name, value in vars(getattr(_core, owner)).items()
            if not name.startswith("__") and callable(value)
        }
        in_stub = {name.split(".")[1] for name in STUBS if name.startswith(f"{owner}.")}
        assert compiled - in_stub <= {"availability"}  # overloaded there


def test_models_are_frozen_structs_without_gc() -> None:
    for name in models.__all__:
        kind = getattr(models, name)
        if issubclass(kind, msgspec.Struct):
            assert kind.__struct_config__.frozen
            assert not kind.__struct_config__.gc


def test_importing_starts_no_thread_and_opens_no_file() -> None:
    code = (
        "import os, threading, sys\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "import inventory, inventory.testing\n"
        "assert threading.active_count() == 1\n"
        "assert len(os.listdir('/proc/self/fd')) == before\n"
        "assert not {'asyncio', 'hypothesis', 'numpy'} & set(sys.modules)\n"
        "assert inventory.aio.open and not hasattr(inventory, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


TYPED = """
import inventory
from inventory.testing import ManualClock

with inventory.open("x", durability="interval", clock=ManualClock()) as inv:
    reveal_type(inv)
    reveal_type(inv.availability("TEE", "LON"))
    reveal_type(inv.availability("TEE"))
    reveal_type(inv.reserve("TEE", 1))
    reveal_type(inv.reserve("TEE", 1).lines[0].location)
    reveal_type(inv.reserve_lines([("TEE", None, 1), inventory.Line("MUG", 2)]).state)
    reveal_type(inv.receive("TEE", "LON", 1).level.on_hand)
    reveal_type(inv.verify().problems)
    try:
        inv.commit("x", if_expired="rehold")
    except inventory.InsufficientStock as refusal:
        reveal_type(refusal.short)
        reveal_type(refusal.retry_after_ms)

async def main() -> None:
    async with inventory.aio.open("x", durability="interval") as inv:
        reveal_type(inv)
        reveal_type(await inv.availability("TEE", "LON"))
        reveal_type(await inv.availability("TEE"))
        reveal_type(await inv.reserve("TEE", 1))
    reveal_type(await inventory.aio.open())
"""
REVEALED = [
    "inventory.store.Inventory",
    "inventory.models.StockLevel",
    "inventory.models.SkuAvailability",
    "inventory.models.Reservation",
    "str | None",
    "inventory.models.State",
    "int",
    "tuple[str, ...]",
    "tuple[inventory.models.ShortLine, ...]",
    "int | None",
    "inventory.aio.Inventory",
    "inventory.models.StockLevel",
    "inventory.models.SkuAvailability",
    "inventory.models.Reservation",
    "inventory.aio.Inventory",
]


def test_types_as_a_user_sees_them(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    (tmp_path / "typed.py").write_text(TYPED)
    said, _, status = api.run(
        ["--strict", "--cache-dir", str(tmp_path), str(tmp_path / "typed.py")]
    )
    assert status == 0, said
    revealed = [
        line.split('"')[1].replace("builtins.", "")
        for line in said.splitlines()
        if "Revealed type" in line
    ]
    assert revealed == REVEALED
