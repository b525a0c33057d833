"""The document says what the code does."""

from tests.supervise.table import documented, table


def test_the_documented_table_is_the_one_the_code_has() -> None:
    assert documented() == table(), "python -m tests.supervise.table --write"
