"""grpcio, as a client and as a server. All messages are empty."""

import json
import sys
import threading
from concurrent import futures

import grpc

PREFIX = "/interop.Interop/"
UNARY, STREAMS, UPLOADS = {"Echo", "Never"}, {"Stream"}, {"Upload"}
lock = threading.Lock()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        name = details.method.removeprefix(PREFIX)

        def begin(context):
            remaining = context.time_remaining()
            # One that is never reached stands for none.
            ms = None if remaining is None or remaining > 1e15 else remaining * 1000
            over = threading.Event()
            # It says no if the call is over already.
            if not context.add_callback(over.set):
                over.set()
            say(event="begun", method=name, remaining_ms=ms)
            return over

        def end(context, over):
            over.wait()
            say(event="over", method=name, why="cancelled" if not context.is_active() else "?")

        def unary(_, context):
            over = begin(context)
            if name == "Never":
                end(context, over)
            return b""

        def stream(_, context):
            over = begin(context)
            yield b""
            end(context, over)

        def upload(requests, context):
            over = begin(context)
            try:
                for _ in requests:
                    pass
            except grpc.RpcError:
                pass
            end(context, over)
            return b""

        if name in UNARY:
            return grpc.unary_unary_rpc_method_handler(unary)
        if name in STREAMS:
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.stream_unary_rpc_method_handler(upload)


servers = []


def serve(_):
    server = grpc.server(futures.ThreadPoolExecutor(64))
    server.add_generic_rpc_handlers([Handlers()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    servers.append(server)
    return {"port": port}


def call(command):
    name, over, messages = command["method"], threading.Event(), 0
    timeout = command.get("timeout_ms")
    limit = None if timeout is None else timeout / 1000

    def endless():
        yield b""
        over.wait()

    with grpc.insecure_channel(command["to"]) as channel:
        try:
            if "count" in command:
                for _ in range(command["count"]):
                    channel.unary_unary(PREFIX + name)(b"", timeout=limit)
                return {"code": 0, "message": "", "messages": messages}
            if name in STREAMS:
                calling = channel.unary_stream(PREFIX + name)(b"", timeout=limit)
            elif name in UPLOADS:
                calling = channel.stream_unary(PREFIX + name).future(endless(), timeout=limit)
            else:
                calling = channel.unary_unary(PREFIX + name).future(b"", timeout=limit)
            if "cancel_ms" in command:
                threading.Timer(command["cancel_ms"] / 1000, calling.cancel).start()
            if name in STREAMS:
                for _ in calling:
                    messages += 1
            else:
                calling.result()
            return {"code": 0, "message": "", "messages": messages}
        except (grpc.RpcError, grpc.FutureCancelledError):
            return {"code": calling.code().value[0], "message": calling.details(), "messages": messages}
        finally:
            over.set()


def version(_):
    return {"version": f"grpcio {grpc.__version__}, Python {sys.version.split()[0]}"}


def answer(command):
    try:
        say(id=command["id"], **{"serve": serve, "call": call, "version": version}[command["do"]](command))
    except Exception as error:
        say(id=command["id"], error=repr(error))


for line in sys.stdin:
    threading.Thread(target=answer, args=[json.loads(line)], daemon=True).start()
