# SPDX-License-Identifier: Apache-2.0
"""The journal is read line by whole line while it grows."""

from demo.journal import JournalReader, belongs_to


def test_lines_come_once_and_only_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    reader = JournalReader(path)
    assert reader.read() == []
    path.write_text('{"event": "A"}\n{"event": "B')
    assert reader.read() == [{"event": "A"}]
    assert reader.read() == []
    with path.open("a") as file:
        file.write('"}\n')
    assert reader.read() == [{"event": "B"}]
    assert reader.records == [{"event": "A"}, {"event": "B"}]


def test_records_belong_to_a_client_by_connection_or_alert():
    client = "10.0.0.3:4000"
    assert belongs_to({"event": "X", "connection": f"{client}>10.0.0.1:1"}, client)
    assert belongs_to({"event": "AlertRaised", "src": client}, client)
    assert not belongs_to({"event": "X", "connection": "10.0.0.3:40001>10.0.0.1:1"}, client)
    assert not belongs_to({"event": "AlertRaised", "src": "10.0.0.1:1", "dst": client}, client)
