"""A pytest plugin (`-p tests.no_skips`) that fails whatever would be skipped, so that no check falls away unseen."""

from collections.abc import Generator
from typing import TypeVar

import pytest

ReportT = TypeVar("ReportT", pytest.TestReport, pytest.CollectReport)


def _refuse_skip(report: ReportT) -> ReportT:
    if report.skipped and not hasattr(report, "wasxfail"):  # an expected failure is reported as skipped too
        report.outcome = "failed"
        report.longrepr = f"skipped, and this run lets nothing skip: {report.longrepr}"
    return report


# First of the wrappers means last to see the report: pytest's own wrapper turns expected failures into skips.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))
