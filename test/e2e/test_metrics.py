"""What a collector of metrics reads: well formed, true, and never less than before."""
import os
import re
import shutil
import subprocess

import pytest

from client import get
from gateway import Gateway, run_command, wait_until

SITE = 'listen 127.0.0.1:{port} plain serve\nsite localhost { respond 404 on /no; respond 200 "ok" }\n'


def metrics(gateway):
    done = run_command('metrics', '-c', gateway.config, env=gateway.env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def values(text):
    return {name: float(value) for name, value in re.findall(r'^(portcullis_[^ ]+) ([0-9.]+)$', text, flags=re.M)}


def test_lines_are_well_formed():
    """Each family has HELP and TYPE before its samples, once; each line is one of the three."""
    with Gateway(SITE) as gateway:
        families, current = {}, None
        for line in metrics(gateway).splitlines():
            comment = re.fullmatch(r'# (HELP|TYPE) (portcullis_[a-z0-9_]+) (.+)', line)
            if comment and comment[1] == 'HELP':
                assert comment[2] not in families, line
                families[comment[2]], current = None, comment[2]
            elif comment:
                assert comment[2] == current and comment[3] in ('counter', 'gauge', 'histogram'), line
                families[current] = comment[3]
            else:
                sample = re.fullmatch(r'(portcullis_[a-z0-9_]+)(\{[a-z]+="[^"\\]*"\})? [0-9]+(\.[0-9]+)?', line)
                assert sample, line
                assert re.sub('_(bucket|sum|count)$', '', sample[1]) == current if families[current] == 'histogram' else sample[1] == current
        assert len(families) > 40 and None not in families.values()


def test_they_count(test_build):
    with Gateway(SITE) as gateway:
        before = values(metrics(gateway))
        for path in ('/', '/', '/no'):
            get(gateway.port, path)
        wait_until(lambda: gateway.counter('exchanges') >= 3, 'three records')
        after = values(metrics(gateway))
        assert after['portcullis_exchanges_total'] - before['portcullis_exchanges_total'] == 3
        assert after['portcullis_responses_total{status="2xx"}'] == 2 and after['portcullis_responses_total{status="4xx"}'] == 1
        assert after['portcullis_request_seconds_count'] == 3 == after['portcullis_request_seconds_bucket{le="+Inf"}']
        assert after['portcullis_processes'] == len(gateway.status())
        # A reload and the death of every worker take nothing away.
        gateway.reload_well(SITE + 'site more.test { respond 200 }')
        for pid in gateway.pids('worker'):
            os.kill(pid, 9)
            wait_until(lambda pid=pid: pid not in gateway.pids('worker'), 'its end')
        gateway.settle()
        later = values(metrics(gateway))
        less = [name for name, value in after.items() if '_total' in name and later[name] < value]
        assert not less, less
        assert later['portcullis_process_restarts_total'] >= 1


def test_promtool():
    if not shutil.which('promtool'):
        pytest.skip('promtool is not installed')
    with Gateway(SITE) as gateway:
        done = subprocess.run(['promtool', 'check', 'metrics'], input=metrics(gateway), capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def test_nobody_runs(folder):
    done = run_command('metrics', env={**os.environ, 'PORTCULLIS_STATE': folder})
    assert done.returncode == 1 and 'not running' in done.stderr and not done.stdout
