// An application as people write them: uploads, downloads, a WebSocket, server-sent events. Nothing but Node's own
// modules. Prints its port when it listens.
'use strict';
const http = require('http');
const crypto = require('crypto');

const block = Buffer.alloc(1 << 20);
for (let i = 0; i < block.length; i++) block[i] = (i * 7 + (i >> 8)) & 255;

function digestOf(request, done) {
	const hash = crypto.createHash('sha256');
	let length = 0;
	request.on('data', (part) => { hash.update(part); length += part.length; });
	request.on('end', () => done(hash.digest('hex'), length));
}

function download(response, blocks) {
	let left = blocks;
	response.writeHead(200, { 'Content-Length': blocks * block.length, 'Content-Type': 'application/octet-stream' });
	const more = () => {
		while (left > 0) {
			left--;
			if (!response.write(block)) return response.once('drain', more);
		}
		response.end();
	};
	more();
}

// Each event is sent only after the client acknowledged the one before.
const streams = new Map();
function events(response, name) {
	response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
	let count = 0;
	const send = () => response.write(`id: ${count}\ndata: event ${count++}\n\n`);
	streams.set(name, { send, end: () => response.end() });
	send();
}

const server = http.createServer((request, response) => {
	const url = new URL(request.url, 'http://app');
	const path = url.pathname;
	if (path === '/upload')
		digestOf(request, (digest, length) => response.end(JSON.stringify({ digest, length })));
	else if (path === '/download')
		download(response, Number(url.searchParams.get('blocks')));
	else if (path === '/events')
		events(response, url.searchParams.get('name'));
	else if (path === '/acknowledge') {
		const stream = streams.get(url.searchParams.get('name'));
		url.searchParams.has('last') ? stream.end() : stream.send();
		response.end('ok');
	} else
		response.end(`hello ${path}`);
});

// RFC 6455, enough to echo: one frame, masked, up to 64 KiB.
function readFrame(data) {
	let length = data[1] & 127, at = 2;
	if (length === 126) { length = data.readUInt16BE(2); at = 4; }
	if (data.length < at + 4 + length) return null;
	const mask = data.subarray(at, at + 4), text = Buffer.from(data.subarray(at + 4, at + 4 + length));
	for (let i = 0; i < text.length; i++) text[i] ^= mask[i & 3];
	return { code: data[0] & 15, text, rest: data.subarray(at + 4 + length) };
}
function writeFrame(socket, code, text) {
	const head = text.length < 126 ? Buffer.from([128 | code, text.length])
		: Buffer.from([128 | code, 126, text.length >> 8, text.length & 255]);
	socket.write(Buffer.concat([head, text]));
}
server.on('upgrade', (request, socket, head) => {
	const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
	const accept = crypto.createHash('sha1').update(key).digest('base64');
	socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
		`Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
	let data = Buffer.from(head);
	socket.on('error', () => {});
	socket.on('data', (part) => {
		data = Buffer.concat([data, part]);
		for (let frame; data.length >= 2 && (frame = readFrame(data)); ) {
			data = frame.rest;
			writeFrame(socket, frame.code, frame.text);
			if (frame.code === 8) return socket.end();
		}
	});
});

if (process.env.KEEP_ALIVE_MS) server.keepAliveTimeout = Number(process.env.KEEP_ALIVE_MS);
server.listen(Number(process.env.PORT || 0), '127.0.0.1', () => console.log(server.address().port));
