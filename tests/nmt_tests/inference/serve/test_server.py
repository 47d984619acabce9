from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import pytest

from nmt.errors import UserError
from nmt.inference.serve.server import Listener, check_token, is_loopback, listen

TOKEN = "0123456789abcdef"


def test_a_port_in_use_is_one_line():
    with listen("127.0.0.1", 0, token=None).socket as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"^port {port} is in use; choose another with --port N, or any free one"):
            listen("127.0.0.1", port, token=None)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-name.invalid", "a" * 64, "..", "1.2.3.4.5"])
def test_a_host_that_is_not_this_machine_is_one_line(host):
    with pytest.raises(UserError, match=rf"^--host {re.escape(host)}: no ") as raised:
        listen(host, 0, token=TOKEN)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "myhost"])
def test_other_machines_reach_it_with_a_token_alone(host):
    with pytest.raises(UserError, match="so it needs --token, such as ") as raised:
        check_token(host, None)
    check_token(host, str(raised.value).rpartition(" ")[2])


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 201, "with blanks in it all", "ümlaut-ümlaut-ümlaut", "0123456789abcdef\n"]
)
def test_a_weak_or_odd_token_is_refused(token):
    with pytest.raises(UserError, match="^--token must be 16 to 200 letters, digits"):
        check_token("127.0.0.1", token)


def test_what_only_this_machine_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "::", "localhost.example.org", "")))


def test_the_address_is_one_that_a_browser_takes():
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        assert Listener(given, "127.0.0.1", None).url == f"http://127.0.0.1:{port}/"
        assert Listener(given, "::1", None).url == f"http://[::1]:{port}/"
        assert Listener(given, "0.0.0.0", TOKEN).url == f"http://{socket.gethostname()}:{port}/"


@pytest.mark.parametrize(("host", "token"), [("127.8.8.8", None), ("::1", None), ("192.168.1.5", TOKEN)])
def test_the_server_goes_by_the_name_of_its_own_address(host, token):
    with socket.create_server(("127.0.0.1", 0)) as given:
        listener = Listener(given, host, token)
        assert urlsplit(listener.url).hostname in listener.names
        assert "example.org" not in listener.names
