// Node's own HTTP/2: frames as they are told, well-formed calls or not.
'use strict';

const http2 = require('node:http2');
const { say, obey } = require('./lines.cjs');

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const message = () => Buffer.from([0, 0, 0, 0, 0]);

// A server that does to each stream what `plan` says: [{ after_ms, headers, message, half, trailers, reset }]
function serve({ plan = [] }) {
  const server = http2.createServer();
  server.on('stream', (stream, headers) => {
    const timeouts = ['grpc-timeout', 'connect-timeout-ms'].filter((name) => name in headers);
    const told = Object.fromEntries(timeouts.map((name) => [name, headers[name]]));
    say({ event: 'begun', path: headers[':path'], timeouts: told });
    stream.on('error', () => {});
    stream.on('close', () => say({ event: 'over', rst: stream.rstCode, ended: stream.readableEnded }));
    stream.resume();
    carry_out(stream, plan);
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port }));
  });
}

async function carry_out(stream, plan) {
  for (const step of plan) {
    await later(step.after_ms ?? 0);
    if (stream.destroyed) return;
    if (step.headers) {
      const head = { ':status': 200, 'content-type': 'application/grpc', ...step.headers };
      stream.respond(head, { waitForTrailers: !step.end, endStream: !!step.end });
    }
    if (step.message) stream.write(message());
    if (step.half) stream.write(message().subarray(0, 3));
    if (step.trailers) {
      stream.on('wantTrailers', () => stream.sendTrailers(step.trailers));
      stream.end();
    }
    if (step.reset !== undefined) stream.close(step.reset);
    say({ event: 'done', step: Object.keys(step).filter((key) => key !== 'after_ms').join() });
  }
}

// A client that keeps no time.
function call({ to, path, headers = {}, open = false, reset, after_ms }) {
  const session = http2.connect(`http://${to}`);
  const head = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...headers };
  return new Promise((resolve) => {
    const seen = { data: 0 };
    const stream = session.request(head, { endStream: false });
    stream.on('response', (headers) => (seen.head = headers));
    stream.on('data', (data) => (seen.data += data.length));
    stream.on('trailers', (trailers) => (seen.trailers = trailers));
    stream.on('error', (error) => (seen.failure = error.code));
    stream.on('close', () => {
      session.destroy();
      resolve({ ...seen, rst: stream.rstCode });
    });
    session.on('error', (error) => resolve({ ...seen, failure: error.code }));
    stream.write(message());
    if (!open) stream.end();
    if (reset !== undefined) setTimeout(() => stream.close(reset), after_ms);
  });
}

// Calls one after the other on one connection, each with a timeout. Returns their statuses.
async function calls({ to, path, timeouts }) {
  const session = http2.connect(`http://${to}`);
  const statuses = [];
  for (const timeout of timeouts) {
    const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
    const stream = session.request({ ...headers, 'grpc-timeout': timeout }, { endStream: false });
    stream.on('response', (head) => head['grpc-status'] && statuses.push(head['grpc-status']));
    stream.on('trailers', (trailers) => statuses.push(trailers['grpc-status']));
    stream.resume().end(message());
    await new Promise((resolve) => stream.on('close', resolve));
  }
  session.destroy();
  return { statuses };
}

obey({ version: () => ({ version: `Node.js ${process.versions.node}` }), serve, call, calls });
