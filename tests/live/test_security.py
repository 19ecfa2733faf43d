"""Access to the live page: origins, hosts and tokens, and the restrictions in its answers' headers."""

import asyncio
import hmac
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
from fastloc.live import guard_pages
from fastloc.web_server.attempts import Attempts
from fastloc.web_server.security import Guard, Rules, rules
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


# names and addresses of ours, and then something
BAD_HOSTS = [
    "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:99999999999999", "127.0.0.1:", "127.0.0.1:80a", "127.0.0.1:-1", "127.0.0.1:٨٠",
    "127.0.0.1:8010;script-src *", "127.0.0.1:8010 https://example.com", "localhost:8010'", "localhost,example.com", "user@localhost",
    "localhost/..", "localhost#", "localhost\t", "lôcalhost", "[::1", "::1", "[::1]x", "[::1]:8010;", "[127.0.0.1]:8010",
    "[fe80::1%25;script-src *]:8010", "[fe80::1%eth0]",
]  # fmt: skip


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_hosts_that_are_none_are_refused_and_copied_nowhere(bright: Bright, host: str) -> None:
    anywhere = rules("0.0.0.0", 8010, "correct horse battery")
    assert anywhere.served(host) is None
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        answer = browser.get("/", headers={"host": host.encode()})
    assert answer.status_code == 403
    assert "connect-src 'self';" in answer.headers["content-security-policy"] and "*" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "served"),
    [("127.0.0.1:8010", "127.0.0.1:8010"), ("LOCALHOST:08010", "localhost:8010"), ("[::1]:9000", "[::1]:9000"), ("localhost", "localhost")],
)
def test_the_policy_names_the_address_that_the_page_was_fetched_from(bright: Bright, host: str, served: str) -> None:
    with TestClient(live_of(bright).app, base_url=f"http://{HOST}") as browser:
        policy = browser.get("/", headers={"host": host}).headers["content-security-policy"]
    assert f"connect-src 'self' ws://{served} wss://{served};" in policy


@pytest.mark.parametrize("name", ["", "a b", "cam:8010", "http://cam", "cam;", "[::1]", "*", "cam/"])
def test_names_that_are_none_are_not_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="--allow-host must be a host's name or address"):
        rules("127.0.0.1", 8010, names=[name])


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
    with pytest.raises(ValueError, match="--token must have 12 letters or more, got 5"):
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


def test_tokens_are_guessed_ten_times_and_not_oftener(guarded: Any) -> None:
    browser, rule = guarded
    bearer = {"authorization": f"Bearer {rule.token}"}
    assert [browser.get("/", params={"token": f"guess {i}"}).status_code for i in range(10)] == [401] * 10
    refused = browser.get("/", params={"token": "guess 11"})
    assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 6 and "Too many wrong tokens" in refused.text
    # the right one is not looked at either, by whatever way it comes
    assert browser.get("/", params={"token": rule.token}).status_code == 429
    assert browser.get("/state", headers=bearer).status_code == denied(browser, {**ORIGIN, **bearer}) == 429
    # a client that has signed in, or sends no token, is not affected
    signed_in = {"cookie": f"{rule.cookie}={rule.ticket}"}
    assert browser.get("/state", headers=signed_in).status_code == 200 and denied(browser, {**ORIGIN, **signed_in}) == 0
    assert browser.get("/state").status_code == 401


def test_programs_guess_no_oftener_than_people(guarded: Any) -> None:
    browser, rule = guarded
    wrong = {"authorization": "Bearer wrong"}
    got = [browser.get("/state", headers=wrong).status_code if i % 2 else denied(browser, {**ORIGIN, **wrong}) for i in range(12)]
    assert got == [401] * 10 + [429] * 2
    # cookies are no way to guess: what they hold is not made of the token
    assert [browser.get("/state", headers={"cookie": f"{rule.cookie}={i}"}).status_code for i in range(30)] == [401] * 30


def test_right_tokens_are_not_counted(guarded: Any) -> None:
    browser, rule = guarded
    assert {browser.get("/state", headers={"authorization": f"Bearer {rule.token}"}).status_code for _ in range(30)} == {200}


def test_wrong_tokens_are_counted_by_network_and_of_everybody() -> None:
    now = [0.0]
    attempts = Attempts(clock=lambda: now[0])
    for i in range(10):
        assert attempts.wait("192.0.2.1") == 0
        attempts.failed(f"2001:db8::{i}")
        attempts.failed("192.0.2.1" if i % 2 else "::ffff:192.0.2.1")
    assert attempts.wait("192.0.2.1") == attempts.wait("::ffff:192.0.2.1") == attempts.wait("2001:db8::77") == 6
    assert attempts.wait("192.0.2.2") == attempts.wait("2001:db8:0:1::") == 0
    now[0] = 6.1
    assert attempts.wait("192.0.2.1") == 0
    # whoever it is
    for i in range(100):
        attempts.failed(f"198.51.100.{i}")
    assert attempts.wait("203.0.113.1") == 1 and len(attempts._each) <= 102
    # what is long ago is forgotten
    now[0] = 1000
    attempts.failed("203.0.113.1")
    assert list(attempts._each) == ["203.0.113.1"] and attempts.wait("203.0.113.1") == 0


def test_secrets_are_compared_in_constant_time_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = rules("127.0.0.1", 8010, "correct horse battery")
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((one, other)) or real(one, other))
    assert rule.known(rule.token) and not rule.known("") and not rule.known("\ud800") and not rule.known("correct horse battery\0")
    # of one length, however long the guess is
    assert len(compared) == 4 and {len(each) for pair in compared for each in pair} == {32}
    assert rule.token not in repr(rule) and rule.ticket not in repr(rule) and rules("127.0.0.1", 8010, rule.token).ticket != rule.ticket


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


@pytest.mark.parametrize(("path", "query", "token", "status"), [("/state", b"\x80", "", 200), ("/", b"token=\xff", "abcdefghijkl", 401)])
def test_a_query_that_is_not_utf_8_is_answered(path: str, query: bytes, token: str, status: int) -> None:
    """Its bytes as they come in; a test client would escape them."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": query, "headers": [(b"host", b"localhost")], "scheme": "http",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    guard: Any = Guard(app, Rules(("localhost",), False, token), guard_pages)  # type: ignore[arg-type]
    asyncio.run(guard(scope, receive, send))
    assert sent[0]["status"] == status
