"""Which errors are told in a sentence, and which are faults of this code."""

# somebody's input, machine or data: no traceback
EXPECTED_ERRORS = (OSError, ValueError, RuntimeError)
