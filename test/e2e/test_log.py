"""Where records go."""
import calendar
import glob
import json
import os
import random
import re
import shutil
import ssl
import subprocess
import time
import unicodedata

import pytest

from client import Client, Load, get, tls_context
from gateway import Gateway, run_command, wait_until
from mounts import Syslog, in_mounts, inside, own_dev
from origin import Origin

SITE = 'listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "ok" }\n'


def lines(path):
    try:
        with open(path, encoding='utf-8') as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def test_a_file():
    with Gateway('log access {folder}/logs/access.json\n' + SITE) as gateway:
        get(gateway.port, '/one')
        path = gateway.folder + '/logs/access.json'
        wait_until(lambda: lines(path), 'a line')
        assert json.loads(lines(path)[0])['path'] == '/one'
        assert not os.stat(path).st_mode & 0o007 and not gateway.records


def test_combined():
    with Gateway('log access {folder}/access.log format combined\n' + SITE) as gateway:
        get(gateway.port, '/one?a=b', 'Referer: http://r/', 'User-Agent: "odd"')
        wait_until(lambda: lines(gateway.folder + '/access.log'), 'a line')
        line = lines(gateway.folder + '/access.log')[0]
        assert line.startswith('127.0.0.1 - - [') and '"GET /one?a=b HTTP/1.1" 200 ' in line
        assert line.endswith('"http://r/" "\\x22odd\\x22"')


def test_off():
    with Gateway('log access off\n' + SITE) as gateway:
        get(gateway.port, '/one')
        gateway.reload_well('log access stdout\n' + SITE)
        get(gateway.port, '/two')
        gateway.record('/two')
        assert [r['path'] for r in gateway.records] == ['/two']


def test_without_a_line_it_goes_to_stdout():
    with Gateway(SITE) as gateway:
        get(gateway.port, '/one')
        assert gateway.record('/one')['status'] == 200


@pytest.mark.parametrize('way', ['renamed', 'removed-after'])
def test_rotation_under_load(way):
    """A log that is renamed is made again; every request is in one of the files, once."""
    with Gateway('log access {folder}/logs/access.json\n' + SITE) as gateway:
        path = gateway.folder + '/logs/access.json'
        with Load(gateway.port, threads=3, path='/load/') as load:
            for i in range(3):
                wait_until(lambda: len(lines(path)) > 20, lambda: f'lines in {path}: {os.listdir(gateway.folder + "/logs")}')
                os.rename(path, f'{path}.{i}')
                load.wait_for(50)
            wait_until(lambda: len(lines(path)) > 20, 'lines in the last file')
        assert not load.failed

        def logged():
            return [json.loads(line)['path'] for name in glob.glob(path + '*') for line in lines(name)]
        wait_until(lambda: len(logged()) >= load.done, lambda: f'{len(logged())} of {load.done} lines')
        assert sorted(logged()) == sorted('/load/' + token for token in load.tokens)
        if way == 'removed-after':
            os.unlink(path)
            get(gateway.port, '/again')
            wait_until(lambda: os.path.exists(path), 'the file made again')


def test_a_folder_that_log_may_not_write():
    """As root the file is made by the supervisor, and made again after rotation."""
    with Gateway('log access {folder}/access.json\n' + SITE) as gateway:
        path = gateway.folder + '/access.json'
        get(gateway.port, '/one')
        wait_until(lambda: lines(path), 'a line')
        os.rename(path, path + '.1')
        wait_until(lambda: get(gateway.port, '/two').status == 200 and lines(path), 'a line in a new file')


def test_what_a_peer_says_is_escaped():
    with Gateway(SITE) as gateway:
        get(gateway.port, '/x%22?q=%1b[31m', 'User-Agent: "\\\t<script>', 'Referer: caf\u00e9')
        record = wait_until(lambda: gateway.records, 'a record')[0]
        raw = [line for line in gateway.stdout if 'user_agent' in line][0]
        assert all(' ' <= c for c in raw) and record['user_agent'] == '"\\\t<script>' and record['status'] == 200


def test_sigkill_of_log_loses_no_request():
    with Gateway(SITE) as gateway, Load(gateway.port, threads=2) as load:
        for _ in range(2):
            gateway.settle()
            os.kill(gateway.pid('log'), 9)
            load.wait_for(100)
        load.stop()
        assert not load.failed
        gateway.record('/load/' + load.tokens[-1])


def test_events():
    with Gateway(SITE) as gateway:
        os.kill(gateway.pid('worker'), 9)
        event = wait_until(lambda: [e for e in gateway.events if 'worker' in str(e)], lambda: f'an event: {gateway.stdout}')[0]
        assert event['timestamp'] and event['event_type'] in ('anomaly', 'alert', 'update')


# ---- rotation, continued

def test_a_removed_file_has_what_was_written_to_it():
    """Who holds the removed file open finds in it, or in the new one, each request once."""
    with Gateway('log access {folder}/logs/access.json\n' + SITE) as gateway:
        path = gateway.folder + '/logs/access.json'
        with Load(gateway.port, threads=2) as load:
            wait_until(lambda: len(lines(path)) > 20, 'lines')
            with open(path, encoding='utf-8') as removed:
                os.unlink(path)
                load.wait_for(100)
                wait_until(lambda: len(lines(path)) > 20, 'lines in the new file')
                load.stop()
                assert not load.failed

                def logged():
                    removed.seek(0)
                    return [json.loads(line)['path'] for line in removed.read().splitlines() + lines(path)]
                wait_until(lambda: len(logged()) >= load.done, lambda: f'{len(logged())} of {load.done} lines')
                assert sorted(logged()) == sorted('/load/' + token for token in load.tokens)


def test_a_truncated_file_goes_on_from_its_beginning():
    """logrotate's copytruncate: no hole is left, and what comes after is whole."""
    with Gateway('log access {folder}/access.json\n' + SITE) as gateway:
        path = gateway.folder + '/access.json'
        for i in range(20):
            get(gateway.port, f'/before/{i}')
        wait_until(lambda: len(lines(path)) == 20, 'the lines before')
        os.truncate(path, 0)
        get(gateway.port, '/after')
        wait_until(lambda: lines(path), 'a line')
        assert [json.loads(line)['path'] for line in lines(path)] == ['/after']


def test_a_log_that_cannot_be_opened_ends_the_start(folder):
    with open(folder + '/file', 'w', encoding='utf-8'):
        pass
    with open(folder + '/portcullis.conf', 'w', encoding='utf-8') as file:
        file.write(f'portcullis 1\nstate {folder}/state\nlog access {folder}/file/access.json\n'
                   'listen 127.0.0.1:1 plain serve\nsite localhost { respond 200 }\n')
    done = run_command('run', '-c', folder + '/portcullis.conf')
    assert done.returncode == 1 and re.search(r'portcullis\.conf:3:\d+: .*file/access\.json: Not a directory', done.stderr), done


def test_a_reload_with_a_log_that_cannot_be_opened_changes_nothing():
    with Gateway(SITE) as gateway:
        done = gateway.reload('log events /proc/nowhere/x.json\n' + SITE)
        assert done.returncode == 1 and re.search(r'portcullis\.conf:3:\d+: log events /proc/nowhere/x\.json', done.stderr), done
        get(gateway.port, '/still')
        gateway.record('/still')


def test_a_log_that_went_away_holds_nothing_up(folder, test_build):
    """Its folder is gone: requests are served, a renewed certificate is taken over, and once it is back lines come."""
    for name in ('one', 'two'):
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', f'{name}.key',
                        '-out', f'{name}.crt', '-subj', f'/CN={name}', '-addext', 'subjectAltName=DNS:a.test'], cwd=folder, check=True,
                       capture_output=True)

    def put(name):
        for kind in ('crt', 'key'):
            shutil.copy(f'{folder}/{name}.{kind}', f'{folder}/new.{kind}')
            os.rename(f'{folder}/new.{kind}', f'{folder}/site.{kind}')
    put('one')
    text = ('log access {folder}/logs/access.json\nlisten 127.0.0.1:{port}\n'
            'site a.test { certificate file {folder}/site.crt {folder}/site.key; respond 200 "ok" }')
    with Gateway(text, folder=folder) as gateway:
        def certificate():
            with Client(gateway.port, tls_context(), 'a.test') as client:
                assert client.get('/').text == 'ok'
                return ssl.DER_cert_to_PEM_cert(client.socket.getpeercert(True))

        def file(name):
            with open(f'{folder}/{name}.crt', encoding='utf-8') as text:
                return text.read()
        assert certificate() == file('one')
        shutil.rmtree(folder + '/logs')
        with open(folder + '/logs', 'w', encoding='utf-8'):
            pass
        wait_until(lambda: certificate() and any('logs/access.json: Not a directory' in line for line in gateway.stderr), lambda: gateway.stderr)
        put('two')
        gateway.move_clock(61, 4)  # a handshake that is under way has ten
        wait_until(lambda: certificate() == file('two'), lambda: f'the new certificate: {gateway.stderr}')
        os.unlink(folder + '/logs')
        wait_until(lambda: certificate() and lines(folder + '/logs/access.json'), 'lines in a file that was made again')
        wait_until(lambda: any('is written to again' in line for line in gateway.stderr), lambda: gateway.stderr)


# ---- syslog

def syslog_paths(syslog, priority=30):
    return [json.loads(text)['path'] for level, _, text in list(syslog.messages) if level == priority]


def test_syslog(folder):
    prefix = own_dev(folder)
    syslog = Syslog(folder + '/dev/log')
    with Gateway('log access syslog\nlog events syslog\n' + SITE, folder=folder, prefix=prefix) as gateway:
        get(gateway.port, '/one', 'User-Agent: a\tb')
        wait_until(lambda: syslog_paths(syslog), lambda: f'a message: {syslog.messages}')
        priority, pid, text = syslog.messages[0]
        assert priority == 3 * 8 + 6 and pid == gateway.pid('log')
        assert json.loads(text)['user_agent'] == 'a\tb'
        os.kill(gateway.pid('worker'), 9)
        event = wait_until(lambda: [json.loads(m[2]) for m in syslog.messages if m[0] == 3 * 8 + 5], 'an event')[0]
        assert event['event_type'] == 'anomaly' and 'worker' in event['message']
        assert not gateway.records and not gateway.events
        gateway.reload_well('log access syslog format combined\n' + SITE)
        get(gateway.port, '/two')
        wait_until(lambda: '"GET /two HTTP/1.1" 200' in syslog.messages[-1][2], 'a line of another format')
    syslog.stop()


def test_a_syslog_daemon_that_is_started_again(folder):
    """Without it requests are served and their lines wait; with it they come, each once."""
    prefix = own_dev(folder)
    with Gateway('log access syslog\n' + SITE, folder=folder, prefix=prefix) as gateway:
        asked = [f'/early/{i}' for i in range(3)]
        for path in asked:
            assert get(gateway.port, path).status == 200
        wait_until(lambda: any('log access: /dev/log: No such file' in line for line in gateway.stderr), lambda: gateway.stderr)
        syslog = Syslog(folder + '/dev/log')
        wait_until(lambda: len(syslog_paths(syslog)) == 3, 'the lines that waited')
        for round_ in range(2):
            syslog.stop()
            for i in range(10):
                asked.append(f'/away/{round_}/{i}')
                assert get(gateway.port, asked[-1]).status == 200
            syslog.start()
            wait_until(lambda: len(syslog_paths(syslog)) == len(asked), lambda: f'{len(syslog_paths(syslog))} of {len(asked)}')
        # Two workers have a ring each: their lines may change places.
        assert sorted(syslog_paths(syslog)) == sorted(asked)
        said = [line for line in gateway.stderr if '/dev/log' in line]
        assert len([line for line in said if 'written to again' in line]) == len([line for line in said if 'wait' in line]) <= 3
        assert gateway.counter('lines_dropped') == 0
    syslog.stop()


def test_a_syslog_daemon_that_does_not_read(folder):
    """Nobody waits for it; what it did not get is counted and told."""
    prefix = own_dev(folder)
    syslog = Syslog(folder + '/dev/log', reads=False)
    with Gateway('log access syslog\n' + SITE, folder=folder, prefix=prefix) as gateway:
        sent = fill_the_log(gateway)
        syslog.begin_to_read()
        wait_until(lambda: len(syslog_paths(syslog)) + lost_lines(gateway)['lines'] == sent,
                   lambda: f'{len(syslog_paths(syslog))} + {lost_lines(gateway)} of {sent}')
        lost = lost_lines(gateway)
        assert lost['access'] + lost['unread'] == lost['lines'] == gateway.counter('lines_dropped')
        assert len(set(syslog_paths(syslog))) == len(syslog_paths(syslog))
        get(gateway.port, '/last')
        wait_until(lambda: syslog_paths(syslog)[-1] == '/last', 'the last line')
    syslog.stop()


def fill_the_log(gateway):
    """Requests until lines are dropped. How many; each is answered."""
    sent, query = 0, 'q' * 7000
    with Client(gateway.port) as client:
        while gateway.counter('lines_dropped') == 0:
            for _ in range(100):
                assert client.get(f'/{sent}?{query}').status == 200
                sent += 1
            assert sent < 4000, 'nothing was dropped'
    return sent


def lost_lines(gateway):
    """What the events say is missing, summed."""
    found = [e['anomaly'] for e in list(gateway.events) if e.get('message') == 'log lines were dropped']
    return {key: sum(one[key] for one in found) for key in ('lines', 'access', 'events', 'unread')}


# ---- a full disk

def small_disk(folder, name='logs', size='1m'):
    """A file system of that size at folder/name, with `filler` in it that leaves little room."""
    return in_mounts(f'''mkdir {folder}/{name}
        mount -t tmpfs -o size={size},mode=755 none {folder}/{name}
        head -c 800k /dev/zero >{folder}/{name}/filler''')


def grow(gateway, path):
    subprocess.run(['nsenter', '-t', str(gateway.process.pid), '-m', 'mount', '-o', 'remount,size=64m', path], check=True)


def test_a_full_disk(folder):
    """Requests are answered, what is lost is counted and told, and it resumes by itself; at no time does the file
    end in the middle of a line."""
    with Gateway(f'log access {folder}/logs/access.json\n' + SITE, folder=folder, prefix=small_disk(folder)) as gateway:
        seen = f'/proc/{gateway.process.pid}/root{folder}/logs'

        def whole():
            with open(seen + '/access.json', 'rb') as file:
                data = file.read()
            assert data.endswith(b'\n'), data[-100:]
            return [json.loads(line)['path'] for line in data.splitlines()]
        sent, count = fill_the_log(gateway), len(whole())
        assert count and whole() == whole()
        os.unlink(seen + '/filler')
        wait_until(lambda: len(whole()) > count, 'more lines', seconds=5)
        grow(gateway, folder + '/logs')
        wait_until(lambda: len(whole()) + lost_lines(gateway)['lines'] == sent,
                   lambda: f'{len(whole())} + {lost_lines(gateway)} of {sent}')
        assert gateway.counter('lines_dropped') == lost_lines(gateway)['lines'] > 0
        assert len(set(whole())) == len(whole())
        get(gateway.port, '/last')
        wait_until(lambda: whole()[-1] == '/last', 'the last line')


def test_sigkill_of_log_on_a_full_disk_leaves_no_half_line(folder):
    with Gateway(f'log access {folder}/logs/access.json\n' + SITE, folder=folder, prefix=small_disk(folder)) as gateway:
        seen = f'/proc/{gateway.process.pid}/root{folder}/logs'
        fill_the_log(gateway)
        gateway.settle()
        killed = gateway.pid('log')
        os.kill(killed, 9)
        wait_until(lambda: gateway.pid('log') != killed, 'another log')
        gateway.settle()
        os.unlink(seen + '/filler')
        grow(gateway, folder + '/logs')

        def is_written_again():
            get(gateway.port, '/last')  # dropped for as long as what waited before it takes all the room
            return any(json.loads(line)['path'] == '/last' for line in lines(seen + '/access.json'))
        wait_until(is_written_again, 'the last line')


def fill(path):
    with open(path, 'ab', buffering=0) as file, pytest.raises(OSError, match='No space left'):
        while True:
            file.write(bytes(1024))


def test_a_start_on_a_full_disk(folder):
    prefix = small_disk(folder, 'state')
    prefix[-2] = prefix[-2].replace('\nexec', f'\nhead -c 1m /dev/zero >>{folder}/state/filler || true\nexec')
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 }\n', folder=folder, prefix=prefix, ready=False) as gateway:
        assert gateway.wait() == 1
        assert any('root.key cannot be written: No space left' in line for line in gateway.stderr), gateway.stderr


def test_a_reload_on_a_full_disk(folder):
    """What runs goes on; a reload works, or says why not and works once there is room."""
    text = 'listen 127.0.0.1:{port}\nsite localhost { respond 200 "%s" }\n'
    with Gateway(text % 'one', folder=folder, prefix=small_disk(folder, 'state', '1500k')) as gateway:
        seen = f'/proc/{gateway.process.pid}/root{folder}/state'
        fill(seen + '/filler')
        assert get(gateway.port, tls=tls_context()).text == 'one'
        gateway.write(text % 'two')
        done = inside(gateway, 'reload', '-c', gateway.config)
        assert done.returncode == 0, done
        assert get(gateway.port, tls=tls_context()).text == 'two'
        # A certificate that has to be made needs no room; one whose CA has to be kept does, and that stands.
        gateway.write(text % 'three' + 'site other.test { respond 200 "other" }\n')
        done = inside(gateway, 'reload', '-c', gateway.config)
        assert done.returncode == 0 or 'No space left' in done.stderr, done
        assert get(gateway.port, tls=tls_context()).text == ('two' if done.returncode else 'three')
        assert inside(gateway, 'status', '--json', '-c', gateway.config).returncode == 0
        os.unlink(seen + '/filler')
        assert inside(gateway, 'reload', '-c', gateway.config).returncode == 0
        assert get(gateway.port, tls=tls_context(), name='other.test').text == 'other'


# ---- what a line says

def test_every_field_is_true():
    """Each member beside what the client knows of the same exchange."""
    def behave(exchange):
        exchange.read_body()
        return exchange.reply(203, b'x' * 1000, 'X-One: two')
    with Origin(behave) as origin, Gateway('listen 127.0.0.1:{port}\nsite localhost { proxy 127.0.0.1:%d }' % origin.port) as gateway:
        context, session = tls_context(), None
        for resumed in (False, True):
            with Client(gateway.port, context, session=session) as client:
                head = ('POST /a/../b%c3%a9/%7e?q=%20&r HTTP/1.1\r\nHost: LOCALHOST\r\nUser-Agent: u "1"\r\nReferer: http://r/\r\n'
                        'Content-Length: 5\r\n\r\n')
                before = time.time()
                client.send(head + 'hello')
                response = client.response()
                after = time.time()
                assert response.status == 203
                port, version, cipher = client.socket.getsockname()[1], client.socket.version(), client.socket.cipher()[0]
                assert client.socket.session_reused == resumed
                session = client.socket.session
            record = wait_until(lambda: [r for r in gateway.records if r['client_port'] == port], 'the record')[0]
            assert (record['client'], record['method'], record['host'].lower()) == ('127.0.0.1', 'POST', 'localhost')
            assert (record['path'], record['query']) == ('/b\u00e9/~', 'q=%20&r')
            assert (record['protocol'], record['status'], record['end']) == ('HTTP/1.1', 203, 'ok')
            assert record['bytes_in'] == len(head) + 5
            assert record['bytes_out'] == 1000 + len(response_head(response)), record
            assert record['upstream'] == f'127.0.0.1:{origin.port}'
            assert 0 < record['upstream_ms'] <= record['duration_ms'] <= (after - before) * 1000 + 1
            assert (record['tls_version'], record['tls_cipher'], record['tls_resumed']) == (version, cipher, resumed)
            assert record['user_agent'] == 'u "1"' and record['referer'] == 'http://r/'
            assert re.fullmatch('[0-9a-f]{32}', record['request_id']) and record['worker'] < len(gateway.pids('worker'))
            assert before - 0.01 <= stamp(record['time']) <= after + 0.01
        assert gateway.records[0]['request_id'] != gateway.records[1]['request_id']
        request = 'GET /group HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
        done = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{gateway.port}', '-servername', 'localhost', '-groups',
                               'P-384', '-tls1_3', '-quiet'], input=request, capture_output=True, text=True, timeout=30, check=False)
        assert ' 203 ' in done.stdout, done
        assert gateway.record('/group')['tls_group'] in ('secp384r1', 'P-384')


def response_head(response):
    head = [f'{response.version} {response.status} {response.reason}'] + [f'{n}: {v}' for n, v in response.fields]
    return '\r\n'.join(head) + '\r\n\r\n'


def stamp(text):
    """Seconds since 1970 of a time in a record."""
    whole, _, micro = text.rstrip('Z').partition('.')
    return calendar.timegm(time.strptime(whole, '%Y-%m-%dT%H:%M:%S')) + int(micro) / 1e6


def test_an_event_is_shaped_like_eve():
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 }') as gateway:
        with Client(gateway.port) as client:
            port = client.socket.getsockname()[1]
            client.send(b'\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff')
            while client.more():
                pass
        event = wait_until(lambda: [e for e in gateway.events if e['event_type'] == 'tls'], 'an event')[0]
        assert (event['src_ip'], event['src_port'], event['dest_port']) == ('127.0.0.1', port, gateway.port)
        assert event['proto'] == 'TCP' and event['dest_ip'] == '127.0.0.1', event
        assert event['tls']['failure'] and abs(stamp(event['timestamp']) - time.time()) < 60


HARD = ['\x00', '\x01', '\x07', '\x08', '\x0b', '\x1b[2J', '\x1b]0;title\x07', '\x7f', '\x80', '\x85', '\x9b31m', '\u2028', '\u2029',
        '\u202e', '\u2066', '\u200f', '\ufeff', '\ufffe', '\U000e0001', '"', '\\', '","end":"ok', '\\u0000', '%0a', '</script>', 'a', '\t']
HARD_BYTES = [b'\xff', b'\xc0\xaf', b'\xed\xa0\x80', b'\xf8\x88\x80\x80\x80', b'\xe2\x80', b'\xc3', b'\xf4\x90\x80\x80', b'\x9b', b'\xc2\x9b']


def hard_text(rng):
    parts = [rng.choice([rng.choice(HARD).encode('utf-8'), rng.choice(HARD_BYTES), bytes([rng.randrange(256)])])
             for _ in range(rng.randrange(1, 40))]
    return b''.join(parts).replace(b'\r', b'').replace(b'\n', b'')


@pytest.mark.parametrize('kind', ['json', 'combined'])
def test_no_peer_can_write_a_line(kind):
    """Hostile bytes in every place that is logged: a line for each answer, each parses, each is printable, and none
    changes what stands around it."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    places = ['agent', 'referer', 'query', 'path', 'host', 'method']
    with Gateway(f'log access {{folder}}/logs/access format {kind}\n' + SITE) as gateway:
        path, sent = gateway.folder + '/logs/access', 120
        for _ in range(sent):
            with Client(gateway.port) as client:
                place = rng.choice(places + ['all'])
                say = {name: hard_text(rng) if place in (name, 'all') else name.encode() for name in places}
                client.send(b''.join((
                    say['method'] if place == 'method' else b'GET', b' /', say['path'], b'?', say['query'], b' HTTP/1.1\r\nHost: ',
                    say['host'] if place == 'host' else b'localhost', b'\r\nUser-Agent: ', say['agent'], b'\r\nReferer: ',
                    say['referer'], b'\r\nConnection: close\r\n\r\n')))
                assert client.response().status in (200, 400, 405, 414, 421, 501), seed
        found = wait_until(lambda: len(raw_lines(path)) >= sent and raw_lines(path), lambda: f'{len(raw_lines(path))}, seed {seed}')
        assert len(found) == sent, seed
        for line in found:
            text = line.decode('utf-8')
            assert not {unicodedata.category(c) for c in text} & {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}, (seed, text)
            if kind == 'json':
                record = json.loads(text, object_pairs_hook=no_twins)
                assert record['client'] == '127.0.0.1' and {'time', 'method', 'path', 'status', 'end', 'request_id'} <= set(record), (seed, text)
            else:
                assert re.fullmatch(r'127\.0\.0\.1 - - \[[^]]+\] "[^"]*" \d{3} \d+ "[^"]*" "[^"]*"', text), (seed, text)


def raw_lines(path):
    try:
        with open(path, 'rb') as file:
            return file.read().split(b'\n')[:-1]
    except FileNotFoundError:
        return []


def no_twins(pairs):
    assert len({key for key, _ in pairs}) == len(pairs), pairs
    return dict(pairs)
