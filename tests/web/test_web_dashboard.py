"""The operator's pages in a real browser, over a real fleet: what they show, do, and to whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleet import REASONS, Fleet
from pages import load
from playwright.sync_api import Page, expect
from sqlalchemy import insert
from test_web_access import AXE, faults

from paramcast.device import CloudClient
from paramcast.protocol import make_key
from paramcast.server import BrowserBundle, create_app
from paramcast.server.db.schema import devices

NewPage = Callable[..., Page]
PAGES = {
    "/#/fleet": "Where the devices are",
    "/#/devices": "Devices",
    "/#/devices/cam-00007": "Packages issued",
    "/#/events": "Events",
    "/#/models": "Compare two",
}


@dataclass
class Service:
    url: str
    fleet: Fleet
    tokens: dict[str, str]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    from backends import serving
    from bundles import make_bundle

    folder = tmp_path_factory.mktemp("fleet")
    key = make_key()
    fleet = Fleet(folder, key, devices=60, rounds=3)
    bundles = [BrowserBundle.open(make_bundle(folder / "bundle", form="codes"))]
    with serving(create_app(fleet.models, key, database=fleet.database, bundles=bundles)) as url:
        yield Service(url, fleet, {role: fleet.grant(role) for role in ("viewer", "operator", "admin")})
    fleet.database.close()


def sign_in(page: Page, service: Service, role: str = "viewer", path: str = "/#/fleet") -> None:
    page.goto(service.url + path)
    page.get_by_label("Operator's token").fill(service.tokens[role])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def go(page: Page, service: Service, path: str) -> None:
    page.goto(service.url + path)
    expect(page.get_by_role("heading", name=PAGES[path], exact=True).first).to_be_visible()
    # All of it is there, not only its headings.
    last = {
        "/#/models": "Two versions",
        "/#/devices": "Devices",
        "/#/events": "Table of events",
    }.get(path)
    if last is not None:
        expect(page.get_by_role("region", name=last, exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]
)
def test_no_page_has_a_fault(new_page: NewPage, service: Service, width: int, scheme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not here: npm --prefix web ci")
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto(f"{service.url}/#/fleet")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert faults(page) == []
    sign_in(page, service, "admin")
    for path in PAGES:
        go(page, service, path)
        if path == "/#/fleet":
            expect(page.get_by_role("img", name=re.compile("^Map of 60 devices"))).to_be_visible()
            page.get_by_text("The numbers").click()
        assert faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.get_by_role("button", name="Roll back version 2").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert faults(page) == []


def test_the_fleet_is_shown_as_it_changes(new_page: NewPage, service: Service) -> None:
    page = new_page()
    sign_in(page, service)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    issued = page.get_by_role("img", name=re.compile("^Packages issued, by time: at most"))
    expect(issued).to_be_visible()
    known = page.locator("dt", has_text="known").locator("+ dd")
    expect(known).to_have_text("60")
    with service.fleet.database.writing() as connection:
        row = {"id": "door-1", "sequence": 0, "first_seen_at": 1, "last_seen_at": 1}
        connection.execute(insert(devices).values(row))
    expect(known).to_have_text("61")
    with service.fleet.database.writing() as connection:
        connection.execute(devices.delete().where(devices.c.id == "door-1"))
    expect(known).to_have_text("60")
    expect(page.get_by_role("row", name=re.compile("|".join(REASONS))).first).to_be_visible()
    page.get_by_role("combobox", name="Time").select_option("Last hour")
    expect(page.get_by_text("active, last hour")).to_be_visible()


def test_devices_are_found_and_shown(new_page: NewPage, service: Service) -> None:
    page = new_page()
    sign_in(page, service, path="/#/devices")
    expect(page.get_by_role("status")).to_have_text("60 devices")
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("status")).to_contain_text("those after cam-00049")
    expect(page.get_by_role("row")).to_have_count(11)
    page.get_by_label("Part of a name").fill("CAM-0004")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("status")).to_have_text("10 devices")
    page.get_by_role("link", name="cam-00042").click()
    expect(page.get_by_role("heading", name="Device cam-00042")).to_be_visible()
    packages = page.get_by_role("region", name="Table of packages").get_by_role("row")
    expect(packages).to_have_count(4)
    expect(packages.nth(1).get_by_role("rowheader")).to_have_text("3")
    expect(
        page.get_by_role("img", name=re.compile("newest context is at .* after 3 packages"))
    ).to_be_visible()
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)  # it has no keys
    page.go_back()
    expect(page.get_by_role("status")).to_have_text("10 devices")
    page.get_by_label("Which").select_option("Revoked")
    expect(page.get_by_role("status")).to_have_text("0 devices")
    page.goto(f"{service.url}/#/devices/nobody")
    expect(page.get_by_role("alert")).to_contain_text("device nobody is unknown")


def test_a_device_is_revoked_by_an_operator(new_page: NewPage, service: Service, tmp_path: Path) -> None:
    import time

    from paramcast.server.db import identities

    with service.fleet.database.writing() as connection:
        token = identities.new_enrolment(connection, "cam-00003", int(1000 * time.time()), 3_600_000)
    with CloudClient(service.url) as client:
        client.enrol(token, tmp_path / "id", "cam-00003")
    page = new_page()
    sign_in(page, service, "viewer", "/#/devices/cam-00003")
    expect(page.get_by_text("enrolled", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, service, "operator", "/#/devices/cam-00003")
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("revoked", exact=True)).to_be_visible()


def test_versions_are_compared_and_rolled_back(new_page: NewPage, service: Service) -> None:
    page = new_page()
    sign_in(page, service, "viewer", "/#/models")
    expect(page.get_by_text("Only admins can roll back.")).to_be_visible()
    expect(page.get_by_text("serves 20 %")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Version 2 gains .* points over version 1"))).to_be_visible()
    page.get_by_label("Beside version").select_option(index=1)
    expect(page.get_by_text(re.compile(r"Version 1 gains .* points over version 1"))).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, service, "admin", "/#/models")
    page.get_by_role("button", name="Roll back version 2").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back version 2").click()
    expect(page.get_by_text("withdrawn")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Roll back"))).to_have_count(0)
    called_back = page.get_by_role("region", name="What is called back").get_by_role("row").nth(1)
    expect(called_back.get_by_role("cell").nth(1)).to_have_text("2")
    page.get_by_role("link", name="Events").click()
    acts = page.get_by_role("region", name="Table of events").get_by_role("row")
    expect(acts.nth(1)).to_contain_text("recalled")
    expect(acts.nth(2)).to_contain_text("Admin")
    expect(acts.nth(2)).to_contain_text("version withdrawn")
    expect(acts.filter(has_text="version published").first).to_contain_text(re.compile(r"published \d+ \w+"))
    expect(acts.filter(has_text="null")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, service, "viewer", "/#/events")
    expect(page.get_by_text("Only operators and admins see the events.")).to_be_visible()


def test_a_token_stays_in_its_tab_and_ends_with_its_right(new_page: NewPage, service: Service) -> None:
    page = new_page()
    page.goto(f"{service.url}/#/devices")
    page.get_by_label("Operator's token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not know this token")
    sign_in(page, service, path="/#/devices")
    page.reload()
    expect(page.get_by_role("status")).to_have_text("60 devices")
    other = page.context.new_page()
    other.goto(f"{service.url}/#/devices")
    expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(f"{service.url}/#/fleet")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    service.tokens["viewer"] = service.fleet.grant("viewer")  # ends the one before
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.evaluate("[...Object.values(sessionStorage), ...Object.values(localStorage)]") == []


def test_the_keyboard_is_enough(new_page: NewPage, service: Service) -> None:
    page = new_page()
    page.goto(f"{service.url}/#/fleet")
    expect(page.get_by_role("heading", name="Sign in")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type(service.tokens["viewer"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Fleet")).to_be_focused()
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    links.first.focus()
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Devices", exact=True)).to_be_focused()
    expect(page).to_have_title("Devices · paramcast")
    page.keyboard.press("Tab")
    page.keyboard.type("00007")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("1 device")
    for _ in range(4):  # which, search, the table, its link
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Device cam-00007")).to_be_focused()


def test_the_device_and_the_fleet_are_pages_of_one(new_page: NewPage, service: Service) -> None:
    page = new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{service.url}/#/fleet")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not [url for url in asked if "worker" in url or "/v1/bundles" in url]  # the model is not loaded
    page.get_by_role("link", name="Try it").click()
    load(page, page.url)
    expect(page).to_have_title("Try it · paramcast")
    page.goto(f"{service.url}/#/nowhere")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
