// @grpc/grpc-js, as a client and as a server. All messages are empty.
'use strict';

const grpc = require('@grpc/grpc-js');
const { say, obey } = require('./lines.cjs');

const empty = () => Buffer.alloc(0);
const method = (name, requestStream, responseStream) => ({
  path: `/interop.Interop/${name}`, requestStream, responseStream,
  requestSerialize: empty, requestDeserialize: empty,
  responseSerialize: empty, responseDeserialize: empty,
});
const service = {
  Echo: method('Echo', false, false),
  Never: method('Never', false, false),
  Stream: method('Stream', false, true),
  Upload: method('Upload', true, false),
};

function begun(name, call) {
  const remaining_ms = Number(call.getDeadline()) - Date.now();
  say({ event: 'begun', method: name, remaining_ms: Number.isFinite(remaining_ms) ? remaining_ms : null });
  call.on('cancelled', () => say({ event: 'over', method: name, why: 'cancelled' }));
}

function serve() {
  const server = new grpc.Server();
  server.addService(service, {
    Echo(call, answer) {
      begun('Echo', call);
      answer(null, {});
    },
    Never: (call) => begun('Never', call),
    Stream(call) {
      begun('Stream', call);
      call.write({});
    },
    Upload(call) {
      begun('Upload', call);
      call.on('data', () => {}).on('error', () => {});
    },
  });
  return new Promise((resolve, reject) => {
    const insecure = grpc.ServerCredentials.createInsecure();
    server.bindAsync('127.0.0.1:0', insecure, (error, port) => (error ? reject(error) : resolve({ port })));
  });
}

function call({ to, method: name, timeout_ms, cancel_ms, count = 1 }) {
  const client = new grpc.Client(to, grpc.credentials.createInsecure());
  const { path, requestStream, responseStream } = service[name];
  const options = timeout_ms === undefined ? {} : { deadline: Date.now() + timeout_ms };
  return new Promise((resolve) => {
    let messages = 0;
    const end = (error) => {
      resolve({ code: error ? error.code : 0, message: error ? error.details : '', messages });
      client.close();
    };
    let calling;
    if (responseStream) {
      calling = client.makeServerStreamRequest(path, empty, empty, {}, new grpc.Metadata(), options);
      calling.on('data', () => (messages += 1)).on('error', end).on('end', () => end(null));
    } else if (requestStream) {
      calling = client.makeClientStreamRequest(path, empty, empty, new grpc.Metadata(), options, end);
      calling.write({});
    } else {
      let left = count;
      const again = (error) => {
        if (error || left === 0) return end(error);
        left -= 1;
        calling = client.makeUnaryRequest(path, empty, empty, {}, new grpc.Metadata(), options, again);
      };
      again(null);
    }
    if (cancel_ms !== undefined) setTimeout(() => calling.cancel(), cancel_ms);
  });
}

obey({
  version: () => ({ version: `@grpc/grpc-js ${require('@grpc/grpc-js/package.json').version}` }),
  serve,
  call,
});
