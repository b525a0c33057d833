"""From a wish to a running server: the steps of planning, and a change as a state machine."""
