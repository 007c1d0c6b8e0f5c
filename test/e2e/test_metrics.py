"""What a collector of metrics reads: well formed, true, and never less than before; by the command and by the handler."""
import os
import re
import shutil
import socket
import subprocess

import pytest

from client import Client, get
from gateway import Gateway, run_command, wait_until
from origin import Origin
from test_orphans import kill_supervisor

OWN = 'metrics on /metrics; ready on /ready; live on /live; '
SITE = 'listen 127.0.0.1:{port} plain serve\nsite localhost { ' + OWN + 'respond 404 on /no; respond 200 "ok" }\n'
KEPT = 'listen 127.0.0.1:{port2}\n' + SITE  # with TLS there is a vault, which keeps ranges over the supervisor's death


def command(gateway):
    done = run_command('metrics', '-c', gateway.config, env=gateway.env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def handler(gateway):
    answer = get(gateway.port, '/metrics')
    assert answer.status == 200 and answer.get('Content-Type') == 'text/plain; version=0.0.4; charset=utf-8'
    assert answer.get('Cache-Control') == 'no-store'
    return answer.text


WAYS = pytest.mark.parametrize('metrics', [command, handler], ids=['command', 'handler'])


def values(text):
    return {name: float(value) for name, value in re.findall(r'^(portcullis_[^ ]+) ([0-9.]+)$', text, flags=re.M)}


def promtool(text):
    if not shutil.which('promtool'):
        pytest.skip('promtool is not installed')
    done = subprocess.run(['promtool', 'check', 'metrics'], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr


def less(before, after):
    """Counters that went back, or are gone."""
    return [name for name, value in before.items()
            if re.match(r'\w+_(total|bucket|sum|count)\b', name) and after.get(name, -1) < value]


@WAYS
def test_lines_are_well_formed(metrics):
    """Each family has HELP and TYPE before its samples, once; each line is one of the three; no series stands twice."""
    with Gateway(SITE) as gateway:
        families, current, series = {}, None, set()
        for line in metrics(gateway).splitlines():
            comment = re.fullmatch(r'# (HELP|TYPE) (portcullis_[a-z0-9_]+) (.+)', line)
            if comment and comment[1] == 'HELP':
                assert comment[2] not in families, line
                families[comment[2]], current = None, comment[2]
            elif comment:
                assert comment[2] == current and comment[3] in ('counter', 'gauge', 'histogram'), line
                families[current] = comment[3]
            else:
                sample = re.fullmatch(r'(portcullis_[a-z0-9_]+)(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? [0-9]+(\.[0-9]+)?', line)
                assert sample, line
                assert re.sub('_(bucket|sum|count)$', '', sample[1]) == current if families[current] == 'histogram' else sample[1] == current
                assert line.rpartition(' ')[0] not in series, line
                series.add(line.rpartition(' ')[0])
        assert len(families) > 50 and None not in families.values()
        assert all(name.endswith({'counter': '_total', 'histogram': '_seconds'}.get(kind, '')) for name, kind in families.items())


def test_both_ways_are_one(test_build):
    with Gateway(SITE) as gateway:
        get(gateway.port, '/')
        names = [set(values(metrics(gateway))) for metrics in (command, handler)]
        assert names[0] == names[1]


@WAYS
def test_they_count(test_build, metrics):
    with Gateway(SITE) as gateway:
        gateway.settle()
        before = values(metrics(gateway))
        for path in ('/', '/', '/no'):
            get(gateway.port, path)
        wait_until(lambda: gateway.counter('exchanges') >= 3, 'three records')
        after = values(metrics(gateway))
        own = values(metrics(gateway))['portcullis_exchanges_total'] - after['portcullis_exchanges_total']
        assert own == (1 if metrics is handler else 0)
        assert after['portcullis_exchanges_total'] - before['portcullis_exchanges_total'] == 3 + own
        for prefix in ('portcullis_responses_total{', 'portcullis_site_responses_total{site="localhost",'):
            assert after[prefix + 'status="2xx"}'] == 2 + own and after[prefix + 'status="4xx"}'] == 1
        assert after['portcullis_request_seconds_count'] == 3 + own == after['portcullis_request_seconds_bucket{le="+Inf"}']
        assert after['portcullis_site_request_seconds_count{site="localhost"}'] == 3 + own
        assert after['portcullis_processes'] == len(gateway.status())
        # A reload and the death of every worker take nothing away.
        gateway.reload_well(SITE + 'site more.test { respond 200 }')
        for pid in gateway.pids('worker'):
            os.kill(pid, 9)
            wait_until(lambda pid=pid: pid not in gateway.pids('worker'), 'its end')
        gateway.settle()
        later = values(metrics(gateway))
        assert not less(after, later)
        assert later['portcullis_process_restarts_total'] >= 1
        assert later['portcullis_site_request_seconds_count{site="more.test"}'] == 0


def test_they_never_go_back(test_build):
    """Scraped all the time over kill -9 of each worker, reloads that take a site away and bring it back, and kill -9 of
    the supervisor: no counter is ever less than in the scrape before."""
    with Gateway(KEPT + 'site more.test { respond 200 }\n') as gateway:
        gateway.settle()
        for _ in range(20):
            get(gateway.port, '/', host='more.test')
        last = values(handler(gateway))
        assert sum(last[f'portcullis_site_responses_total{{site="more.test",status="{n}xx"}}'] for n in range(1, 6)) == 20

        def look():
            nonlocal last
            now = values(handler(gateway))
            assert not less(last, now)
            last = now

        for text in (KEPT, KEPT + 'site more.test { respond 200 }\n') * 2:
            gateway.reload_well(text)
            look()
            pid = gateway.pids('worker')[0]
            os.kill(pid, 9)
            wait_until(lambda pid=pid: pid not in gateway.pids('worker'), 'its end')
            look()
            gateway.settle()
            look()
        assert last['portcullis_site_responses_total{site="more.test",status="2xx"}'] == 20
        # The successor takes over what the vault kept; what orphans answer meanwhile is in no sum.
        kill_supervisor(gateway)
        gateway.start()
        gateway.settle()
        now = values(command(gateway))
        assert now['portcullis_site_responses_total{site="more.test",status="2xx"}'] == 20
        assert now['portcullis_connections_total'] >= last['portcullis_connections_total']


@WAYS
def test_promtool(metrics):
    with Gateway(SITE) as gateway:
        promtool(metrics(gateway))


def test_strangers_make_no_series(test_build):
    """A thousand names that no site has: they count as `other`, and the text does not grow."""
    with Gateway(SITE) as gateway:
        before = handler(gateway)
        with Client(gateway.port) as client:
            for i in range(1000):
                assert client.get('/', host=f'n{i}.test').status == 421
        after = handler(gateway)
        assert len(after.splitlines()) == len(before.splitlines())
        assert values(after)['portcullis_site_responses_total{site="other",status="4xx"}'] == 1000


def test_many_sites(test_build):
    """Over `metrics-sites` the rest is `other`; the text, larger than what an exchange may keep, comes whole."""
    many = ''.join(f'site s{i}.test {{ respond 200 }}\nsite u{i}.test {{ proxy 127.0.0.1:{i + 1} on /x; respond 200 }}\n' for i in range(130))
    with Gateway(SITE + many) as gateway:
        for i in range(130):
            get(gateway.port, '/', host=f's{i}.test')
            get(gateway.port, '/', host=f'u{i}.test')
        text = handler(gateway)
        assert len(text) > 400 * 1024
        promtool(text)
        found = values(text)
        answered = {name: value for name, value in found.items() if 'site_responses_total' in name and '"2xx"' in name}
        assert len(answered) == 193 and sum(answered.values()) == 260
        assert found['portcullis_site_responses_total{site="other",status="2xx"}'] == 260 - 191
        assert found['portcullis_limits_total{limit="metrics-sites"}'] >= 261 - 192
        assert len([name for name in found if 'upstream_requests_total' in name]) == 97
        assert len(found) < 10000
        # A client that reads slowly gets all of it as well.
        with socket.create_connection(('127.0.0.1', gateway.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n')
            parts = iter(lambda: slow.recv(65536), b'')
            body = b''.join(parts).decode().partition('\r\n\r\n')[2]
        assert set(values(body)) == set(found)


def test_metrics_for_some():
    """`from`: for all others the line is not there. `check` warns, with the place, where nothing says who may."""
    text = ('listen 127.0.0.1:{port} plain serve\ntable us { 127.0.0.2 }\ntable here { 127.0.0.1 }\n'
            'site localhost { metrics on /metrics from <us>; respond 403 on /metrics; metrics on /open/* from <here> }\n')
    with Gateway(text) as gateway:
        assert get(gateway.port, '/metrics').status == 403
        assert get(gateway.port, '/other').status == 404
        assert 'portcullis_exchanges ' in get(gateway.port, '/open/x').text
        with socket.create_connection(('127.0.0.1', gateway.port), source_address=('127.0.0.2', 0)) as us:
            us.sendall(b'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n')
            assert us.recv(100).startswith(b'HTTP/1.1 200 ')
        done = run_command('check', gateway.config)
        assert (done.returncode, done.stderr) == (0, '')
        with open(gateway.config, 'a', encoding='utf-8') as file:
            file.write(f'listen *:{gateway.ports[1]}\nsite open.test {{\n    metrics on /m\n}}\n')
        done = run_command('check', gateway.config)
        assert done.returncode == 0 and 'fine, with warnings' in done.stdout
        lines = done.stderr.splitlines()
        assert lines[0].startswith(f'{gateway.config}:10:5: warning: whoever asks may read the metrics')
        assert lines[1:] == ['        metrics on /m', '        ^~~~~~~']


def test_states_of_origins():
    """1 while an origin gets requests; 0 while it does not; no series once no upstream has it."""
    with Origin() as origin, Origin() as other:
        one, two = (f'portcullis_upstream_origin_up{{upstream="app",origin="127.0.0.1:{o.port}"}}' for o in (origin, other))
        alone = SITE + f'upstream app {{ origin 127.0.0.1:{origin.port} }}\nsite app.test {{ proxy app }}\n'
        both = alone.replace(f'{origin.port} }}', f'{origin.port}; origin 127.0.0.1:{other.port} }}')

        def states():
            text = handler(gateway)
            assert command(gateway).count('portcullis_upstream_origin_up{') == text.count('portcullis_upstream_origin_up{')
            promtool(text)
            return {name: value for name, value in values(text).items() if 'origin_up' in name}

        with Gateway(both) as gateway:
            assert states() == {one: 1, two: 1}
            for word, value in (('down', 0), ('up', 1), ('drain', 0)):
                done = run_command('origin', word, f'127.0.0.1:{other.port}', '-c', gateway.config, env=gateway.env)
                assert done.returncode == 0, done.stderr
                wait_until(lambda value=value: states() == {one: 1, two: value}, f'{word}: {value}')
            gateway.reload_well(alone)
            wait_until(lambda: states() == {one: 1}, 'the other series to end')
            gateway.reload_well(both)
            wait_until(lambda: states() == {one: 1, two: 0}, 'it to be back, and still taken out')


def test_upstreams_are_counted(test_build):
    with Origin() as origin, socket.create_server(('127.0.0.1', 0)) as closed:
        port = closed.getsockname()[1]
        closed.close()
        text = SITE + ('upstream app {{ origin 127.0.0.1:{one}; origin 127.0.0.1:{two} backup }}\n'
                       'site app.test {{ proxy app }}\nsite gone.test {{ proxy {two} }}\n').format(one=origin.port, two=port)
        with Gateway(text) as gateway:
            for _ in range(3):
                assert get(gateway.port, '/', host='app.test').status == 200
            assert get(gateway.port, '/', host='gone.test').status == 502
            found = values(handler(gateway))
            promtool(handler(gateway))
            assert found['portcullis_upstream_requests_total{upstream="app"}'] == 3
            assert found['portcullis_upstream_response_seconds_count{upstream="app"}'] == 3 == found['portcullis_origin_seconds_count']
            assert found[f'portcullis_upstream_requests_total{{upstream="{port}"}}'] == 1
            assert found[f'portcullis_upstream_failures_total{{upstream="{port}",reason="origin-refused"}}'] >= 1
            assert found['portcullis_upstream_exchanges{upstream="app"}'] == 0
            wait_until(lambda: values(handler(gateway))['portcullis_upstream_connections{upstream="app"}'] >= 1, 'a pooled connection')


def test_ready_and_live(test_build):
    with Gateway(SITE) as gateway:
        gateway.settle()
        for path, text in (('/ready', 'ready\n'), ('/live', 'live\n')):
            answer = get(gateway.port, path)
            assert (answer.status, answer.text, answer.get('Cache-Control')) == (200, text, 'no-store')
            assert answer.get('Content-Type') == 'text/plain; charset=utf-8'
        for path in ('/ready', '/live', '/metrics'):
            with Client(gateway.port) as client:
                head = client.get(path, method='HEAD')
                assert head.status == 200 and not head.body and head.get('Cache-Control') == 'no-store'
                refused = client.get(path, method='POST', body=b'')
                assert refused.status == 405 and refused.get('Allow') == 'GET, HEAD'
        # A worker that is started again leaves no gap: its neighbour accepts for it.
        os.kill(gateway.pids('worker')[0], 9)
        gateway.settle()
        wait_until(lambda: get(gateway.port, '/ready').status == 200, 'ready again')


def test_not_ready_while_draining(test_build):
    """A service that follows on a killed one: the workers of before answer what is asked on connections that they have,
    and say that they drain."""
    with Gateway(KEPT) as gateway:
        gateway.settle()
        with Client(gateway.port) as client:
            assert client.get('/ready').status == 200
            kill_supervisor(gateway)
            assert client.get('/ready').status == 200
            gateway.start()
            gateway.settle()
            # A worker of before accepts, and says that it drains, until it has seen its successor.
            wait_until(lambda: get(gateway.port, '/ready').status == 200, 'a worker of the new service')
            said = []
            wait_until(lambda: said.append(client.get('/ready')) or said[-1].status == 503, 'the old worker to drain')
            assert said[-1].text in ('draining\n', 'not ready\n')


def test_nobody_runs(folder):
    done = run_command('metrics', env={**os.environ, 'PORTCULLIS_STATE': folder})
    assert done.returncode == 1 and 'not running' in done.stderr and not done.stdout
