# SPDX-License-Identifier: Apache-2.0
"""What the journal tells a controller that takes over."""

from controller.core.events import BackendFailed, ConnectionClosed, ConnectionOpened, MigrationCompleted
from controller.core.facts import Opened, Recollection, pairs_of
from controller.core.options import Agreement
from controller.core.segment import ConnectionKey, Endpoint
from controller.journal import Journal
from controller.recollection import recollect

KEYS = [ConnectionKey(Endpoint("10.0.0.3", 40_000 + n), Endpoint("10.0.0.1", 80)) for n in range(3)]
OPENED = [Opened(n, 2 * n, Agreement(1460, 1460, 7, None, True, True, False)) for n in range(3)]


def opened(n):
    return ConnectionOpened(1.0, KEYS[n], 0, "server1", 10 + n, pairs_of(OPENED[n]))


def write(path, *events, limit=1 << 20):
    journal = Journal(path, limit)
    for event in events:
        journal.append(event)
    journal.close()


def test_open_connections_are_remembered(tmp_path):
    write(tmp_path, opened(0), BackendFailed(1.0, "x", ""), opened(1), ConnectionClosed(2.0, KEYS[0], 0, "fin"))
    assert recollect(tmp_path).opened == {(KEYS[1], 11): OPENED[1]}


def test_a_name_used_again_is_the_newer_connection(tmp_path):
    again = ConnectionOpened(3.0, KEYS[0], 0, "server1", 99, pairs_of(OPENED[2]))
    write(tmp_path, opened(0), ConnectionClosed(2.0, KEYS[0], 0, "fin"), again)
    assert recollect(tmp_path).opened == {(KEYS[0], 99): OPENED[2]}


def test_the_journal_put_aside_is_read_first(tmp_path):
    write(tmp_path, opened(0), opened(1), limit=1)
    write(tmp_path, ConnectionClosed(2.0, KEYS[1], 0, "fin"), opened(2))
    assert recollect(tmp_path).opened.keys() == {(KEYS[2], 12)}
    (tmp_path / "events.jsonl").rename(tmp_path / "events.jsonl.1")
    assert recollect(tmp_path).opened.keys() == {(KEYS[2], 12)}


def test_without_a_journal_nothing_is_known(tmp_path):
    assert recollect(tmp_path / "nowhere") == Recollection({}, {})


def test_what_is_no_record_is_left_out(tmp_path):
    write(tmp_path, opened(0), ConnectionOpened(1.0, KEYS[1], 0, "server1", 5))
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"ConnectionOpened","schema":1}\n{"event":"ConnectionClosed"\n' + whole[:50])
    assert recollect(tmp_path).opened == {(KEYS[0], 10): OPENED[0]}


def moved(n, version):
    return MigrationCompleted(2.0, KEYS[n], version, "server1", "server2", 1, 2, 3, 4)


def test_moves_that_are_complete(tmp_path):
    write(tmp_path, opened(0), opened(1), moved(0, 1), moved(1, 1), moved(0, 3))
    write(tmp_path, ConnectionClosed(2.0, KEYS[1], 1, "fin"))
    assert recollect(tmp_path).completed == {KEYS[0]: 3}
    write(tmp_path, opened(0))
    assert recollect(tmp_path).completed == {}


def test_two_controllers_have_each_a_part(tmp_path):
    for name, number in (("one", 0), ("two", 1)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, opened(number), moved(number, 1), moved(2, number + 1))
    both = recollect(tmp_path / "one")
    both |= recollect(tmp_path / "two")
    assert both.opened.keys() == {(KEYS[0], 10), (KEYS[1], 11)}
    assert both.completed == {KEYS[0]: 1, KEYS[1]: 1, KEYS[2]: 2}
