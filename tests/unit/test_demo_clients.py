"""The demonstration's MySQL clients: the bytes they send, and when an answer is whole.

No server is contacted. Run by pytest.
"""

from __future__ import annotations

import pytest

from maitred.demo.mysql_load import is_whole, login, packet

COLUMN, EOF, ROW = b"\x03def", b"\xfe\0\0\x02\0", b"\x015"
ROWS = b"".join(
    packet(number, body) for number, body in enumerate([b"\x01", COLUMN, EOF, ROW, EOF], 1)
)


@pytest.mark.parametrize(
    "answer",
    [ROWS, packet(1, b"\0\0\0\x02\0\0\0"), packet(1, b"\xff\x15\x04#42000no")],
    ids=["rows", "ok", "error"],
)
def test_an_answer_is_whole_with_its_last_byte_and_not_before(answer: bytes) -> None:
    assert is_whole(answer)
    for length in range(len(answer)):
        assert not is_whole(answer[:length]), length


def test_a_login_names_its_user_and_database() -> None:
    sent = login("demo", "shop")
    assert (int.from_bytes(sent[:3], "little"), sent[3]) == (len(sent) - 4, 1)
    assert sent.endswith(b"demo\0\0shop\0mysql_native_password\0")
