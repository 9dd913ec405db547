# SPDX-License-Identifier: Apache-2.0
"""Table, models and proof speak of the same states, messages and actions, by the same names."""

import re
from pathlib import Path

import models
from controller.eccp.names import Action, Environment, FlowState, Message
from controller.eccp.table import FLOW_TABLE
from models.proof.abstraction import ENDS, TABLE, promela
from models.proof.actions import ACTIONS
from models.proof.state import ST
from models.transcription import LOCAL
from models.transcription import TABLE as TRANSCRIPTION

ROOM = Path(models.__file__).parent
PROMELA = (ROOM / "eccp.inc").read_text(encoding="utf-8")


def mtype(kind: str) -> set[str]:
    found = re.search(rf"mtype:{kind} = \{{([^}}]*)\}}", PROMELA)
    assert found
    return {name.strip() for name in found.group(1).split(",")}


def test_promela_has_every_state_of_the_machine() -> None:
    assert mtype("state") == {state.value for state in FlowState}


def test_promela_has_every_message_between_hosts() -> None:
    below = {Message.COOKIE, Message.REGISTER, Message.RELAY}
    assert mtype("message") == {message.value for message in set(Message) - below}


def test_proof_has_every_state() -> None:
    assert set(ST) == set(FlowState)
    assert {str(term) for term in ST.values()} == {state.value for state in FlowState}


def test_proof_has_every_action() -> None:
    assert {a for a in ACTIONS if isinstance(a, Action)} == set(Action)
    assert {a for a in ACTIONS if isinstance(a, Environment)} == {Environment.REBIND, Environment.SPOOF}


def test_transcription_has_every_action() -> None:
    assert {row.action for row in TRANSCRIPTION} == set(Action)


def test_every_received_message_is_handled_by_an_inline_of_its_name() -> None:
    for message in (Message.SYN, Message.SYN_ACK, Message.ACK, Message.RSYN, Message.PING, Message.FIN):
        assert f"inline recv_{message.value.lower()}(" in PROMELA


def test_transcription_and_table_of_the_machine_allow_the_same_local_steps() -> None:
    ours = {(state, row.action) for row in TRANSCRIPTION for state in row.states if row.action in LOCAL}
    theirs = {pair for pair in FLOW_TABLE if pair[1] in LOCAL}
    assert ours == theirs


def test_abstraction_names_actions_of_the_proof() -> None:
    names = {action.value for action in ACTIONS}
    assert set(TABLE) | ENDS <= names


def test_abstract_promela_model_is_what_its_table_writes() -> None:
    assert (ROOM / "eccp_abstract.pml").read_text(encoding="utf-8") == promela()
