"""Errors are classified by how to handle them."""

import pytest

from shared.errors import Kind, Outage, Rejected, kind_of, one_line


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Outage("away"), Kind.OUTAGE),
        (ConnectionResetError("reset"), Kind.OUTAGE),
        (TimeoutError(), Kind.OUTAGE),
        (Rejected("WRONG", "no such column"), Kind.REJECTED),
        (ValueError("odd"), Kind.UNKNOWN),
        (OSError("disk"), Kind.UNKNOWN),
    ],
)
def test_kind_of_error_or_of_the_first_in_an_exception_group(error, kind):
    assert kind_of(error) is kind
    assert kind_of(ExceptionGroup("tasks", [ExceptionGroup("inner", [error]), ValueError("later")])) is kind


def test_one_line_is_the_first_error_of_a_group_cut_at_the_limit():
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("two\nlines"), KeyError("x")])
    assert one_line(group) == "ValueError: two lines"
    assert one_line(ValueError("x" * 600), limit=20) == "ValueError: xxxxxxx…"
