"""Sequence numbers, expiry and refusals, without HTTP."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from backends import BrokenBackend, TinyBackend
from bundles import FORMS, IMAGE_UP, MODEL, TEXT_UP, parameter_shapes
from sqlalchemy import select

from paramcast.errors import InputError
from paramcast.protocol import (
    AdaptRequest,
    MessageError,
    Package,
    SigningKey,
    make_key,
    open_package,
    public_key_hex,
)
from paramcast.protocol.limits import MAX_JUMP
from paramcast.server import AdaptService, BackendError, Database, Models, StateError, WrongModelError
from paramcast.server.db.ledger import issued_to
from paramcast.server.db.schema import devices
from paramcast.server.trial import trial_requests

KEY = make_key()
NOW = 1_000_000.0


def service(
    models: Models | TinyBackend | None = None,
    lifetime_s: int = 60,
    quantization: str = "int8",
    database: Database | None = None,
) -> AdaptService:
    return AdaptService(
        models or TinyBackend(),
        KEY,
        lifetime_s=lifetime_s,
        quantization=quantization,
        database=database,
        clock=lambda: NOW,
    )


def request(device: str = "cam-1", sequence: int = 0, queries: int = 2) -> AdaptRequest:
    return AdaptRequest(
        device=device,
        model=MODEL,
        sequence=sequence,
        anchors=np.ones((2, IMAGE_UP), "f4"),
        queries=np.ones((queries, TEXT_UP), "f4"),
        clip_of_query=np.zeros(queries, "i8"),
    )


def opened(data: bytes, form: str = "full", device: str = "cam-1") -> Package:
    return open_package(
        data,
        public_key_hex(KEY),
        device=device,
        model=MODEL,
        after=0,
        now=NOW,
        expected=parameter_shapes(form),
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_package_carries_what_the_model_made(form: str) -> None:
    backend = TinyBackend(form)
    package = opened(service(backend, quantization="fp32").adapt(request().encode()), form)
    made = backend.generate([AdaptRequest.decode(request().encode())])[0]
    assert (package.form, package.expires) == (form, int(NOW) + 60)
    for name, values in made.items():
        np.testing.assert_array_equal(package.tensors[name], values)


def test_a_device_without_queries_is_served() -> None:
    assert opened(service().adapt(request(queries=0).encode())).sequence == 1


def test_sequence_numbers_grow_for_each_device() -> None:
    cloud = service()
    assert [opened(cloud.adapt(request().encode())).sequence for _ in range(3)] == [1, 2, 3]
    assert opened(cloud.adapt(request("cam-2").encode()), device="cam-2").sequence == 1
    assert opened(cloud.adapt(request(sequence=10).encode())).sequence == 11
    assert opened(cloud.adapt(request(sequence=2).encode())).sequence == 12


def test_a_cloud_without_its_state_goes_on_after_what_the_device_reports() -> None:
    assert opened(service().adapt(request(sequence=41).encode())).sequence == 42


def test_a_restarted_cloud_goes_on_where_it_was(url: str) -> None:
    for expected in (1, 2, 3):
        database = Database.open(url)
        assert opened(service(database=database).adapt(request().encode())).sequence == expected
        database.close()


def test_what_is_issued_is_on_record(url: str) -> None:
    database = Database.open(url)
    cloud = service(database=database)
    sealed = [cloud.adapt(body) for body in (request().encode(), request().encode())]
    cloud.adapt(request(queries=0).encode())
    cloud.answer(cloud.probes())
    with database.reading() as connection:
        assert [row.id for row in connection.execute(select(devices))] == ["cam-1"]
        kept = issued_to(connection, "cam-1")[::-1]
    assert [row["sequence"] for row in kept] == [1, 2, 3]
    assert [row["bytes"] for row in kept[:2]] == [len(data) for data in sealed]
    assert kept[0]["context"] == kept[1]["context"] != kept[2]["context"]
    assert [(row["clips"], row["queries"]) for row in kept] == [(2, 2), (2, 2), (2, 0)]
    assert kept[0]["issued_at"] == 1000 * NOW
    assert kept[0]["expires_at"] == 1000 * (NOW + 60)
    assert 0 < kept[0]["latency_us"] < 60e6
    database.close()


def test_nothing_leaves_that_the_state_does_not_hold() -> None:
    database = Database.temporary()
    cloud = service(database=database)
    with database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE packages")
    with pytest.raises(StateError):
        cloud.adapt(request().encode())
    with database.reading() as connection:
        assert connection.execute(select(devices)).all() == []


def test_sequence_numbers_are_unique_under_threads() -> None:
    cloud = service()
    numbers: list[int] = []

    def ask() -> None:
        numbers.extend(opened(cloud.adapt(request().encode())).sequence for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 161))


def test_a_reported_number_is_believed_a_bounded_way_above_the_record() -> None:
    """One made-up request does not use up a name's numbers; a device that is further on is reached."""
    cloud, reported = service(), 3 * MAX_JUMP
    assert opened(cloud.adapt(request(sequence=2**53 - 1).encode())).sequence == MAX_JUMP + 1
    numbers = [opened(cloud.adapt(request(sequence=reported).encode())).sequence for _ in range(3)]
    assert numbers == [2 * MAX_JUMP + 2, reported + 1, reported + 2]


def test_another_model_is_refused_with_both_names() -> None:
    other = "c" * 64
    with pytest.raises(WrongModelError, match=f"{other}.*{MODEL}"):
        service().adapt(dataclasses.replace(request(), model=other).encode())


def test_other_dimensions_are_refused() -> None:
    wide = dataclasses.replace(
        request(), anchors=np.ones((1, IMAGE_UP + 1), "f4"), clip_of_query=np.zeros(2, "i8")
    )
    with pytest.raises(MessageError, match="columns"):
        service().adapt(wide.encode())


@pytest.mark.parametrize("fault", ["raises", "nan", "missing", "shape", "dtype", "nothing"])
def test_a_model_that_fails_is_a_backend_error(fault: str) -> None:
    cloud = service(BrokenBackend(fault))
    with pytest.raises(BackendError):
        cloud.adapt(request().encode())
    with pytest.raises(BackendError):
        raise cloud.answer(cloud.probes())[0]  # type: ignore[misc]


def test_parameters_that_do_not_fit_float16_are_a_backend_error() -> None:
    class Large(TinyBackend):
        def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
            return [{n: np.full(s, 1e6, "f4") for n, s in self.parameters.items()} for _ in requests]

    service(Large()).adapt(request().encode())
    with pytest.raises(BackendError, match="cannot be sent"):
        service(Large(), quantization="fp16").adapt(request().encode())


@pytest.mark.parametrize("change", [{"lifetime_s": 0}, {"quantization": "int2"}])
def test_impossible_settings_are_refused(change: dict[str, int | str]) -> None:
    with pytest.raises(InputError):
        service(**change)  # type: ignore[arg-type]


def test_a_tag_tells_nothing_to_who_guesses_the_request() -> None:
    """The same features have the same tag for one device and signing key, over restarts, and no other."""
    keys = [make_key(), make_key()]

    def tag(key: SigningKey, device: str = "cam-1") -> str:
        service = AdaptService(TinyBackend(), key, lifetime_s=3600)
        (request,) = trial_requests(TinyBackend(), 1, device)
        (answer,) = service.answer([service.read(request.encode())])
        return answer.tag.partition("-")[0]

    assert tag(keys[0]) == tag(keys[0]) != tag(keys[1])
    assert tag(keys[0]) != tag(keys[0], "cam-2")
