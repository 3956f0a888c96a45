// HTTP as Node's own clients speak it, `http` and `http2`: calls one after the other, on one connection as long
// as there is one.
'use strict';

const http = require('node:http');
const http2 = require('node:http2');
const { obey } = require('./lines.cjs');

let let_read;
const may_read = new Promise((resolve) => (let_read = resolve));

const failed = (error) => ({ data: 0, ended: false, error: error.code });

// How much came of an answer, and how it ended.
async function follow(answer, status, headers, { reads = true }) {
  const seen = { status, why: headers['x-deadline-exceeded'], data: 0, ended: false };
  if (!reads) await may_read;
  try {
    for await (const piece of answer) seen.data += piece.length;
    seen.ended = true;
  } catch (error) {
    seen.error = error.code;
  }
  return seen;
}

// What an upload sends: some of it and no end, or no end of it.
function upload(request, { sends }) {
  if (sends === 'nothing') return;
  request.write('half');
  const piece = Buffer.alloc(1 << 16);
  const more = () => {
    while (!request.destroyed && !request.writableEnded && request.write(piece));
  };
  if (sends === 'all') {
    request.on('drain', more);
    more();
  }
}

// The answer is there, and so nothing more is sent.
function over(request, { sends }) {
  if (sends === 'all') request.destroy();
  else request.end();
}

const method = ({ sends }) => (sends === 'nothing' ? 'GET' : 'POST');

function over1(agent, to, call) {
  return new Promise((resolve) => {
    const request = http.request(`http://${to}${call.path}`, { agent, method: method(call), headers: call.headers });
    let has_begun = false;
    request.on('response', async (answer) => {
      has_begun = true;
      const seen = await follow(answer, answer.statusCode, answer.headers, call);
      over(request, call);
      resolve(seen);
    });
    // After the head, it is told of the answer as well.
    request.on('error', (error) => has_begun || resolve(failed(error)));
    if (call.sends === 'nothing') request.end();
    upload(request, call);
  });
}

function over2(session, call) {
  return new Promise((resolve) => {
    const head = { ':method': method(call), ':path': call.path, ...call.headers };
    const stream = session.request(head, { endStream: call.sends === 'nothing' });
    let has_begun = false;
    stream.on('response', async (head) => {
      has_begun = true;
      const seen = await follow(stream, head[':status'], head, call);
      over(stream, call);
      resolve({ ...seen, rst: stream.rstCode });
    });
    stream.on('error', (error) => has_begun || resolve(failed(error)));
    upload(stream, call);
  });
}

async function calls({ to, version, calls }) {
  const seen = [];
  if (version === 1) {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (const call of calls) seen.push(await over1(agent, to, call));
    agent.destroy();
  } else {
    const session = http2.connect(`http://${to}`);
    session.on('error', () => {});
    for (const call of calls) seen.push(await over2(session, call));
    session.destroy();
  }
  return { seen };
}

// Has those go on that don't read until then.
function read() {
  let_read();
  return {};
}

obey({ version: () => ({ version: `Node.js ${process.versions.node}` }), calls, read });
