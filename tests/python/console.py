"""A first proxy client: waits for texts on a VM's console, types the answers, prints it all.

usage: console.py HOST:PORT PKI_DIR VM WAIT [TYPE WAIT]...
  as:  console.py localhost:2223 pki demo 'login: ' root 'Password: ' console '# ' uptime '# '

Made ready by: pip install grpcio grpcio-tools
  python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. proto/vmconsole/v1/*.proto
"""
import os
import queue
import sys

import grpc
from vmconsole.v1 import console_service_pb2_grpc, stream_pb2

agent, pki, vm, *steps = sys.argv[1:]
ca, key, certificate = (open(f"{pki}/{name}", "rb").read() for name in ("ca.crt", "proxy.key", "proxy.crt"))
channel = grpc.secure_channel(agent, grpc.ssl_channel_credentials(ca, key, certificate))
service = console_service_pb2_grpc.ConsoleServiceStub(channel)

asks = queue.SimpleQueue()
ask = lambda **message: asks.put(stream_pb2.StreamConsoleRequest(**message))
ask(open=dict(console={"vm_name": vm}, mode="MODE_WRITE_IF_FREE", start={"tail_bytes": 65536}, output_window=65536))
said = b""
for told in service.StreamConsole(iter(asks.get, None)):
    if told.HasField("opened"):
        typed, epoch = told.opened.next_input_offset, told.opened.write_epoch
    elif told.HasField("output"):
        said += told.output.data
        os.write(1, told.output.data)
        told.output.position.offset += len(told.output.data)
        ask(output_ack={"position": told.output.position})
    while steps and steps[0].encode() in said:
        said = said.partition(steps.pop(0).encode())[2]
        if steps:
            line = steps.pop(0).encode() + b"\n"
            ask(input=dict(offset=typed, write_epoch=epoch, data=line))
            typed += len(line)
        if not steps:
            ask(detach={})
asks.put(None)
sys.exit(f"not seen: {steps[0]}" if steps else 0)
