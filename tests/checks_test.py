import pytest

from demjax.checks import UserError, choose, did_you_mean, in_range, listed


def test_choose():
    assert choose("colour", "red", {"red": 1}) == 1
    with pytest.raises(UserError, match="colour is 'rde': did you mean 'red'?"):
        choose("colour", "rde", {"red": 1, "blue": 2})


def test_nothing_near_lists_all():
    assert did_you_mean("xyz", ["red", "blue"]) == "known: red, blue"


@pytest.mark.parametrize("value", [0, 1, 0.5])
def test_in_range(value):
    in_range("x", value, 0, 1)


@pytest.mark.parametrize("value", [-1e-9, 1.1, float("nan"), float("inf"), "1", None])
def test_out_of_range(value):
    with pytest.raises(UserError, match="x is .*: expected a number >= 0 and <= 1"):
        in_range("x", value, 0, 1)


def test_open_low():
    in_range("x", 1e-9, 0, open_low=True)
    with pytest.raises(UserError, match="x is 0: expected a number > 0"):
        in_range("x", 0, 0, open_low=True)


def test_listed():
    assert listed([]) == "" and listed("abc") == "a, b, c" and listed("abcdefg", 2) == "a, b and 5 more"
