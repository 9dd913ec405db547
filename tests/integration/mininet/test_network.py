# SPDX-License-Identifier: Apache-2.0
"""topo.py's network by itself: it carries TCP in both offload modes, stands beside others, leaves nothing behind."""

import json
import os
import sys
from pathlib import Path

import pytest

import topo
from testbed.leftovers import orphaned_processes, orphaned_run_dirs
from testbed.processes import marked_processes
from topo import BatonNet, TopoError, wait_for


def serve(net):
    log = net.run_dir / "server1.jsonl"
    net.popen("h1", [sys.executable, "servers/server1.py", "--quiet", "--log", str(log)])
    wait_for("server1", lambda: log.exists() and log.stat().st_size, 30)


def ask(net, *arguments):
    done = net.run("h3", [sys.executable, "client/client.py", "--json", *arguments])
    return json.loads(done.stdout)


@pytest.mark.parametrize("tso", [True, False])
def test_tcp_flows_in_both_offload_modes(tso):
    with BatonNet(private=True, tso=tso) as net:
        net.forward_all()
        serve(net)
        setting = net.switch.vsctl("get", "Open_vSwitch", ".", "other_config:userspace-tso-enable")
        assert setting.strip() == f'"{str(tso).lower()}"'
        report = ask(net, "get 20000000 5", "bye")
        assert report["error"] == ""
        report = ask(net, "--size", "2000000", "--count", "3", "up")
        assert report["error"] == ""


def test_two_networks_stand_beside_each_other():
    with BatonNet(private=True) as one, BatonNet(private=True) as other:
        assert one.run_dir != other.run_dir
        for net in (one, other):
            net.forward_all()
            serve(net)
        assert [ask(net, "hello")["error"] for net in (one, other)] == ["", ""]
        one.stop()
        assert marked_processes(one.mark) == []
        assert ask(other, "still here?")["error"] == ""


def test_what_is_where():
    with BatonNet(private=True) as net:
        assert net.ports() == {1: "h1", 2: "h2", 3: "h3", 4: "ids"}
        assert net.switch.vsctl("get", "bridge", "s1", "datapath_type", "fail_mode").split() == ["netdev", "secure"]
        assert "controller-queue-size" in net.switch.vsctl("get", "bridge", "s1", "other_config")
        assert net.switch.vsctl("get", "controller", "s1", "target").strip() == f'"unix:{net.run_dir}/openflow.sock"'
        assert "ids0" in net.switch.ofctl("show", "s1")
        assert "inet" not in net.run("ids", ["ip", "-o", "addr", "show", "dev", "ids-eth0"]).stdout
        state = json.loads((net.run_dir / "topo.json").read_text())
        assert set(state["nodes"]) == {"c0", "h1", "h2", "h3", "ids", "s1"}
        root = {link.name for link in os.scandir("/sys/class/net")}
        assert not root & {"s1-eth1", "h1-eth0", "ids0", "ovs-netdev"}


def test_the_end_takes_everything_with_it():
    with BatonNet(private=True) as net:
        net.popen("h1", ["bash", "-c", "trap '' TERM HUP INT; setsid sleep 1000 & sleep 1000"])
        mark, run_dir = net.mark, net.run_dir
        assert run_dir.exists()
        assert len(marked_processes(mark)) > 5
    assert marked_processes(mark) == []
    assert not run_dir.exists()
    net.stop()  # once more does no harm


def test_a_run_directory_holds_one_network_and_keeps_what_is_not_the_networks(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    (run_dir / "events.jsonl").write_text("mine\n")
    with BatonNet(run_dir) as net:
        with pytest.raises(TopoError, match="another network runs"), BatonNet(run_dir):
            pass
        assert net.switch.vsctl("br-exists", "s1") == ""
    assert [path.name for path in run_dir.iterdir()] == ["events.jsonl"]
    with BatonNet(run_dir):
        pass
    assert not any(str(path).startswith(str(run_dir)) for path in orphaned_run_dirs())


def test_a_failed_start_leaves_nothing(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr(topo, "new_mark", lambda real=topo.new_mark: marks.append(real()) or marks[-1])
    prefix = tmp_path / "ovs"
    (prefix / "sbin").mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "sbin" / "ovs-vswitchd").write_text("")
    (prefix / "bin" / "ovsdb-tool").write_text("#!/bin/sh\necho no such schema >&2; exit 1\n")
    (prefix / "bin" / "ovsdb-tool").chmod(0o755)
    with pytest.raises(TopoError, match="no such schema"), BatonNet(private=True, prefix=prefix):
        pass
    assert marked_processes(marks[0]) == []
    assert not Path(f"/run/baton-{marks[0]}").exists()


def test_what_is_missing_is_said_with_its_mend(tmp_path, monkeypatch):
    with pytest.raises(TopoError, match="make setup"), BatonNet(private=True, prefix=tmp_path):
        pass
    with pytest.raises(TopoError, match="BATON_RUN_DIR"), BatonNet(tmp_path / ("x" * 100)):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TopoError, match="root"), BatonNet(private=True):
        pass


def test_a_controller_that_ends_or_never_comes_is_reported():
    with BatonNet(private=True) as net:
        with pytest.raises(TopoError, match=r"the process ended(.|\n)*no luck"):
            net.start_controller(command=["sh", "-c", "echo no luck; exit 3"])
        with pytest.raises(TopoError, match="not ready after 1 s"):
            net.start_controller(command=["sleep", "100"], timeout=1)
        with pytest.raises(TopoError, match="took longer than 1 s"):
            net.run("h1", ["sleep", "100"], timeout=1)


def test_no_living_network_is_taken_for_a_leftover():
    with BatonNet(private=True) as net:
        assert not set(marked_processes(net.mark)) & set(orphaned_processes())
        assert net.run_dir not in orphaned_run_dirs()
