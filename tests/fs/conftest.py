"""The clock of the tests of ``transfer``, whose work runs partly in threads here as well."""

from tests.transfer.conftest import patient_clock

__all__ = ["patient_clock"]
