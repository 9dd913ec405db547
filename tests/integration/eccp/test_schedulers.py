# SPDX-License-Identifier: Apache-2.0
"""Which interface carries the data of a real tunnel, by the packets that the kernel counted on it."""

import json
import signal
from pathlib import Path

import pytest
from integration.eccp.cases import PYTHON, Download, build, connect

from controller.eccp.lab import Lab, wait_for


def received(lab: Lab) -> dict[str, int]:
    """Bytes that have come to a over each link."""
    return {name: _counter(lab, "a", name, "rx") for name in ("wifi", "cell")}


def sent(lab: Lab) -> dict[str, int]:
    """Bytes that have left a over each link."""
    return {name: _counter(lab, "a", name, "tx") for name in ("wifi", "cell")}


def _counter(lab: Lab, host: str, link: str, way: str) -> int:
    (found,) = json.loads(lab.ip(host, "-s", "-j", "link", "show", link))
    return int(found["stats64"][way]["bytes"])


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The difference."""
    return {name: after[name] - before[name] for name in before}


def wait_for_flows(lab: Lab, *, measured: bool = False) -> None:
    """Both flows are open at both ends; ``measured``: with an RTT (an opening that was repeated gives none)."""
    wait_for(
        lambda: all(
            [f["state"] == "ESTABLISHED" and (f["rtt_ms"] is not None or not measured) for f in _flows(lab, name)]
            == [True, True]
            for name in ("a", "b")
        ),
        10,
        "a flow on each interface",
    )


def _flows(lab: Lab, daemon: str) -> list[dict[str, object]]:
    return [f for c in lab.ask(daemon, "status")["connections"] for f in c["flows"]]


def at_once(lab: Lab, files: list[Path]) -> list[dict[str, object]]:
    """As many downloads from a to b as there are files for their results, at the same time."""
    started = []
    for path in files:
        with path.open("wb") as out:
            command = (PYTHON, "-m", "controller.eccp.transfer", "get", "10.77.0.1", "8000", "400000")
            started.append(lab.spawn("b", *command, stdout=out))
    for process in started:
        process.wait(60)
    return [dict(json.loads(path.read_text())) for path in files]


def test_lowest_rtt_uses_the_quicker_path_and_follows_when_that_changes() -> None:
    with build(wifi=("--ms", "30"), cell=("--ms", "2", "--later-ms", "120")) as lab:
        box = lab.processes[1]
        connect(lab, "--multipath", "--policy", "lowest-rtt")
        wait_for_flows(lab, measured=True)
        download = Download(lab, size=24_000_000, rate=3e6)
        before = received(lab)
        download.wait_more(3_000_000)
        came = grown(before, received(lab))
        assert came["cell"] > 20 * came["wifi"], came
        box.send_signal(signal.SIGUSR2)

        def is_on_wifi() -> bool:
            start = received(lab)
            download.wait_more(500_000)
            step = grown(start, received(lab))
            return step["wifi"] > 20 * step["cell"]

        wait_for(is_on_wifi, 30, "the download goes over the path that is the quicker one now")
        assert download.process.poll() is None, "while it lasted"
        result = download.result()
        assert result["right"], result


@pytest.mark.parametrize(
    ("weights", "least", "most"), [((), 0.2, 0.8), (("cell=4",), 0.5, 0.97), (("wifi=0",), 0.97, 1)]
)
def test_weighted_shares_inner_connections_by_the_weights(weights: tuple[str, ...], least: float, most: float) -> None:
    with build() as lab:
        options = [word for weight in weights for word in ("--weight", weight)]
        connect(lab, "--multipath", "--policy", "weighted", *options)
        wait_for_flows(lab)
        lab.spawn("a", PYTHON, "-m", "controller.eccp.transfer", "serve", "10.77.0.1", "8000")
        wait_for(lambda: "10.77.0.1:8000" in lab.execute("a", "ss", "-ltn"), 10, "a's HTTP server")
        before = sent(lab)
        for round_ in range(3):  # downloads from a: what a sends is shared by a's weights
            results = at_once(lab, [lab.run_dir / f"{round_}-{number}.json" for number in range(12)])
            assert all(result["right"] for result in results), results
        went = grown(before, sent(lab))
        assert least <= went["cell"] / sum(went.values()) <= most, went


def test_weighted_keeps_an_inner_connection_on_one_path() -> None:
    with build() as lab:
        connect(lab, "--multipath", "--policy", "weighted")
        wait_for_flows(lab)
        for _ in range(3):
            before = received(lab)
            result = Download(lab, size=4_000_000, rate=4e6).result()
            assert result["right"], result
            came = sorted(grown(before, received(lab)).values())
            assert came[1] > 20 * came[0], came
