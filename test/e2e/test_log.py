"""Where records go."""
import glob
import json
import os

import pytest

from client import Load, get
from gateway import Gateway, wait_until

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
