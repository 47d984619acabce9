"""Who may ask the server: names, other sites' pages, tokens."""

from __future__ import annotations

import pytest

TOKEN = "a-token_that.nobody~guesses"


@pytest.fixture(scope="module")
def secret(workbench, serving):
    """A server with a token."""
    return serving(workbench, token=TOKEN)


def cookie(site) -> str:
    status, _, headers = site.ask("GET", f"/?token={TOKEN}")
    assert status == 303 and headers["location"] == "/" and TOKEN not in headers["location"]
    name, _, rest = headers["set-cookie"].partition("=")
    assert name == f"nmt-token-{site.listener.port}" and "httponly" in rest.lower() and "samesite=lax" in rest.lower()
    return headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "10.0.0.7:{port}", "127.0.0.1.evil.example", "[", ""]
)
def test_a_request_for_another_name_is_refused(site, host):
    status, answer, _ = site.ask("GET", "/", Host=host.format(port=site.listener.port))
    assert (status, list(answer)) == (421, ["error"])


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}", "localhost:9999"]
)
def test_the_machines_own_names_are_answered_at_any_forwarded_port(site, host):
    assert site.ask("GET", "/", Host=host.format(port=site.listener.port))[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1.evil.example"}, 403),
        ({"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content_Type": ""}, 415),
    ],
    ids=str,
)
def test_what_another_sites_page_can_send_is_refused(site, headers, status):
    assert site.error("/api/keypoints", b"a,1,2\nb,3,4\n", status, **headers)
    assert site.error("/api/pictures", bytes(4 << 20), status, **headers)  # answered though it still sends


def test_a_program_that_is_no_browser_may_ask(site):
    assert site.ask("POST", "/api/keypoints", b"a,1,2\nb,3,4\n", Content_Type="text/csv")[0] == 200


def test_without_the_token_nothing_is_there(secret):
    for path in ("/", "/page.js", "/api/info", "/api/absent", "/?token=", "/?token=wrong", f"/page.js?token={TOKEN}"):
        status, answer, _ = secret.ask("GET", path)
        assert (status, answer) == (401, {"error": "this page needs its token: open it once as /?token=TOKEN"}), path
    assert secret.post("/api/keypoints", b"a,1,2\n")[0] == 401
    for given in (
        "Bearer",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xff",
    ):
        assert secret.ask("GET", "/", Authorization=given)[0] == 401
    for given in ("nmt-token=x", f"nmt-token-{secret.listener.port}=wrong", f"other={TOKEN}", '"', "=;=\x01"):
        assert secret.ask("GET", "/", Cookie=given)[0] == 401


def test_the_token_opens_the_page_once_by_its_address_then_by_the_cookie_or_a_header(secret):
    for headers in ({"Cookie": cookie(secret)}, {"Authorization": f"Bearer {TOKEN}"}):
        assert secret.ask("GET", "/", **headers)[0] == secret.ask("GET", "/api/info", **headers)[0] == 200
    assert secret.post("/api/keypoints", b"a,1,2\nb,3,4\n", Cookie=cookie(secret))[0] == 200
    assert secret.post("/api/keypoints", b"a,1,2\n", Cookie=cookie(secret), Origin="http://evil.example")[0] == 403


def test_with_a_token_the_machines_addresses_are_names_too_but_no_strangers_name_is(secret):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert secret.ask("GET", "/", Host="10.0.0.7:80", **headers)[0] == 200
    assert secret.ask("GET", "/", Host="evil.example", **headers)[0] == 421


def test_the_token_stands_in_no_log(secret, caplog, capfd):
    with caplog.at_level(0):
        secret.ask("GET", f"/?token={TOKEN}")
        secret.ask("GET", f"/?token={TOKEN}x")
    captured = capfd.readouterr()
    assert TOKEN not in caplog.text + captured.out + captured.err
