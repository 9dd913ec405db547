# SPDX-License-Identifier: Apache-2.0
import socket
import threading

import pytest

from controller.analyser.command_socket import ask
from controller.analyser.errors import AnalyserError


@pytest.fixture
def suricata(tmp_path):
    """`suricata(answers)` plays the engine's side of one connection and returns (path, requests)."""
    threads = []

    def play(*answers, keep=False):
        path = tmp_path / f"s{len(threads)}"
        requests = []
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(path))
        server.listen(1)

        def serve():
            with server, server.accept()[0] as peer:
                for answer in answers:
                    requests.append(peer.recv(65_536))
                    for part in answer:
                        peer.sendall(part)
                if keep:
                    peer.recv(65_536)
                    peer.recv(65_536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        threads.append(thread)
        return path, requests

    yield play
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


OK = [b'{"return":"OK"}']


def test_commands_are_answered_in_order(suricata):
    path, requests = suricata(
        OK, [b'{"return":"OK",', b'"message":"done"}\n'], [b'{"message":[{"id":0}],"return":"OK"}']
    )
    assert ask(path, "reload-rules", "ruleset-stats") == ["done", [{"id": 0}]]
    assert requests == [
        b'{"version": "0.2"}\n',
        b'{"command": "reload-rules"}\n',
        b'{"command": "ruleset-stats"}\n',
    ]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([[b'{"return":"NOK"}']], "refused"),
        ([OK, [b'{"return":"NOK","message":"Unknown command"}']], "refused .*Unknown command"),
        ([OK, [b"[1]"]], "refused"),
        ([OK, []], "closed its command socket"),
        ([OK, [b'{"return"']], "closed its command socket"),
    ],
)
def test_a_refusal_is_an_error(suricata, answers, reason):
    path, _ = suricata(*answers)
    with pytest.raises(AnalyserError, match=reason):
        ask(path, "reload-rules")


def test_silence_ends_with_the_deadline(suricata):
    path, _ = suricata(OK, keep=True)
    with pytest.raises(AnalyserError, match=r"not answered on .* within 0.2 s"):
        ask(path, "reload-rules", timeout=0.2)


def test_nobody_there_is_an_error(tmp_path):
    with pytest.raises(AnalyserError, match="is it running"):
        ask(tmp_path / "gone", "reload-rules")
