# Written by `ast apply` for one run of ansible-playbook, and gone with it.
#
# Commands are handed to the `ast` that started the run, which carries each out inside the working copy. There is no way to the machine itself.
# One connection carries one command: length and text of the command, length and bytes of its input; back come its status, its output, its
# errors, each with its length (all numbers: four bytes, the highest first).

import os
import shlex
import socket
import struct

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
    name: ast_copy
    short_description: Run tasks inside the working copy of `ast apply`
    description:
        - Commands and files go to the working copy that C(ast apply) has made.
    author: ast
    version_added: "1.0"
    extends_documentation_fragment:
        - connection_pipelining
    options: {}
"""

# Below what the other side keeps of a command's output.
CHUNK = 512 * 1024


class Connection(ConnectionBase):
    transport = "ast_copy"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def close(self):
        self._connected = False

    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._ask(cmd, in_data or b"")

    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        with open(in_path, "rb") as file:
            self._sure("cat > " + shlex.quote(out_path), file.read())

    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        with open(out_path, "wb") as file:
            number = 0
            while True:
                part = self._sure(f"dd bs={CHUNK} count=1 skip={number} status=none if=" + shlex.quote(in_path), b"")
                file.write(part)
                number += 1
                if len(part) < CHUNK:
                    return

    def _sure(self, command, data):
        status, out, err = self._ask(command, data)
        if status != 0:
            raise AnsibleConnectionFailure(f"{command}: {err.decode(errors='replace')}")
        return out

    def _ask(self, command, data):
        # By way of the directory: the path of the socket may be longer than an address can be.
        directory = os.open(os.environ["AST_APPLY"], os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to:
                to.connect(f"/proc/self/fd/{directory}/socket")
                for part in (command.encode() if isinstance(command, str) else command, data):
                    to.sendall(struct.pack(">I", len(part)) + part)
                with to.makefile("rb") as answer:
                    (status,) = struct.unpack(">i", self._take(answer, 4))
                    out, err = (self._take(answer, struct.unpack(">I", self._take(answer, 4))[0]) for _ in range(2))
        finally:
            os.close(directory)
        return status, out, err

    def _take(self, answer, count):
        part = answer.read(count)
        if len(part) != count:
            raise AnsibleConnectionFailure("ast has ended this run")
        return part
