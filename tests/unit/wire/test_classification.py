# SPDX-License-Identifier: Apache-2.0
import pytest

from controller.wire.classification import decode_classifications

TEXT = """
# a comment
config classification: not-suspicious,Not Suspicious Traffic,3
  config  classification: connection-migration , Move the connection to another server , 1
config classification: not-suspicious,Given twice,9
config classification: without-priority,Something
config reference: bugtraq http://
config classification: twin,Not Suspicious Traffic,3
"""


@pytest.mark.parametrize(
    ("number", "name"), [(0, ""), (1, "not-suspicious"), (2, "connection-migration"), (3, "twin"), (4, ""), (-1, "")]
)
def test_a_number_is_a_place_in_the_file(number, name):
    assert decode_classifications(TEXT).by_number(number) == name


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("Move the connection to another server", "connection-migration"),
        ("Not Suspicious Traffic", "not-suspicious"),
        ("Given twice", "Given twice"),
        ("", ""),
    ],
)
def test_a_description_leads_to_the_name(description, name):
    assert decode_classifications(TEXT).described(description) == name
