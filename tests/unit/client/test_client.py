# SPDX-License-Identifier: Apache-2.0
"""The client checks every byte: a server that lies in any way is found out."""

import contextlib
import hashlib
import json
import socket
import threading

import pytest

from client import client
from servers.line_server import LineServer


@contextlib.contextmanager
def scripted(*answers):
    """A server that gives these answers, one to each request, then closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                for answer in answers:
                    sock.recv(65536)
                    sock.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@contextlib.contextmanager
def honest():
    server, ready = LineServer("alpha", None, quiet=True), threading.Event()
    server.report = lambda event, **facts: (
        (setattr(server, "port", facts.get("port")), ready.set()) * (event == "listening")
    )
    threading.Thread(target=server.run, args=("127.0.0.1", 0), daemon=True).start()
    assert ready.wait(10)
    yield server.port


def answer(name, number, text, *, told=None, length=None, digest=None):
    digest = digest or hashlib.sha256(text).hexdigest()
    size = len(text) if length is None else length
    return f"{name} {number} {size} {digest} ".encode() + (told or text) + b"\n"


def ask(capsys, port, *arguments):
    code = client.main(["--address", "127.0.0.1", "--port", str(port), "--timeout", "5", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def test_an_honest_server_is_believed(capsys):
    with honest() as port:
        code, report = ask(capsys, port, "hello", "get 300000 7", "bye")
    assert (code, report["error"]) == (0, "")
    assert [(e["server"], e["number"]) for e in report["exchanges"]] == [("alpha", 1), ("alpha", 2), ("alpha", 3)]


def test_requests_are_padded_and_repeated(capsys):
    with honest() as port:
        code, report = ask(capsys, port, "--size", "1000", "--count", "3", "hello")
    assert code == 0
    assert [exchange["bytes_sent"] for exchange in report["exchanges"]] == [1000] * 3


def test_another_server_on_the_same_socket_counts_from_one(capsys):
    with scripted(answer("a", 1, b"x"), answer("b", 1, b"y"), answer("b", 2, b"z")) as port:
        code, report = ask(capsys, port, "x", "y", "z")
    assert (code, [e["server"] for e in report["exchanges"]]) == (0, ["a", "b", "b"])


@pytest.mark.parametrize(
    "lie",
    [
        answer("a", 1, b"ask", told=b"asK"),
        answer("a", 2, b"ask"),
        answer("a", 1, b"ask", length=4),
        answer("a", 1, b"ask", digest="0" * 64),
        answer("a", 1, b"ask")[:-1] + b"x\n",
        answer("a", 1, b"ask") + b"more",
        b"not an answer at all, is it\n" * 20,
        b"a one 3 00 ask\n",
        b"\xff\xfe 1 3 00 ask\n",
    ],
)
def test_a_wrong_answer_is_found_out(capsys, lie):
    with scripted(lie) as port:
        code, report = ask(capsys, port, "ask")
    assert code == 1
    assert report["error"]


def test_a_download_with_two_pieces_swapped_is_found_out(capsys):
    body = client.pattern(256, 7)
    swapped = body[64:128] + body[:64] + body[128:]
    head = f"a 1 256 {hashlib.sha256(body).hexdigest()} -\n".encode()
    with scripted(head + swapped) as port:
        assert ask(capsys, port, "get 256 7")[0] == 1
    with scripted(head + body) as port:
        assert ask(capsys, port, "get 256 7")[0] == 0


def test_a_server_that_ends_or_is_not_there_is_reported(capsys):
    with scripted(answer("a", 1, b"x")[:10]) as port:
        code, report = ask(capsys, port, "x")
    assert code == 3
    assert "ended" in report["error"]
    code, report = ask(capsys, port, "x")
    assert code == 3
    assert "refused; is a server listening at" in report["error"]


def test_a_silent_server_is_not_waited_for_long(capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ["--address", "127.0.0.1", "--port", str(listener.getsockname()[1])]
        code = client.main([*address, "--timeout", "0.2", "x"])
    assert code == 3
    assert "no answer within 0.2 s" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--port", "70000"], ["--timeout", "0"], ["--interval", "-1"], ["--nonsense"]])
def test_wrong_usage(wrong):
    with pytest.raises(SystemExit) as ended:
        client.main(wrong)
    assert ended.value.code == 2
