"""Under a service manager: what it is told and when, and what it keeps while every process is gone."""
import contextlib
import os
import signal
import socket

import pytest

from client import Client, get, tls_context
from gateway import Gateway, is_alive, run_command, wait_until
from manager import Manager
from test_orphans import drained, kill_supervisor

SITE = '''
listen 127.0.0.1:{port}
listen 127.0.0.1:{port2} plain serve
site localhost { certificate internal; respond 200 "%s" }
'''


@contextlib.contextmanager
def managed(folder, text=SITE % 'one', **options):
    with Manager(folder, **options) as manager, \
            Gateway(text, folder=folder, env=manager.environment, prefix=manager.prefix) as gateway:
        manager.wait_count(1, READY='1')
        yield manager, gateway


def kill_all(gateway):
    """Every process at once: first all are stopped, so that nobody restarts or orphans anybody."""
    pids = [p.pid for p in gateway.left()]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    gateway.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), 'all to end')


@pytest.mark.parametrize('abstract', [True, False], ids=['abstract', 'path'])
def test_what_is_said_at_a_start_and_an_end(folder, abstract):
    with managed(folder, abstract=abstract) as (manager, gateway):
        assert {pid for pid, _ in manager.said} == {gateway.process.pid}, 'only the first process speaks'
        ready = [i for i, (_, words) in enumerate(manager.said) if 'READY' in words]
        stored = [i for i, (_, words) in enumerate(manager.said) if words.get('FDNAME', '').startswith('listener-')]
        assert len(ready) == 1 and max(stored) < ready[0], 'who is told that it serves may kill it at once'
        words = manager.said[ready[0]][1]
        assert words['MAINPID'] == str(gateway.process.pid) and words['STATUS'].startswith('serving configuration ')
        slots = len(gateway.pids('worker'))
        assert len(manager.listeners()) == 2 * slots
        assert f'listener-0-127.0.0.1_{gateway.port}' in manager.store and 'tickets-0-tickets' in manager.store
        assert all(words['FDPOLL'] == '0' for _, words in manager.said if 'FDSTORE' in words)
        assert 'RELOADING' not in {name for _, words in manager.said for name in words}
        gateway.stop()
        manager.wait_count(1, STOPPING='1')
        manager.wait(lambda: not manager.store, lambda: f'an empty store: {list(manager.store)}')
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', gateway.port))


def test_children_know_nothing_of_the_manager(folder):
    if os.getuid():
        pytest.skip('needs root to read other processes')
    with managed(folder, watchdog_seconds=20) as (_, gateway):
        kill_all(gateway)
        gateway.start()
        children = gateway.children()
        assert len(children) >= 4
        for child in children:
            with open(f'/proc/{child.pid}/environ', 'rb') as file:
                names = [variable.partition(b'=')[0] for variable in file.read().split(b'\0')]
            assert not [n for n in names if n == b'NOTIFY_SOCKET' or n.startswith((b'LISTEN_', b'WATCHDOG_'))], (child.command, names)


def test_a_reload_says_when_and_how_it_ended(folder):
    with managed(folder) as (manager, gateway):
        gateway.reload_well(SITE % 'two')
        manager.wait_count(2, READY='1')
        words = [words for _, words in manager.said if 'RELOADING' in words or 'READY' in words]
        assert ['RELOADING' in one for one in words] == [False, True, False]
        assert int(words[1]['MONOTONIC_USEC']) > 0 and 'refused' not in words[2]['STATUS']
        # What `systemctl reload` runs: it fails, says why, and nothing changed.
        done = gateway.reload('site localhost { respnd 200 }')
        assert done.returncode == 1 and 'respnd' in done.stderr
        manager.wait_count(3, READY='1')
        assert 'refused' in manager.said[-1][1]['STATUS'] and 'respnd' in manager.said[-1][1]['STATUS']
        assert get(gateway.port, '/', tls=tls_context()).text == 'two'
        gateway.signal(signal.SIGHUP)
        manager.wait_count(4, READY='1')


def test_a_listener_that_is_gone_is_kept_by_nobody(folder):
    with managed(folder) as (manager, gateway):
        slots = len(gateway.pids('worker'))
        gateway.reload_well('listen 127.0.0.1:{port}\nlisten 127.0.0.1:{port3} plain serve\nsite localhost { respond 200 "two" }')
        manager.wait_count(2, READY='1')
        names = manager.listeners()
        assert len(names) == 2 * slots and not [n for n in names if n.endswith(f'_{gateway.ports[1]}')], names
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', gateway.ports[1]))
        # A change that is refused leaves nothing there either.
        gateway.reload('listen 127.0.0.1:{port}\nlisten 127.0.0.1:{port4}\nlisten 192.0.2.1:{port4}\nsite localhost { respond 200 }')
        manager.wait_count(3, READY='1')
        assert manager.listeners() == names


def test_all_are_killed_and_sockets_tickets_and_counters_stay(folder):
    """Who connects while no process is there waits in the kernel and is served by the next life."""
    with managed(folder) as (manager, gateway):
        context = tls_context(gateway.root())
        with Client(gateway.port, context) as client:
            assert client.get('/').text == 'one'
            ticket = client.socket.session
        wait_until(lambda: gateway.counter('exchanges', 'worker') == 1, 'a request to be counted')
        before = dict(manager.store)
        kill_all(gateway)
        waiting = [socket.create_connection(('127.0.0.1', gateway.ports[1])) for _ in range(20)]
        for one in waiting:
            one.sendall(b'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
        gateway.start()
        manager.wait_count(2, READY='1')
        for one in waiting:
            one.settimeout(30)
            assert one.recv(4096).startswith(b'HTTP/1.1 200'), 'it waited in a socket that was kept'
            one.close()
        assert any('taking back' in line for line in gateway.stderr), gateway.stderr
        with Client(gateway.port, context, session=ticket) as client:
            assert client.get('/').text == 'one' and client.socket.session_reused
        wait_until(lambda: gateway.counter('exchanges', 'worker') == 22, lambda: gateway.counter('exchanges', 'worker'))
        # What came back was not handed over once more; new counters took the place of old ones.
        assert {name: fd for name, fd in manager.store.items() if not name.startswith('counters')} == {
            name: fd for name, fd in before.items() if not name.startswith('counters')}
        assert set(manager.store) == set(before)


def test_only_the_first_process_is_killed(folder):
    """The vault and the manager both have the sockets: each is there once afterwards, and the orphans end."""
    with managed(folder) as (manager, gateway):
        before = manager.listeners()
        orphans = kill_supervisor(gateway)
        assert get(gateway.ports[1], '/').text == 'one', 'orphans serve'
        gateway.start()
        manager.wait_count(2, READY='1')
        drained(orphans)
        assert manager.listeners() == before and manager.count(FDNAME=before[0]) == 1
        listening = [path for path in os.listdir(f'/proc/{gateway.process.pid}/fd')
                     if is_listener(gateway.process.pid, path)]
        assert len(listening) == len(before), 'no second copy is held'
        for _ in range(20):
            assert get(gateway.ports[1], '/').text == 'one'


def is_listener(pid, fd):
    """By the kernel's table of listening TCP sockets."""
    with contextlib.suppress(OSError):
        target = os.readlink(f'/proc/{pid}/fd/{fd}')
        with open('/proc/net/tcp', encoding='utf-8') as file:
            return any(line.split()[3] == '0A' and target == f'socket:[{line.split()[9]}]' for line in file.readlines()[1:])
    return False


def test_what_is_not_ours_is_closed(folder):
    with Manager(folder) as manager, socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        manager.store['web.socket'] = os.dup(other.fileno())
        with Gateway(SITE % 'one', folder=folder, env=manager.environment, prefix=manager.prefix) as gateway:
            manager.wait(lambda: 'web.socket' not in manager.store, 'the store to lose what is not ours')
            assert any('`web.socket`, which is not ours' in line for line in gateway.stderr), gateway.stderr
            assert get(gateway.ports[1], '/').text == 'one'


def test_the_watchdog_hears_nothing_of_a_hanging_first_process(folder):
    """By the order of events: another service's signs of life are the clock."""
    other_folder = folder + '/other'
    os.mkdir(other_folder)
    with managed(folder, watchdog_seconds=1.6) as (manager, gateway), \
            managed(other_folder, watchdog_seconds=1.6) as (other, _):
        manager.wait_count(3, WATCHDOG='1')
        gateway.signal(signal.SIGSTOP)
        wait_until(lambda: any(p.pid == gateway.process.pid and p.state in 'Tt' for p in gateway.left()), 'it to stand still')
        other.wait_count(other.count(WATCHDOG='1') + 2, WATCHDOG='1')
        heard = manager.count(WATCHDOG='1')
        other.wait_count(other.count(WATCHDOG='1') + 5, WATCHDOG='1')
        assert manager.count(WATCHDOG='1') == heard
        assert get(gateway.ports[1], '/').text == 'one', 'the others serve meanwhile'
        # What the manager does then.
        orphans = kill_supervisor(gateway)
        gateway.start()
        manager.wait_count(2, READY='1')
        manager.wait_count(heard + 2, WATCHDOG='1')
        drained(orphans)


def test_without_a_manager_nothing_is_said(folder):
    done = run_command('check', '/nowhere', env={'NOTIFY_SOCKET': folder + '/nobody'})
    assert done.returncode == 1
    with Gateway(SITE % 'one', folder=folder, env={'NOTIFY_SOCKET': folder + '/nobody', 'WATCHDOG_USEC': '400000'}) as gateway:
        assert get(gateway.ports[1], '/').text == 'one'
