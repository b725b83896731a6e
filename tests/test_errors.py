import math

import pytest

from e2mc.errors import ExpectedError, InputError, MachineError, expect_integer, expect_number


@pytest.mark.parametrize("kind", [ExpectedError, InputError, MachineError])
def test_names_that_are_not_utf_8_can_be_sent(kind):
    assert str(kind("caf\udce9 and é")).encode() == b"caf\\udce9 and \xc3\xa9"


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_numbers_within_their_bounds_pass(value):
    expect_number(value, "share", at_least=0, at_most=1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "0.5", None, True, [0.5]])
def test_number_out_of_its_bounds_is_said(value):
    with pytest.raises(ValueError, match="share must be a finite number of at least 0 and at most"):
        expect_number(value, "share", at_least=0, at_most=1)


@pytest.mark.parametrize("value", [0, 1.0, 2.5, math.nan, "1", None, True])
def test_what_is_no_whole_number_is_said(value):
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, found "):
        expect_integer(value, "count", at_least=1)


@pytest.mark.parametrize("value", [1, 7])
def test_whole_numbers_pass(value):
    expect_integer(value, "count", at_least=1)
