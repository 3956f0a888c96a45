"""Python's http.client: calls one after the other, on one connection as long as there is one."""

import http.client
import json
import select
import sys
import threading

lock = threading.Lock()
may_read = threading.Event()


def say(**line):
    with lock:
        print(json.dumps(line), flush=True)


def ask(connection, call):
    # As urllib3 does: one that the server has closed isn't used again.
    if connection.sock and select.select([connection.sock], [], [], 0)[0]:
        connection.close()
    sends = call["sends"]
    connection.putrequest("GET" if sends == "nothing" else "POST", call["path"])
    for name, value in call["headers"].items():
        connection.putheader(name, value)
    if sends != "nothing":
        connection.putheader("transfer-encoding", "chunked")
    connection.endheaders()
    if sends != "nothing":
        connection.send(b"4\r\nhalf\r\n")
    try:
        while sends == "all":
            connection.send(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
    except OSError:
        # As urllib3 does: what the server has said before may be there.
        pass
    return connection.getresponse()


def end(connection, call):
    """There is no more of the upload, if the server keeps the connection."""
    try:
        if call["sends"] != "nothing" and connection.sock:
            connection.send(b"0\r\n\r\n")
    except OSError:
        pass


def one(connection, call):
    seen = {"data": 0, "ended": False}
    try:
        answer = ask(connection, call)
        seen["status"] = answer.status
        seen["why"] = answer.getheader("x-deadline-exceeded")
        if not call["reads"]:
            may_read.wait()
        while piece := answer.read1(1 << 16):
            seen["data"] += len(piece)
        # By pieces, what is missing is no error.
        seen["ended"] = not answer.length
        if answer.length:
            seen["error"] = f"{answer.length} bytes less"
        # By pieces, it doesn't notice that it is at its end.
        answer.close()
        end(connection, call)
    except (http.client.HTTPException, OSError) as error:
        seen["error"] = type(error).__name__
    return seen


def calls(command):
    host, port = command["to"].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    seen = []
    for call in command["calls"]:
        seen.append(one(connection, call))
        if "error" in seen[-1]:
            connection.close()
    connection.close()
    return {"seen": seen}


def read(_):
    may_read.set()
    return {}


def version(_):
    return {"version": f"Python {sys.version.split()[0]}"}


COMMANDS = {"calls": calls, "read": read, "version": version}


def obey(line):
    command = json.loads(line)
    try:
        answer = COMMANDS[command["do"]](command)
    except Exception as error:
        answer = {"error": repr(error)}
    say(id=command["id"], **answer)


for line in sys.stdin:
    threading.Thread(target=obey, args=(line,), daemon=True).start()
