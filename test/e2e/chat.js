// An application as people write them with the package ws: a page, a WebSocket that echoes, an event stream whose next
// event is sent only after the client acknowledged the one before. Prints its port when it listens.
'use strict';
const http = require('http');
const { WebSocketServer } = require('ws');

const page = `<!doctype html><title>chat</title><h1>Chat</h1><p id=socket>no socket</p><p id=events>no events</p><script>
const show = (id, text) => { document.getElementById(id).textContent = text; };
const once = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));

async function connect() {
	window.socket = new WebSocket(location.origin.replace('http', 'ws') + '/socket');
	socket.binaryType = 'arraybuffer';
	await once(socket, 'open');
	show('socket', 'connected, ' + (socket.extensions || 'no extension'));
}
// How many bytes of what came back differ from what was sent.
async function echo(size) {
	const sent = new Uint8Array(size);
	for (let i = 0; i < size; i += 65536) crypto.getRandomValues(sent.subarray(i, i + 65536));
	socket.send(sent);
	const got = new Uint8Array((await once(socket, 'message')).data);
	let bad = Math.abs(got.length - size);
	for (let i = 0; i < size; i++) bad += got[i] !== sent[i];
	show('socket', 'echo of ' + size + ' bytes, ' + bad + ' wrong');
	return bad;
}
async function close(act) {
	const closed = once(socket, 'close');
	act();
	const { code, reason, wasClean } = await closed;
	show('socket', 'closed: ' + code + ' ' + reason);
	return [code, reason, wasClean];
}
// Events until so many are there; each is acknowledged, else the next would not be sent.
function listen() {
	window.seen = [];
	window.stream = new EventSource('/events?name=page');
	window.failures = 0;
	stream.onerror = () => failures++;
	stream.onmessage = (event) => {
		seen.push(event.data);
		show('events', seen.length + ' events, the last: ' + event.data);
	};
	return once(stream, 'message');
}
async function next() {
	const arrived = once(stream, 'message');
	await fetch('/acknowledge?name=page');
	return (await arrived).data;
}
</script>`;

const streams = new Map();
function events(response, name) {
	response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
	let count = 0;
	const send = () => response.write(`id: ${count}\ndata: event ${count++}\n\n`);
	streams.set(name, send);
	send();
}

const closed = [];
const server = http.createServer((request, response) => {
	const url = new URL(request.url, 'http://app');
	if (url.pathname === '/events')
		events(response, url.searchParams.get('name'));
	else if (url.pathname === '/acknowledge') {
		streams.get(url.searchParams.get('name'))();
		response.end('ok');
	} else if (url.pathname === '/closed')
		response.end(JSON.stringify(closed));
	else
		response.writeHead(200, { 'Content-Type': 'text/html' }).end(page);
});

const sockets = new WebSocketServer({ server, perMessageDeflate: true, maxPayload: 4 << 20 });
sockets.on('connection', (socket, request) => {
	socket.on('message', (data, isBinary) => {
		if (!isBinary && String(data) === 'who') return socket.send(request.headers['x-forwarded-proto'] + ' ' + request.headers['x-forwarded-for']);
		if (!isBinary && String(data) === 'end') return socket.close(4001, 'as you wish');
		socket.send(data, { binary: isBinary });
	});
	socket.on('close', (code, reason) => closed.push([code, String(reason)]));
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log(server.address().port));
