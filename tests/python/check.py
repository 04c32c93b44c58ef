"""Checks an agent as a Python client sees it, and prints what it saw as JSON.

usage: check.py protos|reflection HOST:PORT PKI_DIR VM CONSOLE

Lists, watches until synced, attaches, logs in, and runs commands under a small output
window. It stops at the first promise of the interface that is not kept. "protos" uses what
grpc_tools made of the proto files; "reflection" knows of the interface only what the agent
itself tells.
"""
import json
import queue
import sys

import grpc

# For each call as a whole, in seconds; far more than any takes on an idle machine.
BOUND = 120
# The smallest that the agent takes, so that acknowledgements are needed.
WINDOW = 4096
# The agent waits for an acknowledgement after 1024 of them, however small.
FRAMES = 256
LAST_NUMBER = 3000
SERVICE = "vmconsole.v1.ConsoleService"
CALLS = ("ListConsoles", "WatchConsoles", "StreamConsole")


def from_protos(channel):
    """Each call and the class of its request, from generated modules."""
    from vmconsole.v1 import console_service_pb2, console_service_pb2_grpc, stream_pb2

    stub = console_service_pb2_grpc.ConsoleServiceStub(channel)
    requests = (
        console_service_pb2.ListConsolesRequest,
        console_service_pb2.WatchConsolesRequest,
        stream_pb2.StreamConsoleRequest,
    )
    return {name: (getattr(stub, name), request) for name, request in zip(CALLS, requests)}


def from_reflection(channel):
    """The same from what the agent tells of itself."""
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    told = ProtoReflectionDescriptorDatabase(channel)
    assert SERVICE in told.get_services(), told.get_services()
    calls = {}
    for method in DescriptorPool(told).FindServiceByName(SERVICE).methods:
        sides = ("stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming))
        request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        call = getattr(channel, "_".join(sides))(
            f"/{SERVICE}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        calls[method.name] = (call, request)
    assert "vmconsole" not in sys.modules
    return calls


def name_of(console):
    return f"{console.vm_name}/{console.alias}"


def enum_name(message, field):
    """The name of an enumeration's value, found without generated code."""
    return message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name


def list_consoles(call, request):
    consoles, token = [], ""
    while True:
        page = call(request(page_token=token, page_size=2), timeout=BOUND)
        consoles += [name_of(console) for console in page.consoles]
        token = page.next_page_token
        if not token:
            return consoles


def watch_until_synced(call, request, after=""):
    """The kinds of what was told, the consoles among it, and the version to go on after."""
    watch, kinds, consoles = call(request(after_version=after), timeout=BOUND), [], []
    for told in watch:
        kinds.append(told.WhichOneof("event"))
        if kinds[-1] == "synced":
            watch.cancel()
            return kinds, consoles, told.version
        if kinds[-1] == "changed":
            consoles.append(name_of(told.changed))
    raise AssertionError("the watch ended before it was synced")


def watch_and_go_on(call, request):
    """Every console, and that a version is gone on after if the agent knows it."""
    kinds, consoles, version = watch_until_synced(call, request)
    assert set(kinds) <= {"changed", "synced"} and version, (kinds, version)
    kinds, _, _ = watch_until_synced(call, request, version)
    assert "reset" not in kinds and len(kinds) <= len(consoles) + 1, kinds
    kinds, again, _ = watch_until_synced(call, request, "of another agent")
    assert kinds[0] == "reset" and sorted(again) == sorted(consoles), (kinds, again)
    return consoles


class Session:
    """A stream whose every position is held against the one before."""

    def __init__(self, call, request, vm, console):
        self._request, self._asks = request, queue.SimpleQueue()
        self._answers = call(iter(self._asks.get, None), timeout=BOUND)
        where = {"vm_name": vm, "alias": console}
        start = {"tail_bytes": 1 << 20}
        self.ask(open=dict(console=where, mode="MODE_WRITE_IF_FREE", start=start, output_window=WINDOW))
        first = next(self._answers)
        assert first.HasField("opened"), first
        self.opened = first.opened
        self.generation = self.opened.position.generation
        self.next = self.acknowledged = self.opened.position.offset
        self.typed = self.opened.next_input_offset
        self.taken = self.typed
        self.said, self.received, self.frames, self.acks = b"", 0, 0, 0
        self.closed = None

    def ask(self, **message):
        self._asks.put(self._request(**message))

    def type(self, text):
        data = text.encode()
        self.ask(input=dict(offset=self.typed, write_epoch=self.opened.write_epoch, data=data))
        self.typed += len(data)

    def wait(self, text):
        """Everything up to `text`; what follows stays for the next wait."""
        while text not in self.said:
            assert self.step(), f"the stream ended before {text!r}, after {self.said[-2048:]!r}"
        before, _, self.said = self.said.partition(text)
        return before

    def step(self):
        told = next(self._answers, None)
        if told is None:
            return False
        assert self.closed is None, f"{told} came after Closed"
        kind = told.WhichOneof("message")
        if kind == "output":
            self._output(told.output)
        elif kind == "input_ack":
            assert self.taken <= told.input_ack.offset <= self.typed, told
            self.taken = told.input_ack.offset
        elif kind == "closed":
            self.closed = told.closed
        assert kind not in ("opened", "gap", "generation_started", "input_refused"), told
        return True

    def _output(self, output):
        position = output.position
        assert (position.generation, position.offset) == (self.generation, self.next), f"a seam: {position} at {self.next}"
        assert 1 <= len(output.data) <= 65536
        self.next += len(output.data)
        assert self.next - self.acknowledged <= WINDOW, "more than the window"
        self.said += output.data
        self.received += len(output.data)
        self.frames += 1
        if self.next - self.acknowledged >= WINDOW // 2 or self.frames >= FRAMES:
            self.ask(output_ack={"position": {"generation": self.generation, "offset": self.next}})
            self.acknowledged, self.frames = self.next, 0
            self.acks += 1

    def leave(self):
        self.ask(detach={})
        while self.step():
            pass
        self._asks.put(None)
        assert self._answers.code() == grpc.StatusCode.OK, self._answers
        assert (self.closed.resume.generation, self.closed.resume.offset) == (self.generation, self.next)
        return enum_name(self.closed, "reason")


def log_in_and_count(session):
    """Logs in, asks who is there, and lets the guest count; returns what it said it is."""
    for text, answer in ((b"login: ", "root\n"), (b"Password: ", "console\n"), (b"# ", "uname -a; echo en''d\n")):
        session.wait(text)
        session.type(answer)
    # The echo has the quotes, the output does not.
    uname = session.wait(b"end\r\n").split(b"\r\n")[-2]
    session.wait(b"# ")
    session.type(f"seq 1 {LAST_NUMBER}; echo en''d\n")
    session.wait(b"en''d\r\n")
    counted = session.wait(b"end\r\n").split()
    assert counted == [b"%d" % number for number in range(1, LAST_NUMBER + 1)], counted
    session.wait(b"# ")
    assert session.taken == session.typed, "input that was acted on is acknowledged"
    return uname.decode()


def main(made_from, agent, pki, vm, console):
    ca, key, certificate = (open(f"{pki}/{name}", "rb").read() for name in ("ca.crt", "proxy.key", "proxy.crt"))
    with grpc.secure_channel(agent, grpc.ssl_channel_credentials(ca, key, certificate)) as channel:
        calls = {"protos": from_protos, "reflection": from_reflection}[made_from](channel)
        seen = {
            "listed": list_consoles(*calls["ListConsoles"]),
            "watched": watch_and_go_on(*calls["WatchConsoles"]),
        }
        session = Session(*calls["StreamConsole"], vm, console)
        seen["mode"] = enum_name(session.opened, "mode")
        seen["uname"] = log_in_and_count(session)
        seen["closed"] = session.leave()
        seen["received"], seen["acks"] = session.received, session.acks
    json.dump(seen, sys.stdout)


main(*sys.argv[1:])
