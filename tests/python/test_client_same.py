# SPDX-License-Identifier: Apache-2.0
"""The same request gives the same answer: the library's own tests, asked through a client.

Tests of test_api, test_bad_input and test_batch that know nothing but a store run here a second
time, over ZeroMQ, and so does the model. Their store is a client; what is not remote (verify,
metrics) asks the store behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import test_api
import test_bad_input
import test_batch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from remote import KINDS, Remote
from scale import scaled
from test_model import StoreAgainstModel

import inventory
from inventory.testing import ManualClock

# Not of a client: what a store is opened with, its files, its clock, its threads, its closing.
NOT_REMOTE = {
    test_api: {
        "test_a_stale_uuid7_is_refused_never_repeated",  # ids are made by the client's clock
        "test_without_an_id_a_uuid7_is_made",
        "test_close_twice_and_context_manager",
    },
    test_bad_input: {
        "test_a_closed_store_refuses_everything",
        "test_a_forked_child_sees_the_store_as_closed",
        "test_a_forked_child_makes_ids_of_its_own",
        "test_a_second_opener_of_a_disk_in_memory",
        "test_a_full_disk_refuses_changes_and_answers_reads",
    },
    test_batch: {
        "test_columns_changed_during_a_call_hurt_no_row",
        "test_threads_whose_first_call_is_a_batch",
    },
}


def shared_tests(module: Any) -> Iterator[tuple[str, Callable[..., None]]]:
    for name, test in vars(module).items():
        if name.startswith("test_") and name not in NOT_REMOTE[module]:
            parameters = test.__code__.co_varnames[: test.__code__.co_argcount]
            if {"inv", "kept"} & set(parameters):
                yield f"{name}_{module.__name__.removeprefix('test_')}", test


for _module in NOT_REMOTE:
    globals().update(shared_tests(_module))


@pytest.fixture(params=KINDS)
def inv(
    request: pytest.FixtureRequest,
    open_store: Callable[..., inventory.Inventory],
    clock: ManualClock,
) -> Iterator[Remote]:
    """As conftest's: a durable store with 10 TEE and 5 MUG in LON, 4 TEE in PAR."""
    with Remote(request.param, open_store(segment_bytes=4 << 20), clock) as remote:
        remote.receive("TEE", "LON", 10)
        remote.receive("MUG", "LON", 5)
        remote.receive("TEE", "PAR", 4)
        yield remote


@pytest.fixture
def kept(inv: Remote) -> Remote:
    inv.reserve("TEE", 3, location="LON", reservation_id="kept")
    return inv


def test_most_of_them_are_here() -> None:
    assert sum(name.startswith("test_") for name in globals()) > 80


class ClientAgainstModel(StoreAgainstModel):
    """The model of the library, asked through a client."""

    kind = "reference"
    remote: Remote | None = None

    def open(self) -> Any:
        self.remote = Remote(self.kind, super().open(), self.clock)
        return self.remote

    def stop_serving(self) -> None:
        assert self.remote is not None
        moved_ms = self.remote.stop_serving()
        self.model.advance_to(self.model.now_ms + moved_ms)

    @rule()
    def reopen(self) -> None:
        self.stop_serving()
        super().reopen()

    @rule(seed=st.integers(0, 2**32))
    def power_cut(self, seed: int) -> None:
        self.stop_serving()
        self.storage.power_cut(seed)
        self.inv = self.open()
        self.after_opening()

    def teardown(self) -> None:
        if self.remote is not None:
            self.remote.close()


class NativeAgainstModel(ClientAgainstModel):
    """The same over the native server."""

    kind = "native"


_SETTINGS = settings(
    max_examples=scaled(15),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ClientAgainstModel.TestCase.settings = NativeAgainstModel.TestCase.settings = _SETTINGS
TestClientAgainstModel = ClientAgainstModel.TestCase
TestNativeAgainstModel = NativeAgainstModel.TestCase
del StoreAgainstModel
