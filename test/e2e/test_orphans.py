"""kill -9 of the supervisor: what it had started serves on, and the next start takes over what the vault kept."""
import os
import signal
import time

import pytest

from client import Client, Load, tls_context
from gateway import SOAK, Gateway, is_alive, run_command, wait_until

SITE = '''
listen 127.0.0.1:{port}
listen 127.0.0.1:{port2} plain serve
site localhost { certificate internal; respond 200 "one" }
'''


def kill_supervisor(gateway):
    """Those that it leaves behind."""
    orphans = [p.pid for p in gateway.left() if p.pid != gateway.process.pid]
    gateway.signal(signal.SIGKILL)
    gateway.process.wait()
    return orphans


def drained(orphans):
    wait_until(lambda: not [pid for pid in orphans if is_alive(pid)], 'the orphans to end')


def test_tickets_and_counters_come_back_from_the_vault():
    with Gateway(SITE) as gateway:
        context = tls_context(gateway.root())

        def session():
            with Client(gateway.port, context) as client:
                assert client.get('/').text == 'one'
                return client.socket.session

        def resume(ticket):
            with Client(gateway.port, context, session=ticket) as client:
                assert client.socket.session_reused and client.get('/').text == 'one'
        first = session()
        exchanges = gateway.counter('exchanges', 'worker')
        assert exchanges >= 1
        orphans = kill_supervisor(gateway)
        resume(first)
        between = session()
        gateway.start()
        drained(orphans)
        resume(first)
        resume(between)
        assert gateway.counter('exchanges', 'worker') >= exchanges + 2
        # And once more: what was taken over is kept for the next one in turn.
        second = session()
        orphans = kill_supervisor(gateway)
        gateway.start()
        drained(orphans)
        for ticket in (first, between, second):
            resume(ticket)


def test_without_a_vault_tickets_end():
    """Nobody held the table: a ticket of before costs a full handshake, and no more."""
    with Gateway(SITE) as gateway:
        context = tls_context(gateway.root())
        with Client(gateway.port, context) as client:
            client.get('/')
            ticket = client.socket.session
        vault = gateway.pid('vault')
        orphans = kill_supervisor(gateway)
        os.kill(vault, signal.SIGKILL)
        gateway.start()
        drained(orphans)
        with Client(gateway.port, context, session=ticket) as client:
            assert not client.socket.session_reused and client.get('/').text == 'one'


def every_keyholder_has_signed(gateway, trusting):
    """Each pulls its keys when it needs them; without a vault those that it has go on serving."""
    def signed():
        with Client(gateway.port, trusting) as client:
            assert client.get('/').text == 'one'
        return all(row['counters'].get('signatures') for row in gateway.status() if row['process'] == 'keyholder')
    wait_until(signed, 'a signature of each keyholder')


SERVICE_SECONDS = 15 if SOAK else 3


def serve_for(loads, seconds):
    """Steady load: not only for a time, each kind of client was also answered again and again."""
    before = [load.done for load in loads]
    end = time.monotonic() + seconds
    while time.monotonic() < end or any(load.done < count + 50 for load, count in zip(loads, before)):
        assert not any(load.failed for load in loads), [load.failed[:3] for load in loads]
        assert time.monotonic() < end + 60, [load.done for load in loads]
        time.sleep(0.02)


@pytest.mark.soak
@pytest.mark.parametrize('with_vault', [False, True], ids=['alone', 'with-its-vault'])
def test_the_supervisor_is_killed_under_load(with_vault):
    """Service goes on without it, `ca list` harms nothing, the next start takes over, what was left drains: 0 requests
    fail, over connections that are kept for good, that are changed now and then, and new for each request."""
    with Gateway(SITE) as gateway:
        trusting = tls_context(gateway.root())
        kept = Load(gateway.ports[1], threads=2, requests_per_connection=10 ** 6)
        changed = Load(gateway.port, threads=1, tls=trusting)
        new = Load(gateway.ports[1], threads=1, requests_per_connection=1)
        loads = (kept, changed, new)
        every_keyholder_has_signed(gateway, trusting)
        with kept, changed, new:
            vault = gateway.pid('vault')
            workers = set(gateway.pids('worker'))
            orphans = kill_supervisor(gateway)
            if with_vault:
                os.kill(vault, signal.SIGKILL)
                orphans.remove(vault)
            assert workers <= set(orphans)
            serve_for(loads, SERVICE_SECONDS / 2)
            for _ in range(2):
                done = run_command('ca', 'list', '-c', gateway.config)
                assert done.returncode == 0 and 'localhost' in done.stdout, done
            serve_for(loads, SERVICE_SECONDS / 2)
            assert [pid for pid in orphans if not is_alive(pid)] == []
            gateway.start()
            taken = [line for line in gateway.stderr if 'taking over' in line or 'that was killed' in line]
            assert taken and ('it drains once this one serves' if with_vault else 'taking over') in taken[-1], gateway.stderr
            drained(orphans)
            serve_for(loads, 1)
            for load in loads:
                load.stop()
        assert not any(load.retried for load in loads)
        # Nobody but the new supervisor and its children.
        children = {p.pid for p in gateway.children()} | {gateway.process.pid}
        assert {p.pid for p in gateway.left()} == children
        assert len(gateway.pids('worker')) == len(workers) and not workers & children
