"""Tell what happened to the wishes between two states, in events with stable names. Pure: no I/O."""

from collections.abc import Iterator

from qwenctl.deploy import states as st

Told = tuple[str, dict[str, object]]


def change_events(before: st.ChangeState, after: st.ChangeState) -> Iterator[Told]:
    """Yield the events in their order.

    Names: config_invalid, config_valid, refused. They do not change within a schema; fields may be
    added. What the server does is told by supervise/lifecycle_events.py.
    """
    refused = after.refused
    if refused is not None and refused != before.refused and not refused.rolled_back:
        fields: dict[str, object] = {"error": refused.why.message, "hint": refused.why.hint}
        from_file = refused.wish.origin in st.FROM_FILE and not refused.why.passing
        known = before.refused is not None and before.refused.why == refused.why
        if from_file and after.config_error != before.config_error:
            yield "config_invalid", fields
        elif not from_file and not known:
            yield "refused", {"change": refused.wish.number, **fields}
    if before.config_error is not None and after.config_error is None and not after.closed:
        yield "config_valid", {}
