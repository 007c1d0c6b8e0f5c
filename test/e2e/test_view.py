"""What an operator sees of single requests: traces, slow requests, and the live view."""
import json
import re
import time

import pytest

from client import Client, get
from gateway import Gateway, wait_until
from origin import Origin

SITE = 'listen 127.0.0.1:{port} plain serve\nlog access stdout\n'
TRACE, SPAN = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
VALID = f'00-{TRACE}-{SPAN}-01'


def sent(gateway, path, *fields, host='localhost'):
    """The trace fields that the origin was sent: their values by name, and the access record."""
    answer = get(gateway.port, path, *fields, host=host)
    assert answer.status == 200, answer.text
    found = {'traceparent': [], 'tracestate': []}
    for name, value in json.loads(answer.text)['fields']:
        if name.lower() in found:
            found[name.lower()].append(value)
    return found['traceparent'], found['tracestate'], gateway.record(path)


@pytest.fixture(scope='module')
def traced():
    with Origin() as origin:
        text = SITE + ''.join(f'site {name} {{ {statement}proxy {origin.port} }}\n' for name, statement in (
            ('localhost', ''), ('pass.test', 'traceparent pass; '), ('off.test', 'traceparent off; ')))
        with Gateway(text) as gateway:
            yield gateway


def test_a_trace_is_passed_on(traced):
    parents, states, record = sent(traced, '/valid', f'traceparent: {VALID}', 'tracestate: a=1', 'tracestate: b=2')
    assert len(parents) == 1
    version, trace, span, flags = parents[0].split('-')
    assert (version, trace, flags) == ('00', TRACE, '01') and span != SPAN and re.fullmatch('[0-9a-f]{16}', span)
    assert states == ['a=1', 'b=2']
    assert (record['trace_id'], record['span_id']) == (trace, span)
    # Not sampled stays not sampled.
    parents, _, _ = sent(traced, '/unsampled', f'traceparent: 00-{TRACE}-{SPAN}-00')
    assert parents[0].startswith(f'00-{TRACE}-') and parents[0].endswith('-00')


def test_a_trace_is_begun(traced):
    seen = set()
    for i, fields in enumerate(((), (f'traceparent: ff-{TRACE}-{SPAN}-01',), (f'traceparent: {VALID}-x',), ('traceparent: ',),
                                (f'traceparent: {VALID}', f'traceparent: {VALID}'), (f'traceparent: {VALID.upper()}',),
                                (f'traceparent: {VALID}', 'Connection: traceparent'))):
        parents, states, record = sent(traced, f'/begun{i}', *fields, 'tracestate: a=1')
        assert len(parents) == 1 and not states, fields
        found = re.fullmatch('00-([0-9a-f]{32})-([0-9a-f]{16})-03', parents[0])
        assert found and found[1] not in (TRACE, '0' * 32) and found[2] not in (SPAN, '0' * 16), parents
        assert (record['trace_id'], record['span_id']) == found.groups()
        seen.add(found[1])
    assert len(seen) == 7


def test_traces_by_site(traced):
    parents, states, record = sent(traced, '/none', 'tracestate: a=1', host='pass.test')
    assert not parents and not states and 'trace_id' not in record
    parents, _, record = sent(traced, '/passed', f'traceparent: {VALID}', host='pass.test')
    assert parents[0].startswith(f'00-{TRACE}-') and record['trace_id'] == TRACE
    parents, states, record = sent(traced, '/off', f'traceparent: {VALID}', 'tracestate: a=1', host='off.test')
    assert parents == [VALID] and states == ['a=1'] and 'trace_id' not in record
    assert sent(traced, '/off2', host='off.test')[0] == []


def slow_events(gateway, path):
    wait_until(lambda: gateway.record(path), 'its line')
    return [e['http'] for e in list(gateway.events) if e.get('message') == 'slow request' and e['http']['path'] == path]


def wait_for_slow(gateway, path):
    wait_until(lambda: slow_events(gateway, path), 'an event')
    found = slow_events(gateway, path)
    assert len(found) == 1
    return found[0]


def test_slow_requests(test_build):
    def behave(exchange):
        if exchange.target.startswith('/slow'):
            time.sleep(0.6)
        exchange.read_body()
        return exchange.reply(200, 'done')

    with Origin(behave) as origin, Gateway(SITE + f'log events stdout\nlog slow 500ms\nsite localhost {{ proxy {origin.port} }}\n') as gateway:
        get(gateway.port, '/quick')
        get(gateway.port, '/slow?secret=1')
        found = wait_for_slow(gateway, '/slow')
        assert not slow_events(gateway, '/quick')
        stages = found['stages_ms']
        assert list(stages) == ['head', 'route', 'firewall', 'auth', 'rules-head', 'request-pump', 'dispatch', 'rules-response', 'send']
        assert found['status'] == 200 and found['end'] == 'ok' and 'secret' not in json.dumps(found)
        assert stages['dispatch'] >= 500 and max(stages.values()) == stages['dispatch']
        assert abs(sum(stages.values()) - found['duration_ms']) < 0.1
        record = gateway.record('/slow')
        assert (found['request_id'], found['trace_id']) == (record['request_id'], record['trace_id'])
        # A client that is slow with its head, and one that is slow with its body.
        for path, pieces, stage in (('/head', ('GET /head HTTP/1.1\r\nHost:', ' localhost\r\n\r\n'), 'head'),
                                    ('/body', ('POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nab', 'cd'), 'request-pump')):
            with Client(gateway.port) as client:
                client.send(pieces[0])
                time.sleep(0.7)
                client.send(pieces[1])
                assert client.response().status == 200
            stages = wait_for_slow(gateway, path)['stages_ms']
            assert stages[stage] >= 500 and max(stages.values()) == stages[stage]
        wait_until(lambda: gateway.counter('exchanges_slow') == 3, 'three to be counted')


def test_slow_requests_without_an_access_log(test_build):
    def behave(exchange):
        time.sleep(0.2)
        return exchange.reply(200, 'done')

    with Origin(behave) as origin, Gateway('listen 127.0.0.1:{port} plain serve\nlog access off\nlog events stdout\nlog slow 1ms\n'
                                           f'site localhost {{ proxy {origin.port} }}\n') as gateway:
        get(gateway.port, '/a')
        wait_until(lambda: [e for e in list(gateway.events) if e.get('message') == 'slow request'], 'an event')
        assert not gateway.records
