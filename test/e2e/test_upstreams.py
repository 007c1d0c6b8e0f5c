"""Several origins behind one gateway: who gets what, what a lost one costs, and what a reload keeps."""
import collections
import contextlib
import json
import os
import shutil
import ssl
import subprocess
import threading

import pytest

from client import Client, get
from gateway import Gateway, new_folder, run_command, wait_until
from origin import Origin

PLAIN = 'listen 127.0.0.1:{port} plain serve\nlog access stdout\n'


class Named:
    """An origin that says who it is, and which Host it was asked for."""

    def __init__(self, name, port=0):
        self.name, self.paths = name, []
        self.origin = Origin(self.answer, port=port)

    def answer(self, exchange):
        self.paths.append(exchange.target)
        return exchange.reply(200, self.name)

    @property
    def port(self):
        return self.origin.port


@pytest.fixture
def three():
    with contextlib.ExitStack() as stack:
        found = [Named(name) for name in 'abc']
        for one in found:
            stack.enter_context(one.origin)
        yield found


def upstream(three, more='', options=('', '', '')):
    lines = ''.join(f'    origin 127.0.0.1:{one.port} {option}\n' for one, option in zip(three, options))
    return PLAIN + f'upstream app {{\n{lines}    {more}\n}}\nsite localhost {{ proxy app }}\n'


def ask(gateway, count, *fields):
    """How often each answered, on connections of their own."""
    found = collections.Counter()
    for _ in range(count):
        response = get(gateway.port, '/', *fields)
        found[response.text if response.status == 200 else response.status] += 1
    return found


def test_weights(three):
    with Gateway(upstream(three, options=('weight 3', '', ''))) as gateway:
        found = ask(gateway, 200)
        # Each worker counts by itself, and not all of them get as many connections.
        assert abs(found['a'] - 120) < 12 and abs(found['b'] - 40) < 8 and abs(found['c'] - 40) < 8, found


def test_ip_hash_and_cookie(three):
    with Gateway(upstream(three, 'balance ip-hash')) as gateway:
        assert len(ask(gateway, 30)) == 1
        gateway.reload_well(upstream(three, 'balance hash cookie session'))
        seen = {}
        for session in range(40):
            found = ask(gateway, 3, f'Cookie: x=1; session={session}')
            assert len(found) == 1, found
            seen[session] = next(iter(found))
        assert set(seen.values()) == {'a', 'b', 'c'}
        # Without the first: its sessions move, nobody else's.
        gateway.reload_well(upstream(three[1:], 'balance hash cookie session'))
        for session, before in seen.items():
            now = next(iter(ask(gateway, 1, f'Cookie: session={session}')))
            assert now == before if before != 'a' else now in 'bc'


def test_a_lost_origin_fails_nothing(three):
    """It goes away under load: its connections are refused, and no request fails for that."""
    with Gateway(upstream(three, 'eject 3 for 1h')) as gateway:
        over, bad, done = threading.Event(), [], []

        def load():
            with Client(gateway.port) as client:
                while not over.is_set():
                    response = client.get('/load')
                    done.append(response.text)
                    if response.status != 200:
                        bad.append(response.status)
        threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
        for one in threads:
            one.start()
        wait_until(lambda: len(done) > 200, 'some requests')
        three[0].origin.__exit__(None, None, None)
        wait_until(lambda: gateway.counter('origin_ejected') >= 1, 'its ejection')
        at = len(done)
        wait_until(lambda: len(done) > at + 400, 'some more')
        over.set()
        for one in threads:
            one.join(30)
        assert not bad, collections.Counter(bad)
        assert gateway.counter('origin_tried_again') > 0
        event = wait_until(lambda: [e for e in list(gateway.events) if 'origin' in e.get('anomaly', {})], 'the event')[0]
        assert event['anomaly']['origin'] == f'127.0.0.1:{three[0].port}' and event['anomaly']['upstream'] == 'app', event
        assert event['anomaly']['seconds'] == 3600, event


def test_a_backup(three):
    with Gateway(upstream(three[:2], options=('', 'backup'))) as gateway:
        assert ask(gateway, 10) == {'a': 10}
        three[0].origin.__exit__(None, None, None)
        assert ask(gateway, 20) == {'b': 20}
        # Lines that follow one another are written together, a moment later.
        record = wait_until(lambda: [r for r in list(gateway.records) if r.get('upstream_tries') == 2], 'its record')[0]
        assert record['upstream'] == f'127.0.0.1:{three[1].port}' and record['status'] == 200


def test_inline(three):
    text = f'proxy {" ".join(f"127.0.0.1:{one.port}" for one in three)} least-conn'
    with Gateway(PLAIN + f'site localhost {{ {text} }}\n') as gateway:
        found = ask(gateway, 60)
        assert set(found) == {'a', 'b', 'c'} and min(found.values()) >= 15, found


def test_max_conns(three):
    """One worker's share of two for each: more of them wait, and are answered."""
    gate = threading.Event()
    for one in three[:2]:
        plain = one.answer

        def answer(exchange, plain=plain):
            gate.wait(30)
            return plain(exchange)
        one.origin.behave = answer
    with Gateway(upstream(three[:2], options=('max-conns 2', 'max-conns 2'))) as gateway:
        workers = len(gateway.pids('worker'))
        clients = [Client(gateway.port) for _ in range(12)]
        for number, client in enumerate(clients):
            client.request('GET', f'/{number}')
        bound = 2 * max(2, workers)
        wait_until(lambda: gateway.limit('origin-connections') > 0, 'somebody who waits')
        gate.set()
        for client in clients:
            assert client.response().text in ('a', 'b')
            client.close()
        used = [len({id(exchange.connection) for exchange in one.origin.requests}) for one in three[:2]]
        assert sum(used) <= bound, used


def test_all_gone(three):
    with Gateway(upstream(three[:1])) as gateway:
        assert ask(gateway, 1) == {'a': 1}
        three[0].origin.__exit__(None, None, None)
        assert ask(gateway, 8) == {502: 8}
        with Named('a', three[0].port).origin:
            assert wait_until(lambda: ask(gateway, 1) == {'a': 1}, 'the origin, back again')


# ---- checks

def check_of(one, healthy=True):
    """Makes /healthz of that origin answer 200 or 503."""
    one.healthy = healthy
    plain = one.answer

    def answer(exchange):
        if exchange.target == '/healthz' and not one.healthy:
            return exchange.reply(503, 'no')
        return plain(exchange)
    one.origin.behave = answer


def test_checks(three):
    for one in three:
        check_of(one)
    check_of(three[1], healthy=False)
    with Gateway(upstream(three, 'check /healthz every 100ms timeout 2s status 200 fall 2 rise 3', options=('', '', 'backup'))) as gateway:
        workers = len(gateway.pids('worker'))
        # The first answer counts at once.
        wait_until(lambda: gateway.counter('origin_went_down') == workers, 'all workers to know')
        assert ask(gateway, 20) == {'a': 20}
        down = wait_until(lambda: [e for e in list(gateway.events) if e.get('message') == 'an origin is down'], 'the event')
        assert [e['anomaly'] for e in down] == [{'origin': f'127.0.0.1:{three[1].port}', 'why': 'status 503'}]
        # Both down: the backup takes it; that too: 503 at once, and checks go on.
        three[0].healthy = False
        wait_until(lambda: gateway.counter('origin_went_down') == 2 * workers, 'the second')
        assert ask(gateway, 10) == {'c': 10}
        three[2].healthy = False
        wait_until(lambda: gateway.counter('origin_went_down') == 3 * workers, 'the third')
        assert ask(gateway, 10) == {503: 10}
        wait_until(lambda: gateway.records[-1]['end'] == 'origin-down', 'the last record')
        # A reload changes nothing about what is known.
        gateway.reload_well(upstream(three, 'check /healthz every 100ms timeout 2s status 200 fall 2 rise 3',
                                     options=('', '', 'backup')) + 'site more.test { proxy app }\n')
        assert ask(gateway, 10) == {503: 10}
        three[1].healthy = True
        wait_until(lambda: gateway.counter('origin_came_up') == workers, 'its return')
        assert ask(gateway, 20) == {'b': 20}
        seen = [target for target in three[1].paths if target == '/healthz']
        assert len(seen) >= 3, 'rise'
        # Once for the machine, and never two at once: a killed dialer's successor goes on.
        os.kill(gateway.pid('dialer'), 9)
        three[0].healthy = True
        wait_until(lambda: gateway.counter('origin_came_up') >= 2 * workers, 'the first, told by the new dialer')
        assert set(ask(gateway, 20)) == {'a', 'b'}
        # And a killed worker's successor is told.
        killed = gateway.pids('worker')
        os.kill(killed[0], 9)
        wait_until(lambda: killed[0] not in gateway.pids('worker') and len(gateway.pids('worker')) == workers, 'its successor')
        gateway.settle()
        wait_until(lambda: gateway.counter('origin_went_down') >= 3 * workers, 'that it is told')
        assert set(ask(gateway, 40)) == {'a', 'b'}


@pytest.mark.usefixtures('test_build')
def test_slow_start(three):
    """Back again, an origin grows into its share: by counts, with the clock moved through the time that it takes."""
    for one in three:
        check_of(one)
    with Gateway(upstream(three[:2], 'slow-start 1000s; check /healthz every 1s timeout 60s fall 5 rise 1')) as gateway:
        workers = len(gateway.pids('worker'))
        three[0].healthy = False
        for _ in range(6):
            gateway.move_clock(1)
        wait_until(lambda: gateway.counter('origin_went_down') == workers, 'all workers to know')
        assert ask(gateway, 10) == {'b': 10}
        three[0].healthy = True
        gateway.move_clock(2)
        wait_until(lambda: gateway.counter('origin_came_up') == workers, 'its return')
        shares = []
        for seconds in 500, 600, 0:
            found = ask(gateway, 150)
            assert set(found) <= {'a', 'b'}
            shares.append(found['a'])
            gateway.move_clock(seconds)
        # Of 150: next to none, a third, half.
        assert shares[0] < 15 < 30 < shares[1] < 65 < shares[2] < 85, shares
        assert gateway.counter('origin_went_down') == workers


def test_checks_of_a_silent_and_of_a_tls_origin(three, folder):
    """No answer in time is down; https is verified as requests are."""
    certificate = subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
                                  f'{folder}/key.pem', '-out', f'{folder}/cert.pem', '-subj', '/CN=localhost', '-addext',
                                  'subjectAltName=DNS:localhost'], capture_output=True, check=False)
    assert certificate.returncode == 0, certificate.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f'{folder}/cert.pem', f'{folder}/key.pem')
    gate = threading.Event()
    three[1].origin.behave = lambda exchange: gate.wait(30)
    with Origin(lambda exchange: exchange.reply(200, 'secure'), tls=context) as secure:
        text = PLAIN + f'''upstream app {{
            origin https://localhost:{secure.port} verify ca {folder}/cert.pem
            origin 127.0.0.1:{three[1].port}
            check / every 100ms timeout 300ms
        }}
        upstream other {{ origin https://localhost:{secure.port}; origin 127.0.0.1:{three[0].port}; check / every 100ms }}
        site localhost {{ proxy app }}
        site other.test {{ proxy other }}
        '''
        with Gateway(text) as gateway:
            workers = len(gateway.pids('worker'))
            wait_until(lambda: gateway.counter('origin_went_down') == 2 * workers, 'the silent one, and the one nobody vouches for')
            whys = {e['anomaly']['why'] for e in list(gateway.events) if e.get('message') == 'an origin is down'}
            wait_until(lambda: ask(gateway, 5) == {'secure': 5}, 'the one that answers')
            assert whys == {'no answer in time', 'origin-tls:untrusted'} or len(whys) == 1
            found = collections.Counter(get(gateway.port, '/', host='other.test').text for _ in range(10))
            assert found == {'a': 10}
        gate.set()


# ---- what the operator says

def command(gateway, *words):
    return run_command(*words, '-c', gateway.config, env=gateway.env)


def origins_of(gateway):
    said = command(gateway, 'upstreams', '--json')
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def state_of(gateway, port):
    return {one['state'] for one in origins_of(gateway) if one['origin'].endswith(f':{port}')}


def order(gateway, word, name):
    said = command(gateway, 'origin', word, name)
    assert said.returncode == 0, said.stderr
    return said.stdout


def test_upstreams_lists_origins(three):
    check_of(three[1], healthy=False)
    text = upstream(three, 'check /healthz every 1h status 200', options=('weight 3', '', 'backup'))
    with Gateway(text + f'site inline.test {{ proxy 127.0.0.1:{three[0].port} }}\n') as gateway:
        wait_until(lambda: state_of(gateway, three[1].port) == {'down'}, 'the check')
        wait_until(lambda: all(one['checked'] is False or one['since_ms'] for one in origins_of(gateway)), 'all checks')
        assert ask(gateway, 6) == {'a': 6}
        rows = {(one['upstream'], one['origin']): one for one in origins_of(gateway)}
        assert len(rows) == 4
        first, second, third = (rows['app', f'127.0.0.1:{one.port}'] for one in three)
        assert (first['state'], first['weight'], first['errors'], first['active'], first['queue']) == ('up', 3, 0, 0, 0), first
        assert first['requests'] == 6 and 1 <= first['connections'] <= 6 and first['idle'] == first['connections'], first
        assert first['next_check_ms'] > 3000000 and first['checked'] and not first['backup'], first
        assert (second['state'], second['why'], second['requests']) == ('down', 'status 503', 0), second
        assert third['backup'] and third['state'] == 'up', third
        alone = rows['', f'127.0.0.1:{three[0].port}']
        assert not alone['checked'] and alone['why'] == 'not checked' and alone['next_check_ms'] is None, alone
        assert alone['place'].rpartition(':')[0].rpartition(':')[2].isdigit()
        shown = command(gateway, 'upstreams').stdout
        assert 'app  ' in shown and f'127.0.0.1:{three[1].port}' in shown and 'status 503' in shown, shown
    said = run_command('upstreams', env={'PORTCULLIS_STATE': '/nonexistent'})
    assert said.returncode == 1 and 'not running' in said.stderr


def test_drain_and_up(three):
    """No request after the command returned; what is under way goes on; it holds until it is taken back."""
    text = upstream(three)
    with Gateway(text) as gateway, Client(gateway.port) as slow:
        gate = threading.Event()
        plain = three[0].answer

        def answer(exchange):
            if exchange.target == '/slow':
                gate.wait(30)
            return plain(exchange)
        three[0].origin.behave = answer
        for one in three[1:]:
            order(gateway, 'drain', f'127.0.0.1:{one.port}')
        slow.request('GET', '/slow')
        wait_until(lambda: sum(one['active'] for one in origins_of(gateway)) == 1, 'a request under way')
        for one in three[1:]:
            order(gateway, 'up', f'127.0.0.1:{one.port}')
        said = order(gateway, 'drain', f'http://127.0.0.1:{three[0].port}')
        assert 'drain' in said and 'by command' in said, said
        asked = len(three[0].paths)
        assert set(ask(gateway, 30)) == {'b', 'c'} and len(three[0].paths) == asked
        gate.set()
        assert slow.response().text == 'a'
        row = next(one for one in origins_of(gateway) if one['state'] == 'drain')
        assert row['active'] == 0 and row['since_ms'] >= 0, row
        # Over a reload, over a worker's death, and where the origin goes and comes.
        gateway.reload_well(text + 'site more.test { proxy app }\n')
        assert set(ask(gateway, 20)) == {'b', 'c'}
        killed = gateway.pids('worker')
        os.kill(killed[0], 9)
        wait_until(lambda: killed[0] not in gateway.pids('worker') and len(gateway.pids('worker')) == len(killed), 'a new worker')
        gateway.settle()
        assert set(ask(gateway, 20)) == {'b', 'c'}
        gateway.reload_well(upstream(three[1:]))
        stray = next(one for one in origins_of(gateway) if not one['configured'])
        assert stray['state'] == 'drain' and stray['origin'] == f'127.0.0.1:{three[0].port}', stray
        gateway.reload_well(text)
        assert set(ask(gateway, 20)) == {'b', 'c'}
        order(gateway, 'up', str(f'127.0.0.1:{three[0].port}'))
        assert set(ask(gateway, 30)) == {'a', 'b', 'c'}


def test_down_ends_what_is_under_way(three):
    """Safe requests go elsewhere, others get 503, a tunnel ends."""
    gate = threading.Event()
    for one in three[:2]:
        plain = one.answer

        def answer(exchange, plain=plain, one=one):
            if one is three[0]:
                gate.wait(30)
            return plain(exchange)
        one.origin.behave = answer
    with Gateway(upstream(three[:2])) as gateway, Client(gateway.port) as safe, Client(gateway.port) as unsafe:
        order(gateway, 'down', f'127.0.0.1:{three[1].port}')
        safe.request('GET', '/safe')
        unsafe.request('POST', '/unsafe', body=b'x')
        wait_until(lambda: len(three[0].origin.requests) == 2, 'both at the first')
        order(gateway, 'up', f'127.0.0.1:{three[1].port}')
        assert 'down' in order(gateway, 'down', f'127.0.0.1:{three[0].port}')
        assert safe.response().text == 'b'
        assert unsafe.response().status == 503
        wait_until(lambda: [r for r in gateway.records if r['path'] == '/unsafe'], 'its record')
        assert next(r for r in gateway.records if r['path'] == '/unsafe')['end'] == 'origin-down'
        assert set(ask(gateway, 10)) == {'b'}
        # All of them: 503 at once.
        order(gateway, 'down', f'127.0.0.1:{three[1].port}')
        assert ask(gateway, 4) == {503: 4}
        gate.set()


def test_orders_survive_a_restart_and_kill(three):
    with contextlib.ExitStack() as stack:
        folder = new_folder()
        stack.callback(shutil.rmtree, folder, True)
        text = upstream(three)
        with Gateway(text, folder=folder) as gateway:
            order(gateway, 'drain', f'127.0.0.1:{three[0].port}')
            order(gateway, 'down', f'127.0.0.1:{three[1].port}')
        with Gateway(text, folder=folder) as gateway:
            assert ask(gateway, 8) == {'c': 8}
            assert state_of(gateway, three[0].port) == {'drain'} and state_of(gateway, three[1].port) == {'down'}
        # What cannot be read holds no more, and is told.
        with open(f'{folder}/state/origins', 'r+', encoding='utf-8') as file:
            lines = file.read().splitlines(True)
            file.seek(0)
            file.write(lines[0].replace('drain', 'drown') + lines[1])
            file.truncate()
        with Gateway(text, folder=folder) as gateway:
            assert set(ask(gateway, 12)) == {'a', 'c'}
            assert 'cannot be read' in '\n'.join(gateway.stderr)


def test_origin_used_wrongly(three):
    with Gateway(upstream(three[:1])) as gateway:
        said = command(gateway, 'origin', 'drain', '127.0.0.1:1')
        assert said.returncode == 1 and f'there are: 127.0.0.1:{three[0].port}' in said.stderr, said.stderr
        said = command(gateway, 'origin', 'stop', '127.0.0.1:1')
        assert said.returncode == 2 and '`drain`, `down` or `up`, not `stop`' in said.stderr, said.stderr
        assert command(gateway, 'origin', 'drain').returncode == 2
