// @connectrpc/connect-node, as a client and as a server of Connect and of gRPC. All messages are empty.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const http2 = require('node:http2');
const path = require('node:path');
const { create, createFileRegistry } = require('@bufbuild/protobuf');
const { EmptySchema, FileDescriptorSetSchema, file_google_protobuf_empty } = require('@bufbuild/protobuf/wkt');
const { Code, ConnectError, createClient } = require('@connectrpc/connect');
const connect = require('@connectrpc/connect-node');
const { say, obey } = require('./lines.cjs');

const method = (name, more) => ({
  name, inputType: '.google.protobuf.Empty', outputType: '.google.protobuf.Empty', ...more,
});
const file = {
  name: 'interop.proto', package: 'interop', syntax: 'proto3', dependency: ['google/protobuf/empty.proto'],
  service: [{
    name: 'Interop',
    method: [
      method('Echo'), method('Never'),
      method('Stream', { serverStreaming: true }), method('Upload', { clientStreaming: true }),
    ],
  }],
};
const files = create(FileDescriptorSetSchema, { file: [file_google_protobuf_empty.proto, file] });
const Interop = createFileRegistry(files).getService('interop.Interop');

function begun(name, context) {
  const header = context.requestHeader.get('connect-timeout-ms');
  say({ event: 'begun', method: name, remaining_ms: context.timeoutMs() ?? null, header });
  context.signal.addEventListener('abort', () => {
    const { reason } = context.signal;
    say({ event: 'over', method: name, why: reason instanceof ConnectError ? Code[reason.code] : String(reason) });
  });
}

const aborted = (context) => new Promise((_, reject) => {
  context.signal.addEventListener('abort', () => reject(context.signal.reason));
});

const routes = (router) => router.service(Interop, {
  echo(_, context) {
    begun('Echo', context);
    return create(EmptySchema);
  },
  never(_, context) {
    begun('Never', context);
    return aborted(context);
  },
  async *stream(_, context) {
    begun('Stream', context);
    yield create(EmptySchema);
    await aborted(context);
  },
  async upload(requests, context) {
    begun('Upload', context);
    for await (const _ of requests);
    return create(EmptySchema);
  },
});

function serve({ http1, maximum_ms }) {
  const handler = connect.connectNodeAdapter({ routes, maxTimeoutMs: maximum_ms });
  const server = http1 ? http.createServer(handler) : http2.createServer(handler);
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port }));
  });
}

async function call({ to, method: name, timeout_ms, grpc, http1, cancel_ms, count = 1 }) {
  const options = { baseUrl: `http://${to}`, httpVersion: http1 ? '1.1' : '2', useBinaryFormat: !!grpc };
  const transport = grpc ? connect.createGrpcTransport(options) : connect.createConnectTransport(options);
  const client = createClient(Interop, transport);
  const stop = new AbortController();
  const limits = { timeoutMs: timeout_ms, signal: stop.signal };
  if (cancel_ms !== undefined) setTimeout(() => stop.abort(), cancel_ms);
  let messages = 0;
  async function* endless() {
    yield create(EmptySchema);
    await new Promise(() => {});
  }
  try {
    if (name === 'Echo') for (let left = count; left > 0; left -= 1) await client.echo({}, limits);
    if (name === 'Never') await client.never({}, limits);
    if (name === 'Stream') for await (const _ of client.stream({}, limits)) messages += 1;
    if (name === 'Upload') await client.upload(endless(), limits);
    return { code: 0, message: '', messages };
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return { code, message: rawMessage, messages };
  }
}

// Its package doesn't export its own description.
const main = require.resolve('@connectrpc/connect-node');
const root = main.slice(0, main.lastIndexOf(`connect-node${path.sep}`) + 'connect-node'.length);
const { version } = JSON.parse(fs.readFileSync(path.join(root, 'package.json')));

obey({ version: () => ({ version: `@connectrpc/connect-node ${version}` }), serve, call });
