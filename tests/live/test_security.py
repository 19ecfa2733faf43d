"""Who may use the live page: origins, hosts and tokens, and what its answers forbid."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from starlette.testclient import TestClient, WebSocketDenialResponse

from fastloc.cli.live import url
from fastloc.live.security import Rules, rules
from live_client import HOST, ORIGIN, Bright, live_of
from live_fixtures import bright_fixture  # noqa: F401


@pytest.fixture
def guarded(bright: Bright) -> Iterator[tuple[TestClient, Rules]]:
    rule = rules("127.0.0.1", 8010, "correct horse battery")
    with TestClient(live_of(bright, rule=rule).app, base_url=f"http://{HOST}", follow_redirects=False) as browser:
        yield browser, rule


def denied(browser: TestClient, headers: dict[str, str]) -> int:
    """The status that a WebSocket is refused with, 0 if it is not."""
    try:
        with browser.websocket_connect(f"ws://{headers.get('host', HOST)}/ws", headers=headers) as socket:
            socket.receive()
    except WebSocketDenialResponse as refusal:
        return int(refusal.status_code)
    return 0


ORIGINS = {
    "none": {}, "null": {"origin": "null"}, "another site": {"origin": "http://example.com"}, "another port": {"origin": "http://127.0.0.1:8011"},
    "https": {"origin": f"https://{HOST}"}, "another name of ours": {"origin": "http://localhost:8010"}, "a prefix": {"origin": f"http://{HOST}.example.com"},
}  # fmt: skip


@pytest.mark.parametrize("headers", ORIGINS.values(), ids=ORIGINS.keys())
def test_only_pages_of_this_server_may_connect(bright: Bright, headers: dict[str, str]) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        assert denied(browser, headers) == 403
        assert denied(browser, ORIGIN) == 0


STRANGERS = ["example.com", "example.com:8010", "127.0.0.1.example.com", "192.168.0.7:8010", "0x7f000001", "", "[::2]:8010"]


@pytest.mark.parametrize("host", STRANGERS)
def test_other_hosts_are_refused(bright: Bright, host: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        answer = browser.get("/", headers={"host": host})
        assert answer.status_code == 403 and "use the address that was printed" in answer.text
        assert browser.get("/state", headers={"host": host}).status_code == 403
        assert denied(browser, {"host": host or "x", "origin": f"http://{host or 'x'}"}) == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8010", "localhost:8010", "LOCALHOST", "[::1]:8010"])
def test_own_names_are_served(bright: Bright, host: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        assert browser.get("/", headers={"host": host}).status_code == 200


def test_elsewhere_addresses_and_given_names_are_served_and_other_names_are_not() -> None:
    rule = rules("0.0.0.0", 8010, names=["cam.example.com"])
    assert rule.numbers
    for host in ("192.168.0.7:8010", "cam.example.com", "[fe80::1]:8010"):
        assert rule.served(host) == host
    assert rule.served("evil.example.com:8010") is None


def test_any_host_but_loopback_has_a_token() -> None:
    assert rules("127.0.0.1", 1).token == rules("localhost", 1).token == rules("::1", 1).token == rules("127.0.0.9", 1).token == ""
    made = {rules(host, 1).token for host in ("0.0.0.0", "::", "192.168.0.7", "machine")}
    assert len(made) == 4 and all(len(token) >= 32 for token in made)
    assert rules("0.0.0.0", 1, "correct horse battery").token == "correct horse battery"
    with pytest.raises(ValueError, match="--token has 5 letters; 12 at least"):
        rules("127.0.0.1", 1, "short")
    assert "correct" not in repr(rules("0.0.0.0", 1, "correct horse battery"))


def test_the_printed_address_has_the_token() -> None:
    assert url("127.0.0.1", 8010, rules("127.0.0.1", 8010)) == "http://127.0.0.1:8010/"
    assert url("::1", 8010, rules("::1", 8010)) == "http://[::1]:8010/"
    guard = rules("192.168.0.7", 8010, "correct-horse-battery", secure=True)
    assert url("192.168.0.7", 8010, guard) == "https://192.168.0.7:8010/?token=correct-horse-battery"
    assert "0.0.0.0" not in url("0.0.0.0", 8010, rules("0.0.0.0", 8010))


@pytest.mark.parametrize("path", ["/", "/app.js", "/state", "/nothing", "/index.html"])
def test_without_the_token_nothing_is_served(guarded: Any, path: str) -> None:
    answer = guarded[0].get(path)
    assert answer.status_code == 401 and "token" in answer.text
    assert guarded[0].get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert guarded[0].get(path, headers={"cookie": f"{guarded[1].cookie}=wrong"}).status_code == 401
    assert denied(guarded[0], ORIGIN) == 401


@pytest.mark.parametrize("token", ["", "wrong", "correct horse battery ", "ä"])
def test_a_wrong_token_is_refused(guarded: Any, token: str) -> None:
    answer = guarded[0].get("/", params={"token": token})
    assert answer.status_code == 401 and "not right" in answer.text and "set-cookie" not in answer.headers


def test_the_token_is_exchanged_for_a_cookie(guarded: Any) -> None:
    browser, rule = guarded
    answer = browser.get("/", params={"token": rule.token})
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 200 and 'content="0; url=/"' in answer.text
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and rule.token not in cookie and "8010" in cookie
    # the client keeps it
    assert browser.get("/").status_code == 200 and browser.get("/state").json()["clients"] == []
    assert denied(browser, ORIGIN) == 0
    assert denied(browser, {"origin": "http://example.com"}) == 403


def test_programs_may_bear_the_token(guarded: Any) -> None:
    browser, rule = guarded
    bearer = {"authorization": f"Bearer {rule.token}"}
    assert browser.get("/state", headers=bearer).status_code == 200 and denied(browser, {**ORIGIN, **bearer}) == 0


def test_secure_cookies_over_https(bright: Bright) -> None:
    rule = rules("127.0.0.1", 8010, "correct horse battery", secure=True)
    with TestClient(live_of(bright, rule=rule).app, base_url=f"https://{HOST}") as browser:
        assert "Secure" in browser.get("/", params={"token": rule.token}).headers["set-cookie"]
        bearer = {"authorization": f"Bearer {rule.token}"}
        assert denied(browser, {**ORIGIN, **bearer}) == 403 and denied(browser, {"origin": f"https://{HOST}", **bearer}) == 0


@pytest.mark.parametrize("path", ["/", "/app.js", "/style.css", "/state", "/nothing"])
def test_every_answer_is_closed_to_others(bright: Bright, path: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
    assert "camera=(self)" in headers["permissions-policy"] and "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/../app.py", "/..%2fapp.py", "/page/app.js", "/app.py", "//etc/passwd", "/%2e%2e/limits.py"])
def test_only_the_page_s_files_are_served(bright: Bright, path: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        assert browser.get(path).status_code == 404


def test_the_page_loads_nothing_from_elsewhere() -> None:
    folder = Path(sys.modules["fastloc.live"].__file__ or "").parent / "page"
    for path in folder.iterdir():
        content = path.read_text(encoding="utf-8")
        found = [link for link in re.findall(r"(?:https?:)?//[\w.-]+\.\w+", content) if "www.w3.org" not in link]
        assert not found, f"{path.name} names {found}"
        assert " style=" not in content and "onclick" not in content and "innerHTML" not in content
