"""The clock of tests whose work runs partly in threads."""

from tests.transfer.conftest import patient_clock

__all__ = ["patient_clock"]
