import pytest

from e2mc.errors import ExpectedError, InputError, MachineError


@pytest.mark.parametrize("kind", [ExpectedError, InputError, MachineError])
def test_names_that_are_not_utf_8_can_be_sent(kind):
    assert str(kind("caf\udce9 and é")).encode() == b"caf\\udce9 and \xc3\xa9"
