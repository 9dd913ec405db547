# SPDX-License-Identifier: Apache-2.0
"""The checks of `baton doctor`: what each says of a healthy and of a broken part."""

from __future__ import annotations

import socket
import sys
from importlib import metadata
from pathlib import Path

import pytest

from controller.cli import doctor
from controller.cli.doctor import Status
from controller.cli.trial_switch import TrialError, TrialFacts

REPOSITORY = Path(__file__).resolve().parents[3]


def only(findings):
    (finding,) = findings
    return finding


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An Open vSwitch made of shell scripts, with all actions."""
    monkeypatch.setenv("BATON_OVS_PREFIX", str(tmp_path))
    script(tmp_path / "sbin" / "ovs-vswitchd", "echo 'ovs-vswitchd (Open vSwitch) 3.1.0'")
    script(tmp_path / "bin" / "ovs-ofctl", "exit 0")
    return tmp_path


def test_pinned_packages_are_those_for_this_python():
    text = 'a==1\nb==2 ; python_version < "3.99"\nc==3 ; python_version < "3.2"\n# d==4\n-e .\n'
    assert list(doctor.pinned_packages(text)) == [("a", "1"), ("b", "2")]


def test_the_projects_own_requirements_are_understood():
    names = [name for name, _ in doctor.pinned_packages((REPOSITORY / "requirements.txt").read_text())]
    assert {"os-ken", "scapy", "dpkt", "pytest"} <= set(names)
    assert ("ryu" in names) == (sys.version_info < (3, 12))


def test_a_package_of_another_version_is_named(tmp_path):
    (tmp_path / "requirements.txt").write_text(
        f"pytest==0.0.1\nnothing-of-that-name==1\ndpkt=={metadata.version('dpkt')}"
    )
    packages = [finding for finding in doctor.check_python(tmp_path) if finding.part == "Python packages"]
    assert only(packages).status is Status.FAILED
    assert "pytest" in only(packages).detail
    assert "nothing-of-that-name missing" in only(packages).detail
    assert "dpkt" not in only(packages).detail


def test_a_whole_open_vswitch(prefix):
    assert [finding.status for finding in doctor.check_ovs(REPOSITORY)] == [Status.OK, Status.OK]


def test_an_open_vswitch_that_was_never_built(prefix):
    (prefix / "sbin" / "ovs-vswitchd").unlink()
    finding = only(doctor.check_ovs(REPOSITORY))
    assert finding.status is Status.FAILED
    assert "make setup" in finding.mend


def test_an_open_vswitch_without_some_actions(prefix):
    script(prefix / "bin" / "ovs-ofctl", 'case "$2" in *window*) exit 1;; esac')
    _, actions = doctor.check_ovs(REPOSITORY)
    assert actions.status is Status.FAILED
    assert actions.detail == "lacks shift_tcp_window, set_tcp_window"


def test_an_open_vswitch_that_does_not_run(prefix):
    script(prefix / "sbin" / "ovs-vswitchd", "echo 'cannot open shared object' >&2; exit 127")
    version, _ = doctor.check_ovs(REPOSITORY)
    assert version.status is Status.FAILED
    assert "cannot open shared object" in version.detail


@pytest.fixture
def as_root(monkeypatch):
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)


def test_the_datapath_is_not_tried_without_root(monkeypatch):
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    assert only(doctor.check_datapath(REPOSITORY)).status is Status.WARNING
    assert only(doctor.check_user(REPOSITORY)).status is Status.WARNING


@pytest.mark.parametrize(("has_tso", "status"), [(True, Status.OK), (False, Status.FAILED)])
def test_what_the_trial_showed(as_root, monkeypatch, has_tso, status):
    monkeypatch.setattr(doctor, "try_switch", lambda prefix, directory: TrialFacts(has_tso, "the switch's word"))
    datapath, offloads = doctor.check_datapath(REPOSITORY)
    assert datapath.status is Status.OK
    assert offloads.status is status


def test_a_trial_that_failed_says_the_mend(as_root, monkeypatch):
    def fail(prefix, directory):
        raise TrialError("no veth here", "load the module veth")

    monkeypatch.setattr(doctor, "try_switch", fail)
    finding = only(doctor.check_datapath(REPOSITORY))
    assert (finding.status, finding.detail, finding.mend) == (Status.FAILED, "no veth here", "load the module veth")


def test_a_port_in_use_is_seen(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        monkeypatch.setattr(doctor, "OPENFLOW_PORT", port)
        assert only(doctor.check_port(REPOSITORY)).status is Status.OK
        listener.listen(1)
        assert only(doctor.check_port(REPOSITORY)).status is Status.WARNING


def test_wrong_settings_are_told_with_their_place(tmp_path, monkeypatch):
    monkeypatch.setenv("BATON_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("BATON_CONFIG", str(tmp_path / "baton.toml"))
    (tmp_path / "baton.toml").write_text("services = 5")
    settings, directory = doctor.check_settings(REPOSITORY)
    assert settings.status is Status.FAILED
    assert str(tmp_path / "baton.toml") in settings.mend
    assert directory.status is Status.OK


def test_leftovers_are_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "find_leftovers", lambda repository: [f"process {number}" for number in range(7)])
    finding = only(doctor.check_leftovers(REPOSITORY))
    assert finding.status is Status.WARNING
    assert "and 2 more" in finding.detail
    assert finding.mend == "make clean"


def test_a_missing_command_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda command: None if command == "ip" else f"/bin/{command}")
    finding = only(doctor.check_commands(REPOSITORY))
    assert finding.status is Status.FAILED
    assert "iproute2" in finding.mend


def test_a_missing_analyser(monkeypatch):
    def none_there():
        raise doctor.AnalyserError("neither Snort nor Suricata")

    monkeypatch.setattr(doctor, "choose_engine", none_there)
    assert only(doctor.check_analyser(REPOSITORY)).status is Status.FAILED
