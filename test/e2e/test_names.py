"""Origins by name: a name server of the test plays what a resolver may do, and the gateway follows, or goes on."""
import contextlib
import threading

import pytest

from client import Client, get
from gateway import Gateway, new_folder, wait_until
from mounts import in_mounts
from name_server import NameServer
from origin import Origin

PLAIN = 'listen 127.0.0.1:{port} plain serve\nlog access stdout\n'


class Named:
    def __init__(self, name, address, port=0):
        self.name, self.asked, self.go_on = name, threading.Event(), threading.Event()
        self.origin = Origin(self.answer, port=port, address=address)

    def answer(self, exchange):
        if exchange.target == '/slow':
            self.asked.set()
            assert self.go_on.wait(30)
        return exchange.reply(200, self.name)


@pytest.fixture
def two():
    """The same port of two addresses."""
    with contextlib.ExitStack() as stack:
        first = Named('first', '127.0.0.2')
        second = Named('second', '127.0.0.3', first.origin.port)
        for one in (first, second):
            stack.enter_context(one.origin)
        yield first, second


def gateway_with(server, text, hosts='', search=''):
    folder = new_folder()
    for name, lines in (('resolv', f'nameserver 127.0.0.1:{server.port}\n{search}'), ('hosts', hosts)):
        with open(f'{folder}/{name}', 'w', encoding='utf-8') as file:
            file.write(lines)
    script = f'mount --bind {folder}/resolv /etc/resolv.conf; mount --bind {folder}/hosts /etc/hosts'
    return Gateway(PLAIN + text, folder=folder, prefix=in_mounts(script))


def test_changes_are_followed(two):
    """New connections go to the new address; an unused one to the old is closed, a request under way there ends."""
    first, second = two
    with NameServer({'app.test': ['127.0.0.2']}) as server, \
            gateway_with(server, f'site localhost {{ proxy http://app.test:{first.origin.port} }}\nlimits {{ idle 60s }}') as gateway:
        assert get(gateway.port).text == 'first'
        with Client(gateway.port) as client:
            client.request('GET', '/slow')
            assert first.asked.wait(30)
            assert get(gateway.port).text == 'first'
            wait_until(lambda: first.origin.connections, lambda: 'a kept connection')
            server.table['app.test'] = ['127.0.0.3']
            wait_until(lambda: get(gateway.port).text == 'second', lambda: server.asked[-4:])
            # Only what is under way is left.
            wait_until(lambda: len(first.origin.connections) == 1, lambda: first.origin.connections)
            first.go_on.set()
            assert client.response().text == 'first'
            wait_until(lambda: not first.origin.connections, lambda: first.origin.connections)
        assert {get(gateway.port).text for _ in range(5)} == {'second'}
        # And back, with both: nothing is gone.
        server.table['app.test'] = ['127.0.0.3', '127.0.0.2']
        asked = len(server.asked)
        wait_until(lambda: len(server.asked) >= asked + 4, lambda: server.asked[asked:])
        assert get(gateway.port).text in ('first', 'second')
        assert second.origin.connections


def test_the_last_good_answer_stays(two):
    """Whatever the name server does afterwards: the name is known."""
    first, _ = two
    with NameServer({'app.test': ['127.0.0.2']}, ttl=0) as server, \
            gateway_with(server, f'site localhost {{ proxy http://app.test:{first.origin.port} }}') as gateway:
        assert get(gateway.port).text == 'first'
        for answer in ('nxdomain', 'servfail', 'garbage', [], ('cname', 'app.test'), 'silent'):
            server.table['app.test'] = answer
            asked = len(server.asked)
            wait_until(lambda n=asked: len(server.asked) >= n + 2, lambda: server.asked[-4:])
            for _ in range(3):
                assert get(gateway.port).text == 'first', answer
        assert all(r['end'] == 'ok' for r in gateway.records)


def test_names_as_they_come(two):
    """Search list, hosts, an alias, 100 addresses of which the first are dead."""
    first, _ = two
    port = first.origin.port
    many = [f'127.0.1.{i}' for i in range(1, 3)] + ['127.0.0.2'] + [f'127.0.2.{i}' for i in range(1, 98)]
    table = {'app.corp.test': ['127.0.0.2'], 'alias.test': ('cname', 'app.corp.test'), 'many.test': many, 'loop.test': ('cname', 'loop.test')}
    routes = ''.join(f'proxy http://{name}:{port} on /{name}\n' for name in ('app', 'in-hosts.test', 'alias.test', 'many.test', 'loop.test'))
    with NameServer(table, ttl=60) as server, \
            gateway_with(server, f'site localhost {{\n{routes}}}', hosts='127.0.0.2 in-hosts.test\n', search='search corp.test\n') as gateway:
        for name in ('app', 'in-hosts.test', 'many.test'):
            assert get(gateway.port, '/' + name).text == 'first', name
        assert get(gateway.port, '/loop.test').status == 502
        wait_until(lambda: [r for r in gateway.records if r['end'].startswith('origin-dns')], lambda: gateway.records)
        assert not [name for name, _ in server.asked if name == 'in-hosts.test']


def test_allow_local(two):
    """A public name that leads to this machine is refused, and told once; the line may allow it."""
    first, _ = two
    port = first.origin.port
    with NameServer({'app.example.com': ['127.0.0.2']}, ttl=0) as server, \
            gateway_with(server, f'site localhost {{\nproxy http://app.example.com:{port} on /no\n'
                         f'proxy http://app.example.com:{port} allow-local on /yes\n}}') as gateway:
        assert get(gateway.port, '/yes').text == 'first'
        for _ in range(3):
            assert get(gateway.port, '/no').status == 502
        assert get(gateway.port, '/yes').text == 'first'
        wait_until(lambda: len(gateway.records) >= 5, lambda: gateway.records)
        # Each worker writes its own.
        records = sorted(gateway.records, key=lambda record: record['time'])
        assert [r['end'].split(':')[0] for r in records] == ['ok'] + ['origin-forbidden'] * 3 + ['ok']
        told = [e for e in gateway.events if 'allow-local' in str(e)]
        assert len(told) == 1 and '127.0.0.2' in str(told), gateway.events
        assert gateway.counter('origin_addresses_refused') == 1


def test_more_addresses_than_are_used(two, test_build):
    """`dns-addresses`: counted with each answer, and told once."""
    first, _ = two
    table = {'app.test': [f'127.0.0.{i}' for i in range(2, 18)]}
    with NameServer(table) as server, \
            gateway_with(server, f'site localhost {{ proxy http://app.test:{first.origin.port} }}') as gateway:
        assert get(gateway.port).status == 200 and gateway.limit('dns-addresses') == 0
        server.table['app.test'] = [f'127.0.0.{i}' for i in range(2, 19)]
        wait_until(lambda: gateway.limit('dns-addresses') >= 2, lambda: gateway.events)

        def told():
            return [e for e in list(gateway.events) if 'more addresses than are used' in e.get('message', '')]
        wait_until(told, lambda: gateway.events)
        assert len(told()) == 1 and "'limit': 'dns-addresses'" in str(told()[0]) and 'app.test' in str(told()[0])
