"""Changes of what runs: reload, SIGHUP."""
import os
import re
import signal
import subprocess
import threading

import pytest

from client import Client, get
from gateway import Gateway, program, run_command, wait_until

SITE = 'listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "%s" }\n'


@pytest.fixture(scope='module')
def gateway():
    with Gateway(SITE % 'one') as one:
        yield one


def text(gateway):
    return get(gateway.port, '/').text


def running(gateway):
    """The number of the configuration that runs; every member has it."""
    rows = gateway.status()
    changes = {row['change'] for row in rows if row['process'] != 'check'}
    assert len(changes) == 1, rows
    return changes.pop()


def number(done):
    """What a command that made a change printed."""
    assert done.returncode == 0, done.stderr
    return int(re.fullmatch(r'configuration (\d+) runs\n', done.stdout)[1])


def test_a_reload_names_its_number(gateway):
    before = running(gateway)
    first = number(gateway.reload(SITE % 'two'))
    assert first > before and running(gateway) == first and text(gateway) == 'two'
    second = number(gateway.reload(SITE % 'three'))
    assert second > first and running(gateway) == second and text(gateway) == 'three'
    assert f'configuration {second},' in run_command('status', '-c', gateway.config, env=gateway.env).stdout


def test_a_refused_one_between_two_good_ones(gateway):
    number(gateway.reload(SITE % 'good'))
    with Client(gateway.port) as client:
        assert client.get('/').text == 'good'
        before = running(gateway)
        done = gateway.reload(SITE.replace('respond', 'respnd') % 'bad')
        assert (done.returncode, done.stdout) == (1, '') and re.search(r'portcullis\.conf:4:18: .*respnd', done.stderr), done
        assert running(gateway) == before and client.get('/').text == 'good'
        assert number(gateway.reload(SITE % 'better')) > before
        assert client.get('/').text == 'better'


def test_two_at_once(gateway):
    """Whoever asks is answered by a change that began after he asked."""
    gateway.write(SITE % 'at once')
    before = running(gateway)
    command = [program(), 'reload', '-c', gateway.config]
    asked = [subprocess.Popen(command, env=gateway.env, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    numbers = [int(one.communicate(timeout=60)[0].split()[1]) for one in asked]
    assert min(numbers) > before and running(gateway) == max(numbers) and text(gateway) == 'at once'


def test_fifty_signals_are_few_changes(gateway):
    """What comes while a change is under way is one change behind it: the signals come while the first is held up."""
    before = number(gateway.reload(SITE % 'before'))
    gateway.write(SITE % 'signalled')
    for pid in gateway.pids('worker'):
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(50):
            gateway.signal(signal.SIGHUP)
    finally:
        for pid in gateway.pids('worker'):
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: text(gateway) == 'signalled', 'the signalled configuration')
    # The next number tells how many there were in between: compiles, refused or not, all have one.
    assert before + 2 <= number(gateway.reload()) <= before + 4


def test_a_reload_while_a_worker_is_killed(gateway):
    """It succeeds, or says why and leaves the old one; and nobody is left with another."""
    for i in range(4):
        stop = threading.Event()

        def kill(stop=stop, i=i):
            while not stop.wait(0.02 * i):
                pids = gateway.pids('worker')
                if pids:
                    os.kill(pids[i % len(pids)], signal.SIGKILL)
                    return
        killer = threading.Thread(target=kill)
        killer.start()
        done = gateway.reload(SITE % f'killed {i}')
        stop.set()
        killer.join()
        gateway.settle()
        assert done.returncode == 0, done.stderr
        assert running(gateway) >= number(done)
        assert text(gateway) == f'killed {i}'
