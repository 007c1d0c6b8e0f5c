import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import gateway  # noqa: E402 (found by the line above)


def pytest_configure(config):
    config.addinivalue_line('markers', 'soak: long; at full size where PORTCULLIS_SOAK is set')


@pytest.fixture
def folder():
    """One that processes of other users may enter."""
    path = gateway.new_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def test_build():
    if not gateway.is_test_build():
        pytest.skip('this build has no clock that can be moved')


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What the gateway of a failed test said."""
    del call
    report = (yield).get_result()
    if report.failed:
        for one in getattr(item, 'funcargs', {}).values():
            if isinstance(one, gateway.Gateway):
                report.sections.append(('the gateway', '\n'.join(one.stderr[-40:])))
                report.sections.append(('its output', '\n'.join(line[:300] for line in one.stdout[-5:])))
