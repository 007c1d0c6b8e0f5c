"""Clients that stay with an origin by a cookie: over requests, reloads, deaths, restarts; and whose origin goes away."""
import collections
import os
import re
import subprocess

import pytest

from client import get
from gateway import Gateway, free_ports, run_command, wait_until
from test_upstreams import check_of, three  # noqa: F401

STATEMENT = 'sticky cookie stay'
VALUE = re.compile(r'stay=([0-9a-f]{32})((?:; [^;]+)*)')


def text_of(three, more=STATEMENT, site=''):
    lines = ''.join(f'    origin 127.0.0.1:{one.port}\n' for one in three)
    return 'listen 127.0.0.1:{port} plain serve\nlisten 127.0.0.1:{port2}\n' \
           f'upstream app {{\n{lines}    {more}\n}}\nsite localhost {{ proxy app }}\n{site}'


def ask(gateway, value=None):
    """Who answered, and the value that was set with it (None: none was)."""
    response = get(gateway.port, '/', *([f'Cookie: stay={value}'] if value else []))
    assert response.status == 200, response.status
    given = response.all('Set-Cookie')
    assert len(given) <= 1
    return response.text, VALUE.fullmatch(given[0]).group(1) if given else None


def values_of(gateway, names='abc'):
    """{origin: value}, of strangers' requests."""
    values = {}
    def found():
        name, value = ask(gateway)
        assert value and values.setdefault(name, value) == value
        return set(values) == set(names)
    wait_until(found, lambda: f'all of {names}: {values}', every=0)
    return values


def stay(gateway, values, count=4):
    for name, value in values.items():
        for _ in range(count):
            assert ask(gateway, value) == (name, None)


def curl(gateway, folder, scheme, *more):
    port = gateway.ports[scheme == 'https']
    done = subprocess.run(['curl', '-sk', '-b', f'{folder}/{scheme}', '-c', f'{folder}/{scheme}', '--resolve', f'localhost:{port}:127.0.0.1',
                           *more, f'{scheme}://localhost:{port}/'], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_a_browser_stays(three, folder):
    """curl keeps cookies as browsers do, on connections of their own: whatever worker, it is one origin."""
    with Gateway(text_of(three, STATEMENT + ' for 1h')) as gateway:
        for scheme in 'http', 'https':
            first = curl(gateway, folder, scheme, '-i')
            given = re.findall(r'(?mi)^set-cookie: (.*?)\r?$', first)
            assert len(given) == 1
            secure = '; Secure' if scheme == 'https' else ''
            assert VALUE.fullmatch(given[0]).group(2) == f'; Path=/; Max-Age=3600{secure}; HttpOnly; SameSite=Lax'
            name = first.strip()[-1]
            assert collections.Counter(curl(gateway, folder, scheme) for _ in range(12)) == {name: 12}
        assert gateway.counter('sticky_given') == 2


def test_it_outlives_everything(three):
    """A value is good across workers, a reload, their deaths, the vault's, the supervisor's, and another start."""
    with Gateway(text_of(three)) as gateway:
        values = values_of(gateway)
        stay(gateway, values)
        gateway.reload_well(text_of(three, STATEMENT, f'site more.test {{ proxy app; proxy 127.0.0.1:{three[0].port} sticky on /x }}\n'))
        stay(gateway, values)
        for role in 'worker', 'vault':
            for pid in (old := gateway.pids(role)):
                os.kill(pid, 9)
            wait_until(lambda: len(gateway.pids(role)) == len(old) and not set(old) & set(gateway.pids(role)), f'new {role}s')
            gateway.settle()
            stay(gateway, values)
        os.kill(gateway.process.pid, 9)
        gateway.process.wait()
        gateway.start()
        stay(gateway, values)
        gateway.stop()
        gateway.start()
        stay(gateway, values)
        assert gateway.counter('sticky_given') == gateway.counter('sticky_ignored') == 0


def test_nobody_makes_one(three):
    with Gateway(text_of(three)) as gateway:
        values = values_of(gateway)
        one = values['a']
        wrong = ['', 'a', '0' * 32, one[:-1], one + '0', one.upper() if one.upper() != one else one[::-1], f'"{one}"',
                 ('1' if one[0] == '0' else '0') + one[1:], f'127.0.0.1:{three[0].port}']
        for value in wrong:
            response = get(gateway.port, '/', f'Cookie: stay={value}')
            assert VALUE.fullmatch(response.get('Set-Cookie')).group(1) == values[response.text], value
        assert gateway.counter('sticky_ignored') == len(wrong)
        # One of another gateway.
        with Gateway(text_of(three), ports=free_ports(4)) as other:
            for value in values_of(other).values():
                assert value not in values.values() and ask(gateway, value)[1]
        # The origin sees it, and its own cookies stay as they are.
        three[0].origin.behave = lambda exchange: exchange.reply(200, 'a', 'Set-Cookie: own=1; Path=/x', 'Set-Cookie: two=2')
        response = get(gateway.port, '/', f'Cookie: other=1; stay={one}')
        assert response.all('Set-Cookie') == ['own=1; Path=/x', 'two=2']


@pytest.mark.parametrize('way', ['down', 'lost', 'drain', 'removed'])
def test_an_origin_goes(three, way):
    """Its clients are given another, and stay there; those of others stay where they are."""
    for one in three:
        check_of(one)
    more = STATEMENT + '; check /healthz every 100ms timeout 5s' if way == 'down' else STATEMENT + '; eject 1'
    with Gateway(text_of(three, more)) as gateway:
        values = values_of(gateway)
        mine = values.pop('a')
        if way == 'down':
            three[0].healthy = False
            workers = len(gateway.pids('worker'))
            wait_until(lambda: gateway.counter('origin_went_down') == workers, 'all workers to know')
        elif way == 'lost':
            three[0].origin.__exit__()
        elif way == 'drain':
            done = run_command('origin', 'drain', f'127.0.0.1:{three[0].port}', '-c', gateway.config, env=gateway.env)
            assert done.returncode == 0, done.stderr
        else:
            gateway.reload_well(text_of(three[1:], more))
        for _ in range(4):
            name, given = ask(gateway, mine)
            assert values[name] == given
        stay(gateway, values)
        if way == 'drain':
            done = run_command('origin', 'up', f'127.0.0.1:{three[0].port}', '-c', gateway.config, env=gateway.env)
            assert done.returncode == 0, done.stderr
            stay(gateway, {**values, 'a': mine})


def test_a_gateway_without_tls_has_a_key_too(three):
    text = text_of(three).replace('listen 127.0.0.1:{port2}\n', '')
    with Gateway(text.replace(STATEMENT, '')) as gateway:
        assert get(gateway.port, '/').get('Set-Cookie') is None
        keys = os.path.join(gateway.state, 'keys', 'cookie', 'keys')
        assert not os.path.exists(keys), 'nobody asked for it'
        gateway.reload_well(text)
        stay(gateway, values_of(gateway))
        assert os.stat(keys).st_mode & 0o777 == 0o600


def test_an_unwritable_key_folder_is_told(three):
    """No key, so no cookie: the change is refused with the file's name, and what runs stays."""
    with Gateway(text_of(three, '')) as gateway:
        folder = os.path.join(gateway.state, 'keys', 'cookie')
        with open(folder, 'w', encoding='utf-8'):
            pass
        done = gateway.reload(text_of(three))
        assert done.returncode == 1 and 'cookie/keys' in done.stderr, done.stderr
        assert get(gateway.port, '/').status == 200
        os.unlink(folder)
        gateway.reload_well(text_of(three))
        stay(gateway, values_of(gateway))


@pytest.mark.usefixtures('test_build')
def test_a_new_key(three):
    """After 90 days: values of the key before are known, and replaced; another 90 days later they are void."""
    with Gateway(text_of(three)) as gateway:
        old = values_of(gateway)
        gateway.move_wall_clock(91 * 86400)
        wait_until(lambda: ask(gateway, old['a'])[1], 'a new value for the same client')
        new = {}
        for name, value in old.items():
            who, new[name] = ask(gateway, value)
            assert who == name and new[name] not in old.values()
        stay(gateway, new)
        assert gateway.counter('sticky_ignored') == gateway.counter('sticky_moved') == 0
        gateway.move_wall_clock(91 * 86400)
        wait_until(lambda: ask(gateway, new['a'])[1], 'the next')
        for name, value in new.items():
            assert ask(gateway, value)[0] == name
        assert gateway.counter('sticky_ignored') == 0
        ask(gateway, old['a'])
        assert gateway.counter('sticky_ignored') == 1
