"""`portcullis explain` says what the gateway does: code, deciding line and client, for requests over generated configurations."""
import json
import os
import random
import socket

import pytest

from gateway import SOAK, Gateway, run_command, wait_until
from origin import Origin

# 1,000 requests at full size.
CONFIGURATIONS, REQUESTS = 50 if SOAK else 12, 20
PATHS = ('/', '/a', '/a/b', '/ab', '/b/c.txt', '/b/c', '/x/1/y', '/x/1/2/y', '/%61', '/a//b', '/a/../b/c', '/deep/er/est', '/A', '/a?q=1', '/b/')
PATTERNS = ('/a', '/a*', '/a/*', '/b/*', '/x/*/y', '/deep*', '/b/c', '/ab', '*')
HOSTS = ('one.test', 'two.test', 'three.test', 'alias.test', 'sub.wild.test', 'wild.test', 'nobody.test', 'ONE.test.')


def explain(gateway, *arguments):
    said = run_command('explain', *arguments, '--json', '-c', gateway.config, env=gateway.env)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def handler(choose, port):
    pattern = choose.choice(PATTERNS)
    on = '' if pattern == '*' else f' on {pattern}'
    return choose.choice([
        f'respond {choose.choice((200, 204, 403, 410, 503))}{on}',
        f'respond {choose.choice((200, 418))} "text {choose.random()}"{on}',
        f'respond 503 retry-after 10m{on}',
        f'redirect https://elsewhere.test/{choose.randint(1, 9)} {choose.choice((301, 302, 303, 307, 308))}{on}',
        f'proxy 127.0.0.1:{port}{on}',
        f'files {{folder}}/www{on}',
    ])


def configuration(choose, port):
    sites, left = [], ['one.test', 'two.test three.test', '*.wild.test']
    for name in choose.sample(left, choose.randint(1, 3)):
        lines = [handler(choose, port) for _ in range(choose.randint(0, 5))]
        if choose.random() < .4:
            lines.append(f'limits on {choose.choice(PATTERNS[:-1])} {{ header {choose.choice(("300B", "4KB"))} }}')
        if choose.random() < .4:
            lines.append('trust forwarded from <near>')
        if choose.random() < .5:
            lines.append(f'block path {choose.choice(PATTERNS[1:-1])} {choose.choice(PATTERNS[1:-1])}'
                         f'{choose.choice(("", " from <near>", " not from <near>"))}')
        if choose.random() < .4:
            lines.append(f'route /x/* {{ rewrite {choose.choice(("/a/*", "/b/*", "/b/c"))}; {handler(choose, port)} }}')
        if choose.random() < .4:
            lines.append(choose.choice(('limit connections 1000 per ip', 'limit bandwidth 1GB/s per connection on /a*',
                                        'limit requests 90000/s burst 1000000')))
        if 'one' in name and choose.random() < .5:
            lines.append(f'alias alias.test{choose.choice(("", " redirect"))}')
        choose.shuffle(lines)
        # Rare as they are among all paths, a document and an origin are asked for in the slice too.
        lines += ['files {folder}/www on /b/*', f'proxy 127.0.0.1:{port} on /deep*']
        default = ' default' if not sites and choose.random() < .5 else ''
        sites.append(f'site {name}{default} {{\n    certificate internal\n    ' + '\n    '.join(lines) + '\n}\n')
    choose.shuffle(sites)
    return ('listen 127.0.0.1:{port} plain serve\nlisten 127.0.0.1:{port2}\nlisten 127.0.0.1:{port3} plain\nlog access stdout\n'
            'table near { 127.0.0.0/8 }\n' + ''.join(sites))


def ask(port, path, host, fields):
    """One request on a connection of its own; what it was answered is in the log."""
    with socket.create_connection(('127.0.0.1', port), 30) as connection:
        lines = [f'GET {path} HTTP/1.1', f'Host: {host}', *fields, 'Connection: close']
        connection.sendall('\r\n'.join([*lines, '', '']).encode())
        while connection.recv(65536):
            pass


def test_it_says_what_the_gateway_does():
    """Code, rule, line and client of each request, as the access log has them."""
    choose = random.Random(20261127)
    checked = set()
    with Origin(lambda exchange: exchange.reply(200, 'origin')) as origin, \
            Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 }\n') as gateway:
        os.mkdir(f'{gateway.folder}/www')
        for number in range(CONFIGURATIONS):
            gateway.reload_well(configuration(choose, origin.port))
            requests = [(choose.choice((gateway.ports[0], gateway.ports[2])), choose.choice(PATHS), choose.choice(HOSTS))
                        for _ in range(REQUESTS)]
            fields = [f'X-Forwarded-For: 203.0.113.{number}'] + (['X-Long: ' + 'x' * 300] if number % 3 == 0 else [])
            at = len(gateway.records)
            for port, path, host in requests:
                ask(port, path, host, fields)
            wait_until(lambda at=at: len(gateway.records) >= at + REQUESTS, 'the records')
            # Workers write side by side: each request is found by its place in time only where it is alike.
            logged = sorted((r['host'], r['path'] + ('?' + r['query'] if 'query' in r else ''), r['status'], r.get('rule'), r['client'])
                            for r in gateway.records[at:at + REQUESTS])
            said = explain(gateway, *(f'http://{host}:{port}{path}' for port, path, host in requests),
                           *(part for field in [*fields, 'Connection: close'] for part in ('--header', field)))
            assert len(said) == REQUESTS
            # The port is in a URL's Host.
            asked = {}
            for (port, path, host), one in zip(requests, said):
                asked.setdefault((host, path), []).append((port, one))
            for host, path, status, rule, client in logged:
                like = [one for (h, p), ones in asked.items() for _, one in ones if h == host and normal(p) == path]
                assert any((one['status'] in (None, status)) and one['rule'] == rule and one['client'] == client for one in like), \
                    (number, host, path, status, rule, client, like)
                checked.add((status, (rule or 'none').rpartition(' ')[2]))
    # What was met: each kind of answer and of line.
    assert {word for _, word in checked} >= {'respond', 'redirect', 'proxy', 'files', 'site', 'listen', 'none', 'path'}, checked
    assert {status for status, _ in checked} >= ({200, 404, 308, 421, 431, 503} if SOAK else {200, 404, 308, 421}), checked


def normal(path):
    """As the log has it."""
    return {'/%61': '/a', '/a//b': '/a/b', '/a/../b/c': '/b/c'}.get(path, path)


def test_tls_and_text(folder):
    with Gateway('''listen 127.0.0.1:{port}
listen 127.0.0.1:{port2} plain
table office { 192.0.2.0/24 }
site www.test {
    alias old.test redirect
    respond 410 "gone" on /gone
    files {folder} on /files/*
    proxy 127.0.0.1:9
}
site b.test { trust forwarded from <office>; respond 200 "b" }
''') as gateway:
        rule = lambda line, word: f'{gateway.config}:{line}: {word}'
        gone, proxied, alias, nobody, files = explain(gateway, 'https://www.test/gone', 'www.test/x?y', 'https://old.test/q', 'https://nobody.test/',
                                                      'https://www.test:1234/files/../files/a')
        assert (gone['status'], gone['rule'], gone['site']) == (410, rule(8, 'respond'), 'www.test'), gone
        assert [one['stage'] for one in gone['stages']][:3] == ['head', 'route', 'firewall']
        assert (proxied['status'], proxied['asks'], proxied['rule']) == (None, '127.0.0.1:9', rule(10, 'proxy')), proxied
        assert (alias['status'], alias['location']) == (308, 'https://www.test/q'), alias
        assert (nobody['end'], nobody['status'], nobody['stages']) == ('unrecognized_name', None, []), nobody
        assert files['rule'] == rule(9, 'files'), 'a port that no listener has is ignored'
        plain = explain(gateway, f'http://www.test:{gateway.ports[1]}/x')[0]
        assert (plain['status'], plain['rule']) == (308, rule(4, 'listen')), plain
        assert plain['location'].startswith('https://www.test'), plain
        trusted = explain(gateway, 'https://b.test/', '--from', '192.0.2.9', '--header', 'X-Forwarded-For: 203.0.113.5')[0]
        assert trusted['client'] == '203.0.113.5', trusted
        stranger = explain(gateway, 'https://b.test/', '--from', '198.51.100.1', '--header', 'X-Forwarded-For: 203.0.113.5')[0]
        assert stranger['client'] == '198.51.100.1', stranger
        broken = explain(gateway, 'https://b.test/', '--header', 'no field')[0]
        assert broken['status'] == 400 and broken['end'].startswith('client-malformed'), broken
        text = run_command('explain', 'https://www.test/gone', '-c', gateway.config, env=gateway.env).stdout
        assert f'→ 410, by {rule(8, "respond")}' in text and 'firewall' in text, text


@pytest.mark.parametrize('arguments, code, wanted', [
    (('https://www.test:x/',), 2, 'is no URL'), (('https:///x',), 2, 'is no URL'), ((), 2, ''),
    (('https://www.test/', '--from', 'nobody'), 2, 'is no address'), (('https://www.test/',), 1, 'no listener speaks TLS'),
])
def test_used_wrongly(folder, arguments, code, wanted):
    with open(f'{folder}/t.conf', 'w', encoding='utf-8') as file:
        file.write('portcullis 1\nlisten 127.0.0.1:8080 plain serve\nsite www.test { respond 200 }\n')
    said = run_command('explain', *arguments, '-c', f'{folder}/t.conf')
    assert said.returncode == code and wanted in said.stderr, said
    with open(f'{folder}/t.conf', 'a', encoding='utf-8') as file:
        file.write('site x { repond 200 }\n')
    said = run_command('explain', 'http://www.test/', '-c', f'{folder}/t.conf')
    assert said.returncode == 1 and 't.conf:4:10' in said.stderr and 'respond' in said.stderr, said
