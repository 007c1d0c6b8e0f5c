"""Start, reload, stop, and what happens when processes die."""
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from client import Client, Load, get, tls_context
from gateway import Gateway, is_alive, new_folder, program, run_command, wait_until
from origin import Origin

SITE = '''
listen 127.0.0.1:{port} plain serve
site localhost { respond 200 "one" on /load/*; proxy ORIGIN on /app/*; files {folder} on /portcullis.conf }
'''
KINDS = ['worker', 'keyholder', 'vault', 'files', 'dialer', 'log']


@pytest.fixture(scope='module')
def origin():
    with Origin() as one:
        yield one


@pytest.fixture(scope='module')
def gateway(origin):
    with Gateway(SITE.replace('ORIGIN', f'127.0.0.1:{origin.port}')) as one:
        yield one


def serves_all(gateway):
    assert get(gateway.port, '/load/x').status == 200
    assert get(gateway.port, '/app/x').status == 200
    assert get(gateway.port, '/portcullis.conf').status == 200


def test_processes_are_direct_children_with_their_role(gateway):
    roles = gateway.roles()
    slots = len(os.sched_getaffinity(0))
    for role in [f'worker {i}' for i in range(slots)] + [f'keyholder {i}' for i in range(slots)]:
        assert role in roles, roles
    assert {'vault', 'files', 'dialer', 'log'} <= set(roles)
    supervisor = [p for p in gateway.status() if p['process'] == 'supervisor'][0]
    assert supervisor['pid'] == gateway.process.pid


def test_limits_and_sandboxes_are_shown(gateway):
    rows = gateway.status()
    for row in rows:
        with open(f'/proc/{row["pid"]}/limits', encoding='utf-8') as file:
            soft, hard = re.search(r'Max open files +(\d+) +(\d+)', file.read()).groups()
        assert row['open_files_limit'] == int(soft), row
        # Raised as far as the starter may.
        assert soft == hard, row
    worker = [row for row in rows if row['process'] == 'worker'][0]
    assert worker['enforced'] and worker['state'] == 'running', worker
    text = run_command('status', '-c', gateway.config).stdout
    assert 'worker' in text and 'sandbox' in text
    assert text.count('open files at most') == len(rows), text


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP], ids=['killed', 'stopped'])
@pytest.mark.parametrize('kind', KINDS)
def test_a_child_ends_and_comes_back(gateway, kind, number):
    gateway.settle()
    before = gateway.roles()
    victim = [role for role in sorted(before) if role.split()[0] == kind][0]
    serves_all(gateway)
    os.kill(before[victim], number)
    # Another one takes its place; nobody else is disturbed.
    wait_until(lambda: gateway.roles().get(victim) not in (None, before[victim]), f'a new {victim}')
    serves_all(gateway)
    after = gateway.roles()
    others = {role: pid for role, pid in before.items() if role != victim}
    assert {role: pid for role, pid in after.items() if role != victim} == others
    assert not is_alive(before[victim])


def test_a_dead_worker_s_listeners_are_served_meanwhile(gateway):
    """Every new connection is answered while one worker after the other is killed."""
    for _ in range(3):
        for pid in gateway.pids('worker')[:1]:
            os.kill(pid, signal.SIGKILL)
            for i in range(40):
                assert get(gateway.port, f'/load/{i}').status == 200


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT], ids=['killed', 'stopped', 'crashed'])
def test_helpers_end_under_load(origin, number):
    """Each kind but the worker in turn, while documents, proxied requests and handshakes are asked for: they wait for its
    successor, and none fails."""
    text = SITE.replace('plain serve', 'plain serve\nlisten 127.0.0.1:{port2}', 1).replace('site localhost {', 'site localhost { certificate internal;')
    with Gateway(text.replace('ORIGIN', f'127.0.0.1:{origin.port}')) as gateway:
        root = tls_context(gateway.root())
        loads = [Load(gateway.port, threads=1, path='/load/', requests_per_connection=10 ** 6),
                 Load(gateway.port, threads=1, path='/app/'), Load(gateway.port, threads=1, path='/portcullis.conf?'),
                 Load(gateway.ports[1], threads=1, tls=root, requests_per_connection=1)]
        with loads[0], loads[1], loads[2], loads[3]:
            for kind in [kind for kind in KINDS if kind != 'worker']:
                gateway.settle()
                before = gateway.roles()
                victim = [role for role in sorted(before) if role.split()[0] == kind][0]
                os.kill(before[victim], number)
                wait_until(lambda v=victim, b=before: gateway.roles().get(v) not in (None, b[v]), f'a new {victim}')
                for load in loads:
                    load.wait_for(20)
                after = gateway.roles()
                assert {r: p for r, p in after.items() if r != victim} == {r: p for r, p in before.items() if r != victim}
            for load in loads:
                load.stop()
        assert not [load.failed[:3] for load in loads if load.failed or load.retried]


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP, signal.SIGABRT], ids=['killed', 'stopped', 'crashed'])
def test_a_worker_ends_under_load(gateway, number):
    """It takes its own connections with it: at most one request of each client fails."""
    gateway.settle()
    before = gateway.roles()
    with Load(gateway.port, threads=4, requests_per_connection=20) as load:
        os.kill(before['worker 0'], number)
        wait_until(lambda: gateway.roles().get('worker 0') not in (None, before['worker 0']), 'a new worker')
        gateway.settle()
        failed = len(load.failed)
        load.wait_for(200)
        load.stop()
    assert failed <= 4 and len(load.failed) == failed, load.failed[:9]
    assert {r: p for r, p in gateway.roles().items() if r != 'worker 0'} == {r: p for r, p in before.items() if r != 'worker 0'}


def test_a_question_is_asked_again(gateway, origin):
    """The dialer and files are stopped: requests wait for their successors and are answered."""
    for kind, path in (('dialer', '/app/asked-again'), ('files', '/portcullis.conf')):
        os.kill(gateway.pid(kind), signal.SIGSTOP)
        answers = []
        threads = [threading.Thread(target=lambda p=path: answers.append(get(gateway.port, p, 'Cache-Control: no-cache')))
                   for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [a.status for a in answers] == [200] * 3
        wait_until(lambda k=kind: gateway.pids(k), kind)


def test_reload_under_load_loses_nothing(gateway, origin):
    text = SITE.replace('ORIGIN', f'127.0.0.1:{origin.port}')
    gateway.settle()
    with Load(gateway.port, requests_per_connection=10 ** 6) as load:
        pids = gateway.roles()
        for i in range(8):
            gateway.reload_well(text + f'site number-{i}.localhost {{ respond 200 "number {i}" }}\n')
            assert get(gateway.port, '/', host=f'number-{i}.localhost').text == f'number {i}'
            load.wait_for(50)
        gateway.signal(signal.SIGHUP)
        load.wait_for(50)
        gateway.reload_well(text)
    assert not load.failed and load.done > 400, load.failed[:5]
    assert {r: p for r, p in gateway.roles().items() if r.split()[0] in ('worker', 'keyholder', 'vault', 'dialer')} == {
        r: p for r, p in pids.items() if r.split()[0] in ('worker', 'keyholder', 'vault', 'dialer')}


def test_a_refused_reload_changes_nothing(gateway, origin):
    text = SITE.replace('ORIGIN', f'127.0.0.1:{origin.port}')
    with Client(gateway.port) as client:
        assert client.get('/load/a').text == 'one'
        done = gateway.reload(text.replace('"one"', '"two"').replace('files', 'fils'))
        assert done.returncode == 1 and re.search(r'portcullis\.conf:\d+:\d+: ', done.stderr), done.stderr
        assert client.get('/load/b').text == 'one' and get(gateway.port, '/load/c').text == 'one'
        gateway.reload_well(text)


def test_a_reload_may_not_move_the_state(gateway, origin, folder):
    text = SITE.replace('ORIGIN', f'127.0.0.1:{origin.port}')
    with open(gateway.config, encoding='utf-8') as file:
        before = file.read()
    with open(gateway.config, 'w', encoding='utf-8') as file:
        file.write(before.replace(f'state {gateway.state}', f'state {folder}/elsewhere'))
    # With -c FILE the command would look in the new folder; a signal needs no folder.
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: any('restart needed' in line for line in gateway.stderr), 'restart needed')
    gateway.reload_well(text)


def test_a_second_start_names_the_first(gateway):
    done = run_command('run', '-c', gateway.config)
    assert done.returncode == 1 and f'already running as pid {gateway.process.pid}' in done.stderr, done.stderr
    serves_all(gateway)


def test_listeners_come_and_go(gateway, origin):
    text = SITE.replace('ORIGIN', f'127.0.0.1:{origin.port}')
    gateway.reload_well(text + 'listen [::1]:{port2} plain serve\n')
    assert get(gateway.ports[1], '/load/v6', address='::1').text == 'one'
    gateway.reload_well(text)
    with pytest.raises(OSError):
        get(gateway.ports[1], '/load/v6', address='::1')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_requests_end(number):
    arrived, go = threading.Event(), threading.Event()

    def behave(exchange):
        arrived.set()
        assert go.wait(30)
        return exchange.reply(200, 'late but whole')

    with Origin(behave) as origin, \
            Gateway(f'listen 127.0.0.1:{{port}} plain serve\nsite localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        with Client(gateway.port) as client, Client(gateway.port) as idle:
            assert idle.get('/nowhere', host='unknown').status == 421
            client.request('GET', '/slow')
            assert arrived.wait(30)
            gateway.signal(number)
            idle.expect_end()

            def refused():
                try:
                    Client(gateway.port).close()
                    return False
                except OSError:
                    return True
            wait_until(refused, 'new connections to be refused')
            go.set()
            response = client.response()
            assert (response.status, response.text) == (200, 'late but whole')
            client.expect_end()
        assert gateway.wait() == 0
        assert not gateway.left()


def test_a_second_signal_ends_now():
    go, arrived = threading.Event(), threading.Event()

    def behave(exchange):
        arrived.set()
        go.wait(30)
        return exchange.reply(200, 'too late')

    with Origin(behave) as origin, \
            Gateway(f'listen 127.0.0.1:{{port}} plain serve\nsite localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        with Client(gateway.port) as client, Client(gateway.port) as idle:
            assert idle.get('/', host='unknown').status == 421
            client.request('GET', '/slow')
            assert arrived.wait(30)
            gateway.signal(signal.SIGTERM)
            idle.expect_end()
            assert gateway.process.poll() is None
            gateway.signal(signal.SIGTERM)
            gateway.wait(10)
            wait_until(lambda: not gateway.left(), 'nobody left')
        go.set()


def test_stop_command():
    with Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 }') as gateway:
        assert run_command('stop', '-c', gateway.config).returncode == 0
        assert gateway.wait() == 0 and not gateway.left()


def test_supervisor_and_vault_are_killed():
    with Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "one" }') as gateway:
        vault = gateway.pid('vault')
        gateway.signal(signal.SIGKILL)
        gateway.process.wait()
        os.kill(vault, signal.SIGKILL)
        assert get(gateway.port, '/').text == 'one'
        gateway.start()
        assert get(gateway.port, '/').text == 'one'


def test_a_crash_loop_is_reported():
    """On standard error, as an event, and in `status`; the others go on, and a reload starts it at once."""
    with Gateway('log events stdout\nlisten 127.0.0.1:{port} plain serve\n'
                 'site localhost { files {folder} on /portcullis.conf; respond 200 "one" }') as gateway:
        def row():
            return [row for row in gateway.status() if row['process'] == 'files'][0]
        end = time.monotonic() + 25
        while not any('files ends again and again' in line for line in gateway.stderr):
            assert time.monotonic() < end, gateway.stderr
            for pid in gateway.pids('files'):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        assert get(gateway.port, '/').text == 'one'
        wait_until(lambda: any('files ends again and again' in event.get('message', '') for event in gateway.events), lambda: gateway.events)

        def waiting():
            """Once more, and again, until it waits for longer than a look takes on this machine."""
            for pid in gateway.pids('files'):
                os.kill(pid, signal.SIGKILL)
            found = row()
            return found if found['state'] == 'waiting to be started again' else None
        found = wait_until(waiting, row)
        assert found['restarts'] >= 5 and found['pid'] == 0
        gateway.reload_well()
        gateway.settle()
        assert get(gateway.port, '/portcullis.conf').status == 200


def test_by_nobody(folder):
    """Without root everything keeps the starter's uid; high ports work."""
    if os.getuid():
        pytest.skip('needs root to become somebody else')
    os.chmod(folder, 0o777)
    nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups']
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 "one" }', folder=folder, prefix=nobody) as gateway:
        for process in gateway.left():
            with open(f'/proc/{process.pid}/status', encoding='utf-8') as file:
                assert re.search(r'Uid:\s+65534\s+65534\s+65534', file.read())
        assert get(gateway.port, '/', tls=tls_context()).text == 'one'


def test_from_a_folder_that_only_the_starter_may_enter():
    """As root: program, configuration, state and root below a 0700 home."""
    home = new_folder()
    try:
        os.mkdir(home + '/home', 0o700)
        inner = home + '/home/folder'
        os.mkdir(inner, 0o755)
        executable = inner + '/portcullis'
        subprocess.run(['cp', program(), executable], check=True)
        os.mkdir(inner + '/site', 0o755)
        with open(inner + '/site/page.txt', 'w', encoding='utf-8') as file:
            file.write('page')
        with Gateway('listen 127.0.0.1:{port}\nsite localhost { files {folder}/site }', folder=inner,
                     executable=executable) as gateway:
            assert get(gateway.port, '/page.txt', tls=tls_context()).text == 'page'
            os.kill(gateway.pid('files'), signal.SIGKILL)
            os.unlink(executable)
            assert get(gateway.port, '/page.txt', tls=tls_context()).text == 'page'
    finally:
        subprocess.run(['rm', '-rf', home], check=True)


