"""Python's h2: frames, sent as they are told and counted as they come."""

import json
import socket
import sys
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

lock = threading.Lock()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


MESSAGE = bytes(5)


def settings(command):
    return {
        h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: command.get("window", 65535),
        h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: command.get("max_streams", 100),
    }


def connection(client, command):
    config = h2.config.H2Configuration(client_side=client, header_encoding="utf-8", validate_inbound_headers=False)
    conn = h2.connection.H2Connection(config=config)
    conn.local_settings = h2.settings.Settings(client=client, initial_values=settings(command))
    conn.local_settings.acknowledge()
    return conn


class Served:
    """A connection whose streams are treated as the plan says; a plan is for all of them."""

    def __init__(self, sock, command):
        self.sock, self.command = sock, command
        self.conn = connection(False, command)
        self.lock = threading.Lock()
        self.data, self.open = {}, 0
        self.streams = 0

    def flush(self):
        data = self.conn.data_to_send()
        if data:
            try:
                self.sock.sendall(data)
            except OSError:
                pass

    def run(self):
        time.sleep(self.command.get("preface_after_ms", 0) / 1000)
        with self.lock:
            self.conn.initiate_connection()
            self.flush()
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                say(event="closed")
                return
            with self.lock:
                try:
                    events = self.conn.receive_data(data)
                except h2.exceptions.ProtocolError as error:
                    say(event="wrong", why=str(error))
                    self.flush()
                    return
                for event in events:
                    self.handle(event)
                self.flush()

    def handle(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.streams += 1
            self.open += 1
            headers = dict(event.headers)
            say(event="begun", stream=event.stream_id, open=self.open,
                told=headers.get("grpc-timeout") or headers.get("connect-timeout-ms"))
            threading.Thread(target=self.plan, args=(event.stream_id,), daemon=True).start()
        elif isinstance(event, h2.events.DataReceived):
            self.data[event.stream_id] = self.data.get(event.stream_id, 0) + len(event.data)
            if self.command.get("reads", True):
                self.conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.open -= 1
            say(event="over", stream=event.stream_id, rst=int(event.error_code), data=self.data.get(event.stream_id, 0))
        elif isinstance(event, h2.events.StreamEnded):
            say(event="uploaded", stream=event.stream_id, data=self.data.get(event.stream_id, 0))
        elif isinstance(event, h2.events.PingReceived):
            say(event="ping")
        elif isinstance(event, h2.events.ConnectionTerminated):
            say(event="goaway", code=int(event.error_code))

    def plan(self, stream):
        for step in self.command.get("plan", []):
            time.sleep(step.get("after_ms", 0) / 1000)
            with self.lock:
                try:
                    self.step(stream, step)
                except h2.exceptions.ProtocolError:
                    # It is over already.
                    return
                self.flush()

    def step(self, stream, step):
        if "headers" in step:
            head = {":status": "200", "content-type": "application/grpc", **step["headers"]}
            self.conn.send_headers(stream, list(head.items()), end_stream=step.get("end", False))
            if step.get("end"):
                self.open -= 1
        if "message" in step:
            self.conn.send_data(stream, MESSAGE)
        if "half" in step:
            self.conn.send_data(stream, MESSAGE[:3])
        if "trailers" in step:
            self.conn.send_headers(stream, list(step["trailers"].items()), end_stream=True)
            self.open -= 1
        if "reset" in step:
            self.conn.reset_stream(stream, step["reset"])
            self.open -= 1
        if "goaway" in step:
            # By hand: the library would say nothing any more after it.
            frame = hyperframe.frame.GoAwayFrame(0, step.get("last", stream), step["goaway"])
            self.flush()
            self.sock.sendall(frame.serialize())
        if "close" in step:
            self.flush()
            self.sock.shutdown(socket.SHUT_RDWR)


def serve(command):
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            sock, _ = listener.accept()
            say(event="accepted")
            threading.Thread(target=Served(sock, command).run, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return {"port": listener.getsockname()[1]}


def call(command):
    """One call, or as many as `count`, on a connection. How each ended."""
    host, port = command["to"].split(":")
    sock = socket.create_connection((host, int(port)))
    sock.settimeout(command.get("patience_ms", 20_000) / 1000)
    conn = connection(True, command)
    conn.initiate_connection()
    seen = {}
    head = {":method": "POST", ":scheme": "http", ":authority": command["to"], ":path": command["path"],
            "content-type": "application/grpc", "te": "trailers", **command.get("headers", {})}
    begun = time.monotonic()
    for _ in range(command.get("count", 1)):
        stream = conn.get_next_available_stream_id()
        conn.send_headers(stream, list(head.items()))
        conn.send_data(stream, MESSAGE[:3] if command.get("half") else MESSAGE, end_stream=not command.get("open", False))
        seen[stream] = {"data": 0}
    sock.sendall(conn.data_to_send())
    over, goaway = set(), None
    if "reset" in command:
        time.sleep(command.get("after_ms", 0) / 1000)
        for stream in seen:
            conn.reset_stream(stream, command["reset"])
        sock.sendall(conn.data_to_send())
        # Whether the connection lives on: by a PING, which comes after all that.
        conn.ping(b"12345678")
        sock.sendall(conn.data_to_send())
    while len(over) < len(seen):
        try:
            data = sock.recv(65536)
        except TimeoutError:
            return {"error": "nothing came", "streams": list(seen.values())}
        if not data:
            break
        for event in conn.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                seen[event.stream_id]["head"] = dict(event.headers)
            elif isinstance(event, h2.events.TrailersReceived):
                seen[event.stream_id]["trailers"] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                seen[event.stream_id]["data"] += len(event.data)
                if command.get("reads", True):
                    conn.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                seen[event.stream_id]["rst"] = int(event.error_code)
                seen[event.stream_id]["after_ms"] = (time.monotonic() - begun) * 1000
                over.add(event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                seen[event.stream_id]["after_ms"] = (time.monotonic() - begun) * 1000
                over.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                goaway = int(event.error_code)
            elif isinstance(event, h2.events.PingAckReceived):
                sock.close()
                return {"alive": True, "goaway": goaway, "streams": list(seen.values())}
        try:
            sock.sendall(conn.data_to_send())
        except OSError:
            break
    sock.close()
    return {"goaway": goaway, "streams": list(seen.values())}


class Calls:
    """HTTP, calls one after the other on one connection. One that doesn't read gives no window back."""

    def __init__(self, command):
        self.to = command["to"]
        host, port = self.to.split(":")
        self.sock = socket.create_connection((host, int(port)))
        self.sock.settimeout(20)
        self.conn = connection(True, command)
        self.conn.initiate_connection()

    def one(self, call):
        stream = self.conn.get_next_available_stream_id()
        sends = call["sends"]
        head = {":method": "GET" if sends == "nothing" else "POST", ":scheme": "http", ":authority": self.to,
                ":path": call["path"], **call["headers"]}
        self.conn.send_headers(stream, list(head.items()), end_stream=sends == "nothing")
        if sends != "nothing":
            self.conn.send_data(stream, MESSAGE[:4])
        seen = {"data": 0, "ended": False}
        unread = 0
        while True:
            # As much as there is room for; each piece that is read makes room for another.
            while sends == "all":
                room = min(self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size)
                if room == 0:
                    break
                self.conn.send_data(stream, bytes(room))
            self.sock.sendall(self.conn.data_to_send())
            data = self.sock.recv(65536)
            if not data:
                return {**seen, "error": "the connection is closed"}
            for event in self.conn.receive_data(data):
                if getattr(event, "stream_id", stream) != stream:
                    continue
                if isinstance(event, h2.events.ResponseReceived):
                    headers = dict(event.headers)
                    seen["status"] = int(headers[":status"])
                    seen["why"] = headers.get("x-deadline-exceeded")
                elif isinstance(event, h2.events.DataReceived):
                    seen["data"] += len(event.data)
                    if call["reads"]:
                        self.conn.acknowledge_received_data(event.flow_controlled_length, stream)
                    else:
                        unread += event.flow_controlled_length
                elif isinstance(event, h2.events.StreamEnded):
                    seen["ended"] = True
                    if sends == "nothing":
                        return seen
                    # The server says that it needs no more of it, or is told that there is no more.
                    sends = "nothing"
                elif isinstance(event, h2.events.StreamReset):
                    seen["rst"] = int(event.error_code)
                    if not seen["ended"]:
                        seen["error"] = f"RST_STREAM {seen['rst']}"
                    if unread:
                        self.conn.increment_flow_control_window(unread)
                    return seen


def calls(command):
    connection = Calls(command)
    seen = [connection.one(call) for call in command["calls"]]
    connection.sock.close()
    return {"seen": seen}


def version(_):
    import h2 as package

    return {"version": f"h2 {package.__version__}, Python {sys.version.split()[0]}"}


COMMANDS = {"serve": serve, "call": call, "calls": calls, "read": lambda _: {}, "version": version}


def obey(line):
    command = json.loads(line)
    try:
        answer = COMMANDS[command["do"]](command)
    except Exception as error:
        answer = {"error": repr(error)}
    say(id=command["id"], **answer)


for line in sys.stdin:
    threading.Thread(target=obey, args=(line,), daemon=True).start()
