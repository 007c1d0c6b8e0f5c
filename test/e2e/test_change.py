"""Changes of what runs: reload, SIGHUP."""
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from client import Client, get
from gateway import Gateway, program, run_command, wait_until
from origin import Origin
from traffic import snapshots_of

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


def test_fifty_signals_over_a_second_are_few_changes(gateway):
    """However fast a change is: what comes within a second of the first is one more. The last one's text runs."""
    before = number(gateway.reload(SITE % 'before'))
    began = time.monotonic()
    for i in range(50):
        gateway.write(SITE % f'signal {i}')
        gateway.signal(signal.SIGHUP)
        time.sleep(0.02)
    seconds = time.monotonic() - began
    wait_until(lambda: text(gateway) == 'signal 49', 'the last signal')
    assert before + 2 <= number(gateway.reload()) <= before + 3 + seconds
    # Who waits for an answer waits for his change, and not for a second.
    gateway.write(SITE % 'again')
    gateway.signal(signal.SIGHUP)
    number(gateway.reload(SITE % 'reloaded'))
    assert text(gateway) == 'reloaded'


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


# ---- requests that take longer than many changes

def begin_upload(gateway, origin):
    client, before = Client(gateway.port), len(origin.requests)
    client.send('POST /app HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n' + 'a' * 100000)
    wait_until(lambda: len(origin.requests) > before, 'the upload to begin')
    return client


def end_upload(client):
    client.send('a' * 100000)
    response = client.response()
    client.close()
    return response.status == 200 and json.loads(response.body)['length'] == 200000


def test_a_long_request_holds_up_no_change():
    """It keeps its own configuration; there are places for eight, and the next one goes where nobody has one. Only where each
    is taken a change waits, for the oldest."""
    with Origin() as origin, Gateway(SITE % 'start') as gateway:
        site = f'listen 127.0.0.1:{{port}} plain serve\nsite localhost {{ proxy 127.0.0.1:{origin.port} on /app; respond 200 "%s" }}'
        number(gateway.reload(site % 'first'))
        uploads = [begin_upload(gateway, origin)]
        for i in range(20):
            number(gateway.reload(site % f'text {i}'))
            assert text(gateway) == f'text {i}'
        for i in range(6):
            uploads.append(begin_upload(gateway, origin))
            number(gateway.reload(site % f'more {i}'))
        gateway.write(site % 'waits')
        waiting = subprocess.Popen([program(), 'reload', '-c', gateway.config], env=gateway.env, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: snapshots_of(gateway.pid('log')) == 2, 'who has no requests to be prepared')
        assert [text(gateway) for _ in range(10)] == ['more 5'] * 10 and waiting.poll() is None
        assert end_upload(uploads.pop(0))
        assert waiting.wait(30) == 0 and text(gateway) == 'waits'
        assert all(end_upload(one) for one in uploads)


# ---- the text of a configuration

TEXT = '''portcullis 1
# the front
listen 127.0.0.1:8080 plain serve
site a.test {respond 200 "on" on /x # why
  include %s/parts/*.conf


  respond 200   $GREETING
}
'''


@pytest.fixture
def text_file(folder):
    os.mkdir(folder + '/parts')
    for name, part in (('parts/one.conf', '# one\nrespond   404 on /one\n'), ('main.conf', TEXT % folder)):
        with open(f'{folder}/{name}', 'w', encoding='utf-8') as file:
            file.write(part)
    return folder + '/main.conf'


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def test_fmt_prints_checks_and_writes(text_file, folder):
    laid_out = ('portcullis 1\n# the front\nlisten 127.0.0.1:8080 plain serve\nsite a.test {\n    respond 200 "on" on /x # why\n'
                f'    include {folder}/parts/*.conf\n\n    respond 200 $GREETING\n}}\n')
    before = read(text_file)
    os.chmod(text_file, 0o640)
    done = run_command('fmt', text_file)
    assert (done.returncode, done.stdout, done.stderr) == (0, laid_out, ''), done
    done = run_command('fmt', '--check', text_file)
    assert done.returncode == 1 and text_file in done.stderr and read(text_file) == before
    assert run_command('fmt', '--write', text_file).returncode == 0
    assert read(text_file) == laid_out and os.stat(text_file).st_mode & 0o777 == 0o640
    assert run_command('fmt', '--check', '-c', text_file).returncode == 0
    # A part that others include, by itself.
    assert run_command('fmt', folder + '/parts/one.conf').stdout == '# one\nrespond 404 on /one\n'
    assert sorted(os.listdir(folder)) == ['main.conf', 'parts']


def test_fmt_leaves_what_it_cannot_read_or_write(text_file, folder):
    with open(folder + '/bad.conf', 'w', encoding='utf-8') as file:
        file.write('portcullis 1\nsite a {\n')
    done = run_command('fmt', '--write', folder + '/bad.conf')
    assert done.returncode == 1 and 'bad.conf:2:8: error: this block is never closed' in done.stderr
    assert read(folder + '/bad.conf') == 'portcullis 1\nsite a {\n'
    os.symlink(text_file, folder + '/link.conf')
    done = run_command('fmt', '--write', folder + '/link.conf')
    assert done.returncode == 1 and 'it is a symlink' in done.stderr and os.path.islink(folder + '/link.conf')
    assert run_command('fmt', '--write', '--check', text_file).returncode == 2
    assert run_command('fmt', folder + '/missing.conf').returncode == 1


def test_config_as_text_and_as_json(text_file, folder):
    env = {'GREETING': 'hello "you"'}
    text = run_command('config', text_file, env=env)
    assert text.returncode == 0 and f'# {folder}/parts/one.conf\n    respond 404 on /one\n' in text.stdout, text
    assert 'respond 200 "hello \\"you\\""' in text.stdout and 'include' not in text.stdout
    done = run_command('config', '--json', text_file, env=env)
    data = json.loads(done.stdout)
    site = data['statements'][1]
    assert data['portcullis'] == 1 and site['words'] == ['site', 'a.test'] and site['line'] == 4
    assert [one['words'] for one in site['block']] == [['respond', '200', 'on', 'on', '/x'], ['respond', '404', 'on', '/one'],
                                                       ['respond', '200', 'hello "you"']]
    assert site['block'][0]['quoted'] == [2] and site['block'][1]['file'] == folder + '/parts/one.conf'
    with open(folder + '/a.json', 'w', encoding='utf-8') as file:
        json.dump(data, file)
    with open(folder + '/plain.conf', 'w', encoding='utf-8') as file:
        file.write(run_command('config', folder + '/a.json').stdout)
    assert run_command('check', folder + '/plain.conf').returncode == 0
    again = json.loads(run_command('config', '--json', folder + '/plain.conf').stdout)

    def words(statements):
        return [(one['words'], one.get('quoted', []), words(one.get('block', []))) for one in statements]
    assert [s['words'] for s in again['statements']] == [s['words'] for s in data['statements']]
    assert words(again['statements'])[1][2][0] == words(data['statements'])[1][2][0]
    assert run_command('config', text_file, env={'GREETING': 'a\ab'}).returncode == 1


def test_config_does_not_lose_bytes_in_json(folder):
    with open(folder + '/bytes.conf', 'wb') as file:
        file.write(b'portcullis 1\nsite a.test { respond 200 "\xff" }\n')
    done = run_command('config', '--json', folder + '/bytes.conf')
    assert (done.returncode, done.stdout) == (1, '') and 'no UTF-8' in done.stderr


def test_diff(folder):
    with Gateway(SITE % '$GREETING' + 'site old.test { respond 410 }\ntable t { 192.0.2.1 192.0.2.2 }', env={'GREETING': 'hi'}) as gateway:
        done = run_command('diff', gateway.config, '-c', gateway.config, env={'PORTCULLIS_STATE': gateway.state})
        assert (done.returncode, done.stdout, done.stderr) == (0, '', ''), done
        before = read(gateway.config)
        with open(folder + '/new.conf', 'w', encoding='utf-8') as file:
            file.write('# new\n' + before.replace('$GREETING', 'bye').replace('192.0.2.2', '192.0.2.3')
                       .replace('site old.test { respond 410 }', 'site new.test {\n  respond 200\n}'))
        assert run_command('fmt', '--write', folder + '/new.conf').returncode == 0
        done = run_command('diff', folder + '/new.conf', '-c', gateway.config)
        assert done.returncode == 1, done
        assert sorted(line.split(':', 3)[0][0] + line.split(': ', 1)[1] for line in done.stdout.splitlines()) == [
            '+site new.test { respond 200 }', '+table t: 192.0.2.3', '-site old.test { respond 410 }', '-table t: 192.0.2.2',
            '~site localhost: respond 200 bye (was: respond 200 hi)']
        assert f'- {gateway.config}:5:1: site old.test' in done.stdout and f'+ {folder}/new.conf:6:1: site new' in done.stdout
        rows = json.loads(run_command('diff', '--json', folder + '/new.conf', '-c', gateway.config).stdout)
        assert {'change': 'changed', 'file': folder + '/new.conf', 'line': 5, 'column': 18, 'in': ['site localhost'],
                'statement': 'respond 200 bye', 'was': 'respond 200 hi'} in rows and len(rows) == 5, rows
        done = run_command('diff', folder + '/missing.conf', '-c', gateway.config)
        assert done.returncode == 1 and 'there is no such file' in done.stderr
    done = run_command('diff', folder + '/new.conf', env={'PORTCULLIS_STATE': folder + '/nobody'})
    assert done.returncode == 1 and 'not running' in done.stderr
