"""The plugin that refuses skips, run over small suites of its own."""

import pytest

pytest_plugins = ["pytester"]


def run(pytester: pytest.Pytester, source: str) -> dict[str, int]:
    pytester.makepyfile(source)
    return pytester.runpytest_inprocess("-p", "tests.no_skips").parseoutcomes()


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\n@pytest.mark.skip(reason='no chromium')\ndef test_it(): pass",
        "import pytest\n@pytest.mark.skipif(True, reason='no chromium')\ndef test_it(): pass",
        "import pytest\ndef test_it(): pytest.skip('no chromium')",
        "import pytest\n@pytest.fixture\ndef browser(): pytest.skip('no chromium')\ndef test_it(browser): pass",
        "import unittest\nclass TestIt(unittest.TestCase):\n    def test_it(self): self.skipTest('no chromium')",
    ],
)
def test_a_skipped_test_fails_and_says_why(pytester: pytest.Pytester, source: str) -> None:
    pytester.makepyfile(source)
    result = pytester.runpytest_inprocess("-p", "tests.no_skips")
    assert result.ret != pytest.ExitCode.OK
    assert "skipped" not in result.parseoutcomes()
    assert "no chromium" in result.stdout.str()


def test_a_module_that_cannot_import_its_library_fails(pytester: pytest.Pytester) -> None:
    outcomes = run(pytester, "import pytest\npytest.importorskip('no_such_library')\ndef test_it(): pass")
    assert outcomes == {"errors": 1}


def test_passes_failures_and_expected_failures_stay_what_they_are(pytester: pytest.Pytester) -> None:
    outcomes = run(
        pytester,
        """
        import pytest

        def test_passes(): pass

        def test_fails(): assert False

        @pytest.mark.xfail(reason="known")
        def test_expected_failure(): assert False
        """,
    )
    assert outcomes == {"passed": 1, "failed": 1, "xfailed": 1}
